import dataclasses
import gzip
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.alignments import read_msa
from seedfold.data_pipeline.examples import training_set as training_set_module
from seedfold.data_pipeline.examples.crop import METHODS
from seedfold.data_pipeline.examples.keyed_store import write_store
from seedfold.data_pipeline.examples.manifest import read_manifest
from seedfold.data_pipeline.examples.msa_store import msa_key, pack_msa
from seedfold.data_pipeline.examples.training_set import TrainingSet, letters
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.features import Features
from seedfold.data_pipeline.prepare.clusters import ClusterOptions
from seedfold.data_pipeline.prepare.entry import PdbRecipe
from seedfold.data_pipeline.prepare.filters import Filters
from seedfold.data_pipeline.prepare.finish import Finish
from seedfold.data_pipeline.prepare.run import Request, SourceItems, prepare
from seedfold.data_pipeline.prepare.sources import Source
from seedfold.data_pipeline.query import Document

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    raw, output = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("sets") / "set"
    shutil.copy(DATA / "7w06_part.cif", raw / "part.cif")
    (raw / "again.cif.gz").write_bytes(gzip.compress((DATA / "7w06_part.cif").read_bytes()))
    request = Request(
        output=output,
        items=SourceItems([Source(path=raw)]),
        recipe=PdbRecipe(filters=Filters(released_before=None)),
        settings={},
        finish=Finish(clusters=ClusterOptions(method="exact")),
    )
    prepare(request)
    rows = read_manifest(output).chains.to_pylist()
    sequence = next(row["sequence"] for row in rows if row["kind"] == "protein")
    text = f">q\n{sequence}\n>x OX=9606\n{'-' * 5 + sequence[5:]}\n"
    msa = read_msa(Document(name="q", text=text), sequence, "protein")
    write_store(output / "msas", [(msa_key("protein", sequence), pack_msa(msa))])
    return output


@pytest.fixture(scope="module")
def training_set(folder) -> TrainingSet:
    return TrainingSet(folder, options=FeatureOptions(n_templates=2))


def equal(a: Features, b: Features) -> bool:
    same = all(torch.equal(getattr(a, name), getattr(b, name)) for name in Features.axes())
    assert a.labels is not None and b.labels is not None
    return same and torch.equal(a.labels.x, b.labels.x)


def test_sequences_of_examples_are_those_of_the_manifest(folder, training_set):
    rows = read_manifest(folder).chains.to_pylist()
    example = training_set.example(training_set.index[0])
    for chain, row in zip(example.chains, rows, strict=False):
        if chain.kind != "ligand":
            assert letters(example, chain) == row["sequence"]


def test_crops_hold_the_budget_and_have_labels(training_set):
    for unit in range(len(training_set.index)):
        f = training_set.features(unit, n_token=24, seed=unit)
        assert f.n_token <= 24 and f.labels is not None
        assert f.labels.x.shape == (f.n_atom, 3) and f.labels.resolved.any()
        assert f.template_restype.shape[0] == 2


def test_a_seed_decides_crop_and_motion(training_set):
    one = training_set.features(0, n_token=24, seed=5)
    assert equal(one, training_set.features(0, n_token=24, seed=5))
    others = [training_set.features(0, n_token=24, seed=s) for s in range(6, 12)]
    assert not any(equal(one, other) for other in others)


def test_alignments_come_from_the_store(training_set):
    f = training_set.features(0, n_token=10_000, seed=0)
    assert f.msa.shape[0] == 3  # The query stands in the paired block too.
    protein = f.kind == 0
    assert (f.msa[-1, protein][:5] == 31).all() and (f.msa[-1, protein][5:9] != 31).all()


def test_it_travels_to_workers(training_set):
    again = pickle.loads(pickle.dumps(training_set))
    a, b = (t.features(0, n_token=24, seed=1) for t in (training_set, again))
    assert equal(a, b)


def test_predicted_structures_are_cropped_in_their_own_way(training_set, monkeypatch):
    """Unless the caller has decided."""
    taken = []

    def noted(example, n_token, rng, *, chains, methods):
        taken.append(methods)
        return np.arange(5)

    monkeypatch.setattr(training_set_module, "crop", noted)
    example = training_set.example(training_set.index[0])
    predicted = dataclasses.replace(example, plddt=np.full(example.n_token, 90, np.float32))
    mine = {"contiguous": 1.0, "spatial": 0.0, "interface": 0.0}
    for found, methods in ((example, None), (predicted, None), (predicted, mine)):
        data = TrainingSet(training_set.folder, methods=methods)
        monkeypatch.setattr(data, "example", lambda record, found=found: found)
        data.features(0, n_token=5, seed=0)
    assert taken == [METHODS, {"contiguous": 0.25, "spatial": 0.75, "interface": 0.0}, mine]


def test_a_record_has_a_name_without_being_read(training_set, tmp_path):
    for unit in range(len(training_set.index)):
        record = training_set.index[unit]
        assert training_set.name(record) == training_set.example(record).id
    shutil.copytree(training_set.folder, tmp_path / "set")
    (tmp_path / "set" / record.shard.name).unlink()
    assert TrainingSet(tmp_path / "set").name(record) == f"{record.shard.name} at {record.offset}"


def test_damage_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "set")
    damaged = TrainingSet(tmp_path / "set")
    record = damaged.index[0]
    path = tmp_path / "set" / record.shard.name
    data = bytearray(path.read_bytes())
    data[record.offset + record.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"unit-00000\.tar: (part|again)"):
        damaged.features(0, n_token=24, seed=0)
    assert np.isfinite(damaged.index.cumulative_weight).all()
