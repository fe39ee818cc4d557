import shutil
from pathlib import Path

import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.manifest import read_manifest
from seedfold.data_pipeline.prepare.clusters import ClusterOptions
from seedfold.data_pipeline.prepare.engine import Engine
from seedfold.data_pipeline.prepare.finish import Finish
from seedfold.data_pipeline.prepare.run import SourceItems, join, prepare
from seedfold.data_pipeline.prepare.sources import Source


def files(folder: Path) -> dict[str, bytes]:
    """All results by name; the summary tells the time used."""
    kept = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "summary.html")
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}


def test_every_item_is_an_example_or_a_row_of_failures(made):
    folder, outcome = made
    manifest = read_manifest(folder)
    assert manifest.examples["id"].to_pylist() == ["7w06", "copy", "tiny"]
    failures = {(f["id"], f["stage"]) for f in manifest.failures.to_pylist()}
    assert failures == {("cut.cif.gz", "read"), ("empty.cif", "read")}
    assert outcome.counts["examples"] == 3 and outcome.counts["failures"] == 2
    assert outcome.waiting == 0 and outcome.counts["done"] == 3
    assert (folder / "summary.html").stat().st_size > 1000
    assert "items       5" in outcome.text


def test_a_second_run_does_nothing_and_changes_nothing(made, raw_folder, tmp_path, request_for):
    folder, _ = made
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    before = files(again)
    outcome = prepare(request_for(raw_folder, again))
    assert outcome.counts == {"already": 3}
    assert files(again) == before


def test_parts_make_the_same_data_set_as_one_run(made, raw_folder, tmp_path, request_for):
    folder, _ = made
    parts = tmp_path / "parts"
    for i in (2, 1):
        outcome = prepare(request_for(raw_folder, parts, engine=Engine(part=(i, 2))))
        assert outcome.waiting == {2: 2, 1: 0}[i]
        assert (outcome.data_set is None) == bool(outcome.waiting)
    assert files(parts) == files(folder)


def test_another_question_is_not_answered_from_old_results(made, raw_folder, tmp_path, request_for):
    folder, _ = made
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    with pytest.raises(InputError, match="recipe pdb -> other"):
        prepare(request_for(raw_folder, again, settings={"recipe": "other"}))
    (tmp_path / "one").mkdir()
    shutil.copy(raw_folder / "tiny.cif", tmp_path / "one")
    with pytest.raises(InputError, match="the list of items"):
        prepare(request_for(tmp_path / "one", again))


def test_missing_mmseqs_is_told_before_any_work(raw_folder, tmp_path, request_for):
    finish = Finish(clusters=ClusterOptions(binary="no-such-mmseqs"))
    with pytest.raises(InputError, match="--clusters exact"):
        prepare(request_for(raw_folder, tmp_path / "out", finish=finish))
    assert not (tmp_path / "out").exists()


def test_a_set_without_examples_still_says_why(raw_folder, tmp_path, request_for):
    (tmp_path / "bad").mkdir()
    shutil.copy(raw_folder / "empty.cif", tmp_path / "bad")
    outcome = prepare(request_for(tmp_path / "bad", tmp_path / "out"))
    assert outcome.data_set is not None
    assert outcome.data_set.manifest.failures.num_rows == 1
    assert not (tmp_path / "out" / "index").exists()
    assert "the file is empty" in (tmp_path / "out" / "summary.html").read_text()


def test_items_of_several_sources_come_once(raw_folder, tmp_path, request_for):
    (tmp_path / "more").mkdir()
    shutil.copy(raw_folder / "tiny.cif", tmp_path / "more" / "tiny.cif")
    more = Source(path=tmp_path / "more")
    assert len(list(SourceItems([Source(path=raw_folder), more]))) == 5
    items = SourceItems([Source(path=raw_folder / "tiny.cif"), more])
    for _ in range(2):
        assert len(list(items)) == 1
        assert [d.item for d in items.duplicates] == [str(tmp_path / "more" / "tiny.cif")]
    said: list[str] = []
    prepare(request_for(raw_folder, tmp_path / "out", items=items), say=said.append)
    assert any("has the same id" in line for line in said)


def test_joining_again_changes_nothing(made, tmp_path):
    folder, _ = made
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    join(again, Finish(clusters=ClusterOptions(method="exact")))
    assert files(again) == files(folder)
