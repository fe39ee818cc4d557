"""The index against the rows it was made of, and damaged or missing ones."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.index import ExampleColumns, Index, build_index
from seedfold.data_pipeline.examples.shards import Member, Shard
from seedfold.data_pipeline.examples.weights import SamplingUnits, example_units

SHARDS = (
    Shard(name="unit-00000.tar", checksum="a", components=Member(offset=512, size=5, crc32=1)),
    Shard(name="unit-00001.tar", checksum="b"),
)
EXAMPLES = ExampleColumns(
    shards=SHARDS,
    shard=np.array([0, 0, 1]),
    offset=np.array([1024, 2**41 - 512, 512]),
    size=np.array([10, 2**32 - 1, 30]),
    crc32=np.array([2**32 - 1, 0, 3]),
    n_token=np.array([100, 70_000, 300]),
)
UNITS = SamplingUnits(
    example=np.array([0, 0, 1, 2], np.uint32),
    n_chains=np.array([1, 2, 2, 1], np.uint8),
    chain_1=np.array([0, 0, 65_535, 2], np.uint16),
    chain_2=np.array([0, 1, 3, 0], np.uint16),
    weight=np.array([1.0, 0.0, 2.0, 5.0]),
)


@pytest.fixture
def folder(tmp_path):
    return build_index(tmp_path / "index", EXAMPLES, UNITS, manifest_hash="abc")


def test_records(folder):
    index = Index.open(folder)
    assert (len(index), index.n_example, index.manifest_hash) == (4, 3, "abc")
    assert index.shards == SHARDS
    record = index[2]
    assert (record.example, record.chains, record.n_token) == (1, (65_535, 3), 70_000)
    assert (record.shard, record.offset) == (SHARDS[0], 2**41 - 512)
    assert (record.size, record.crc32) == (2**32 - 1, 0)
    assert index[3].chains == (2,) and index[3].shard is index.shards[1]
    assert index[0].crc32 == 2**32 - 1
    assert index.n_token.tolist() == [100, 70_000, 300]
    assert index.first_units().tolist() == [0, 2, 3]


def test_picks_are_the_inverse_of_the_cumulative_weight(folder):
    """Weights 1, 0, 2, 5: borders at 1/8 and 3/8; the unit of weight 0 is never picked."""
    index = Index.open(folder)
    at = np.array([0, 0.1249, 0.125, 0.3749, 0.375, 1 - 2.0**-53])
    assert index.pick(at).tolist() == [0, 0, 2, 2, 3, 3]


@pytest.mark.parametrize("total", [3.0, 7.7, 1.0, 1e-300, 2.0**40 + 1])
def test_the_last_fraction_stays_inside(tmp_path, total):
    units = SamplingUnits(
        example=np.zeros(3, np.uint32),
        n_chains=np.ones(3, np.uint8),
        chain_1=np.zeros(3, np.uint16),
        chain_2=np.zeros(3, np.uint16),
        weight=np.array([total / 3, total, 0.0]),
    )
    index = Index.open(build_index(tmp_path / "i", EXAMPLES, units, manifest_hash=""))
    assert index.pick(np.array([1 - 2.0**-53])).tolist() == [1]


def test_columns_are_mapped_and_small(folder):
    index = Index.open(folder)
    assert isinstance(index.cumulative_weight, np.memmap)
    assert not index.cumulative_weight.flags.writeable
    big = 1000
    names = ("shard", "offset", "size", "crc32", "n_token")
    examples = ExampleColumns(shards=SHARDS, **{name: np.zeros(big, int) for name in names})
    build_index(folder.parent / "big", examples, example_units(big), manifest_hash="")
    size = sum(p.stat().st_size for p in (folder.parent / "big").glob("*.npy"))
    assert size == 37 * big + 10 * 128  # the header of an .npy file is 128 bytes


def test_an_index_is_opened_anew_in_another_process(folder):
    data = pickle.dumps(Index.open(folder))
    assert len(data) < 500
    assert pickle.loads(data)[2] == Index.open(folder)[2]


def test_equal_input_gives_equal_bytes(folder):
    other = build_index(folder.parent / "other", EXAMPLES, UNITS, manifest_hash="abc")
    for path in sorted(folder.iterdir()):
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_a_new_index_replaces_the_old_one(folder):
    old = Index.open(folder)
    build_index(folder, EXAMPLES, example_units(3), manifest_hash="new")
    assert (len(Index.open(folder)), Index.open(folder).manifest_hash) == (3, "new")
    assert old[3].chains == (2,)  # a reader that has it open keeps it
    assert [p.name for p in folder.parent.iterdir()] == ["index"]


def test_a_full_disk_leaves_the_old_index(folder, monkeypatch):
    def full(path, column, **kwargs):
        if "cumulative" in str(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        build_index(folder, EXAMPLES, UNITS, manifest_hash="new")
    assert Index.open(folder).manifest_hash == "abc"
    assert [p.name for p in folder.parent.iterdir()] == ["index"]


@pytest.mark.parametrize("weight", [[0.0] * 4, [1, -1, 1, 1], [np.nan] * 4, [np.inf] * 4])
def test_weights_that_no_one_can_draw_from(tmp_path, weight):
    fields = {**vars(UNITS), "weight": np.array(weight, np.float64)}
    with pytest.raises(InputError, match="4 sampling units"):
        build_index(tmp_path / "i", EXAMPLES, SamplingUnits(**fields), manifest_hash="")
    assert not list(tmp_path.iterdir())


def test_no_units(tmp_path):
    with pytest.raises(InputError, match="0 sampling units"):
        build_index(tmp_path / "i", EXAMPLES, example_units(0), manifest_hash="")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "index.json").unlink(), "no file index.json"),
        (lambda f: (f / "unit_chain_1.npy").unlink(), "no file unit_chain_1.npy"),
        (lambda f: (f / "index.json").write_text("{"), "index.json cannot be read"),
        (lambda f: (f / "index.json").write_text("{}"), "index.json cannot be read"),
        (lambda f: (f / "unit_chain_1.npy").write_bytes(b""), "unit_chain_1.npy cannot be read"),
        (
            lambda f: (f / "example_size.npy").write_bytes(
                (f / "example_size.npy").read_bytes()[:-4]
            ),
            "example_size.npy cannot be read",
        ),
        (lambda f: np.save(f / "example_size.npy", np.zeros(3)), "float64"),
        (lambda f: np.save(f / "example_size.npy", np.zeros(2, np.uint32)), r"\(2,\)"),
        (
            lambda f: np.save(f / "example_size.npy", np.array([{}] * 3), allow_pickle=True),
            "cannot be read",
        ),
    ],
)
def test_a_damaged_index_is_named(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=rf"index: .*{message}"):
        Index.open(folder)


def test_an_index_of_another_format(folder):
    about = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**about, "format": 2}))
    with pytest.raises(InputError, match="format 2; expected format 1"):
        Index.open(folder)


def test_what_training_imports_is_small():
    """Index, sampler, shards: no pyarrow, no chemistry, no torch; fsspec only for a store."""
    code = (
        "import sys; import seedfold.data_pipeline.examples.sampler,"
        "seedfold.data_pipeline.examples.shards, seedfold.data_pipeline.examples.rows;"
        "print(*sorted({'pyarrow','gemmi','biotite','rdkit','Bio','fsspec','pandas'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
