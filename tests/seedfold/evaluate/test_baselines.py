"""Random walks on disk: found and ranked as a program's, resumable, whole."""

import json

import gemmi
import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.evaluate.baselines import (
    NOTE,
    n_tokens,
    random_walk_set,
    structure_of,
    write_random_walks,
)
from seedfold.evaluate.predictions import find_predictions


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "one.fasta"
    path.write_text(">A|protein\nGSHMKTAY\n")
    return path


def test_they_are_found_as_predictions(source, tmp_path):
    structure, out = structure_of(source), tmp_path / "out"
    assert n_tokens(structure) == 8
    write_random_walks(structure, "one", out / "one", (1, 2))
    found = find_predictions(out, ["one"]).predictions
    assert [(p.pdb_id, p.sample, p.ranking_score) for p in found] == [
        ("one", 0, 0.0),
        ("one", 1, 0.0),
    ]
    assert sorted(p.name for p in out.iterdir()) == ["one"]
    read = [gemmi.read_structure(str(p.path)) for p in found]
    assert [len(s[0]["A"]) for s in read] == [8, 8]
    positions = [[tuple(a.atom.pos) for a in s[0].all()] for s in read]
    assert positions[0] != positions[1]
    for k in (0, 1):
        report = json.loads((out / f"one/one_stereochemistry_{k}.json").read_text())
        assert report["checks"]["bond_lengths"] == {"checked": 56, "outliers": 0}
        assert NOTE in (out / f"one/one_model_{k}.cif").read_text()


def test_what_is_there_is_kept_until_more_seeds_are_wanted(source, tmp_path):
    out = tmp_path / "one"
    write_random_walks(structure_of(source), "one", out, (1,))
    (out / "mark").touch()
    write_random_walks(structure_of(source), "one", out, (1,))
    assert (out / "mark").exists()
    write_random_walks(structure_of(source), "one", out, (1, 2))
    assert not (out / "mark").exists() and (out / "one_model_1.cif").is_file()


def test_one_that_fails_does_not_stop_the_others(source, tmp_path):
    def bad():
        raise InputError("bad", "is bad")

    structures = {"bad": bad, "one": lambda: structure_of(source)}
    failed = random_walk_set(structures, tmp_path / "out", (1,))
    assert list(failed) == ["bad"] and "is bad" in failed["bad"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["one"]


def test_a_file_of_several_inputs_is_refused(tmp_path):
    path = tmp_path / "two.json"
    job = {"version": 1, "sequences": [{"protein": {"id": "A", "sequence": "GG"}}]}
    path.write_text(json.dumps([{**job, "name": "a"}, {**job, "name": "b"}]))
    with pytest.raises(InputError):
        structure_of(path)
