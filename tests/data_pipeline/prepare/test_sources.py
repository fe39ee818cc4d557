"""Listing: against the standard library's own walk and against hand-made trees."""

import tracemalloc
from pathlib import Path

import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.mmcif import read_structure
from seedfold.data_pipeline.prepare.foldcomp_database import foldcomp_ids
from seedfold.data_pipeline.prepare.sources import (
    Duplicate,
    Source,
    item_document,
    item_id,
    split_entry,
    unique_items,
)

SHARED = Path(__file__).resolve().parents[3] / "../shared/data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no ../shared/data")
DATABASE = SHARED / "predicted/foldcomp_example_db"


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


MIRROR = ("ab/1abc.cif.gz", "ab/2abd.cif.gz", "zz/9zzz.cif.gz", "README", ".x.cif", "ab/notes.txt")


def names(source: Source) -> list[str]:
    return [str(Path(item).relative_to(source.path)) for item in source]


def test_a_mirror_is_listed_by_name(tmp_path):
    source = Source(path=tree(tmp_path, *reversed(MIRROR)))
    assert names(source) == ["ab/1abc.cif.gz", "ab/2abd.cif.gz", "zz/9zzz.cif.gz"]
    assert names(source) == names(source)


@needs_shared
def test_a_real_folder_has_the_files_that_pathlib_finds():
    items = list(Source(path=SHARED / "train"))
    assert items == sorted(str(p) for p in (SHARED / "train").glob("*.cif.gz"))
    assert len(items) == 1733


def test_all_endings_and_a_single_file(tmp_path):
    files = ["a.cif", "b.mmcif.gz", "c.pdb", "d.fcz", "pdb1xyz.ent.gz"]
    assert names(Source(path=tree(tmp_path, *files, "e.bcif", "f.txt.gz"))) == files
    assert list(Source(path=tmp_path / "c.pdb")) == [str(tmp_path / "c.pdb")]


def test_ids_of_a_list_are_found_in_a_mirror(tmp_path):
    tree(tmp_path, *MIRROR, "xy/pdb1xyz.ent.gz", "flat.cif")
    ids = tmp_path / "ids.txt"
    ids.write_text("# the test set\n9ZZZ, 1abc\n\n1xyz  flat # here\nab/2abd.cif.gz\n7mis")
    assert names(Source(path=tmp_path, ids=ids)) == [
        *("zz/9zzz.cif.gz", "ab/1abc.cif.gz", "xy/pdb1xyz.ent.gz", "flat.cif"),
        *("ab/2abd.cif.gz", "mi/7mis.cif.gz"),
    ]


def test_an_id_without_file_fails_when_it_is_read(tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("7mis")
    (item,) = Source(path=tmp_path, ids=ids)
    with pytest.raises(InputError, match=r"7mis\.cif\.gz: cannot be read"):
        read_structure(item_document(item))


@needs_shared
def test_a_database_and_a_list_of_its_entries(tmp_path):
    items = list(Source(path=DATABASE))
    assert [item_id(item) for item in items] == list(foldcomp_ids(DATABASE))
    assert items[0] == f"{DATABASE}::d1asha_#0"
    assert split_entry(items[0]) == (DATABASE, "d1asha_#0")
    ids = tmp_path / "ids.txt"
    ids.write_text("d3mkbb_\nd1asha_\n")
    assert list(Source(path=DATABASE, ids=ids)) == [
        f"{DATABASE}::d3mkbb_",
        f"{DATABASE}::d1asha_",
    ]


@pytest.mark.parametrize(
    ("item", "id"),
    [
        ("aa/1aab.cif.gz", "1aab"),
        ("/x/pdb1aab.ent.gz", "1aab"),
        ("pdbfold.pdb", "pdbfold"),
        ("AF-P12345-F1-model_v4.cif", "AF-P12345-F1-model_v4"),
        ("x.y.mmcif", "x.y"),
        ("/db/afdb::AF-P1-F1-model_v4.pdb.gz#77", "AF-P1-F1-model_v4"),
        ("/db/afdb::A#b", "A#b"),
        ("pdb_00001abc.cif.gz", "pdb_00001abc"),
    ],
)
def test_ids(item, id):
    assert item_id(item) == id


def test_duplicates_are_reported_and_the_first_is_kept(tmp_path):
    tree(tmp_path, "a/1abc.cif", "a/1abc.pdb", "b/1abc.cif.gz", "b/2abc.cif")
    duplicates: list[Duplicate] = []
    source = Source(path=tmp_path)
    kept = list(unique_items(source, duplicates))
    assert kept == [str(tmp_path / "a/1abc.cif"), str(tmp_path / "b/2abc.cif")]
    assert [(d.id, d.item, d.first) for d in duplicates] == [
        ("1abc", str(tmp_path / "a/1abc.pdb"), kept[0]),
        ("1abc", str(tmp_path / "b/1abc.cif.gz"), kept[0]),
    ]


class Many:
    """A source too large to hold: the items are made as they are asked for."""

    def __iter__(self):
        yield from (f"/models/{i % 100}/AF-{i:09d}-F1-model_v4.cif.gz" for i in range(5_000))
        yield "/other/AF-000000007-F1-model_v4.pdb"


def test_a_long_source_is_streamed():
    duplicates: list[Duplicate] = []
    tracemalloc.start()
    count = sum(1 for _ in unique_items(Many(), duplicates))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000
    assert [d.item for d in duplicates] == ["/other/AF-000000007-F1-model_v4.pdb"]
    assert peak < 40 * 5_000, "more than the hashes is held"


@pytest.mark.parametrize(
    ("path", "ids", "message"),
    [
        ("absent", None, "absent: there is no such file"),
        (".", "absent", "absent: there is no such list"),
        ("notes.txt", None, r"is not a structure file; expected files that end in \.cif"),
        ("a.cif", "ids.txt", "is a single file; expected a folder"),
        ("empty", None, "holds no structure files"),
        ("full", "empty.txt", "lists no ids"),
    ],
)
def test_bad_paths(tmp_path, path, ids, message):
    tree(tmp_path, "notes.txt", "a.cif", "ids.txt", "empty.txt", "full/a.cif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        list(Source(path=tmp_path / path, ids=tmp_path / ids if ids else None))
