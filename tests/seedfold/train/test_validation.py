import dataclasses
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning import Trainer

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.features import collate
from seedfold.train.accuracy import lddt_by_kind
from seedfold.train.data import Batch
from seedfold.train.module import FoldingModule
from seedfold.train.sources import ValidationConfig
from seedfold.train.tables import Table
from seedfold.train.validation import (
    SEED,
    HeldOut,
    Mean,
    Row,
    Validation,
    averaged,
    best,
    means_of,
)

INPUTS = FeatureOptions()


def cut(example, name: str, n_token: int):
    """The first residues of the protein are known, the rest is not; every example of other size."""
    resolved = example.resolved & (example.tokens.atom_to_token < n_token)
    return dataclasses.replace(example, id=name, resolved=resolved)


@pytest.fixture
def folder(example, make_set) -> str:
    names = {"a": 117, "b": 90, "c": 60, "d": 30}
    return make_set([cut(example, name, n) for name, n in names.items()]).folder


@pytest.fixture
def module(make_config) -> FoldingModule:
    torch.manual_seed(0)
    config = make_config()
    return FoldingModule(config.model, config.stage, config.optim)


def validation(folder, tmp_path, say=print, **options) -> Validation:
    config = ValidationConfig(**{"folder": str(folder), "n_examples": 3, **options})
    return Validation(config, INPUTS, every=2, folder=tmp_path, say=say)


@pytest.fixture
def guessing(module, monkeypatch) -> FoldingModule:
    """A network whose predictions are the truth, a little off."""

    def predict(f, **_options):
        noise = torch.randn(f.labels.x.shape, generator=torch.Generator().manual_seed(f.n_atom))
        yield SimpleNamespace(x=(f.labels.x + noise)[:, None])

    monkeypatch.setattr(module.network, "predict", predict)
    return module


def test_rows_are_those_of_the_averaged_network(folder, module, tmp_path):
    """Predicted here in other words; the weights outside of the average are spoiled."""
    for weight in module.network.parameters():
        weight.data = torch.full_like(weight, torch.nan)
    module.network.train()
    checked = validation(folder, tmp_path, n_steps=20, n_examples=1)
    checked.validate(module, 4)
    assert module.network.training
    rows = {row.kind: row for row in checked.rows.read()}
    part = checked.held_out.part(0)
    with averaged(module):
        options = {"seed": SEED, "n_samples": 1, "n_steps": 20}
        (sample,) = module.network.predict(collate([part.f]), **options)
    assert all(bool(weight.isnan().all()) for weight in module.network.parameters())
    expected = lddt_by_kind(sample.x[0, 0], part.f.labels, part.f)["protein"]
    # Side chains are named to the advantage of the prediction.
    assert rows["protein"].lddt == pytest.approx(expected, abs=0.01) and expected > 0.05


def test_means_are_those_of_the_rows(folder, guessing, tmp_path):
    said: list[str] = []
    checked = validation(folder, tmp_path, said.append)
    means = checked.validate(guessing, 4)
    rows = Table(tmp_path / "validation_examples.csv", Row).read()
    assert len({row.example for row in rows}) == 3
    assert Table(tmp_path / "validation.csv", Mean).read() == means
    kinds = {mean.kind: mean for mean in means}
    assert kinds["protein"].n == 3 and kinds.keys() == {row.kind for row in rows}
    for mean in means:
        values = [row.lddt for row in rows if row.kind == mean.kind]
        assert (mean.step, mean.n) == (4, len(values)) and 0.3 < mean.mean < 0.95
        assert mean.mean == pytest.approx(np.mean(values))
    whole = kinds["complex"].mean
    assert said[-1].startswith(f"validation at step 4: lDDT {whole:.3f} (the best so far) of 3 exa")


def test_ranks_share_the_examples(folder, guessing, tmp_path):
    def rows(step: int, rank: int, world_size: int) -> list[Row]:
        found, failed = validation(folder, tmp_path)._predicted(guessing, step, rank, world_size)
        assert not failed
        return found

    whole, parts = rows(1, 0, 1), [rows(1, rank, 2) for rank in range(2)]
    assert parts[0] and parts[1]
    key = lambda row: (row.example, row.kind)  # noqa: E731
    assert sorted(parts[0] + parts[1], key=key) == sorted(whole, key=key)


def test_the_choice_is_always_the_same_and_the_largest_come_first(folder, example, make_set):
    config = ValidationConfig(folder=folder, n_examples=2)
    one, other = HeldOut(config, INPUTS), HeldOut(config, INPUTS)
    assert one.units == other.units and len(one) == 2
    assert HeldOut(dataclasses.replace(config, n_examples=0), INPUTS).units == [0, 1, 2, 3]
    assert one.part(0).f.n_token == example.n_token, "an example is predicted as a whole"


def test_what_cannot_be_validated_is_told(folder, tmp_path):
    with pytest.raises(InputError, match=r"data\.validation\.folder: no finished data set in"):
        validation(tmp_path / "none", tmp_path)
    with pytest.raises(InputError, match=r"at most 100 tokens; expected max_tokens of 117 or more"):
        validation(folder, tmp_path, max_tokens=100)


def test_one_example_that_fails_is_told_and_left_out(folder, guessing, tmp_path, damage, source):
    said: list[str] = []
    checked = validation(folder, tmp_path, said.append)
    bad = checked.held_out.units[1]
    damage(dataclasses.replace(source, folder=folder), bad)
    means = checked.validate(guessing, 2)
    assert {mean.n for mean in means if mean.kind == "complex"} == {2}
    assert said[0].startswith(f"validation: {'abcd'[bad]} failed: ") and "checksum" in said[0]
    assert "of 2 examples" in said[1]


def trainer_at(step: int) -> Mock:
    return Mock(
        spec=Trainer,
        global_step=step,
        max_steps=5,
        is_global_zero=True,
        global_rank=0,
        world_size=1,
        accumulate_grad_batches=1,
    )


def test_it_is_done_every_some_steps_and_at_the_end(folder, module, tmp_path):
    checked, batch, done = validation(folder, tmp_path), Mock(spec=Batch), []
    checked.validate = lambda module, step, rank, world_size: done.append(step)
    for step in range(1, 6):
        checked.on_train_batch_end(trainer_at(step), module, None, batch, step - 1)
    assert done == [2, 4, 5]


def row(step: int, example: str, kind: str, lddt: float) -> Row:
    return Row(step=step, example=example, n_token=9, kind=kind, lddt=lddt)


def test_a_resumed_run_drops_later_rows(folder, module, tmp_path):
    checked = validation(folder, tmp_path)
    for step in (2, 4):
        rows = [row(step, "a", "complex", step / 10)]
        checked.rows.append(rows)
        checked.means.append(means_of(rows))
    checked.on_train_start(trainer_at(3), module)
    assert [r.step for r in checked.rows.read()] == [r.step for r in checked.means.read()] == [2]


def test_means_and_the_best_by_hand():
    rows = [row(1, "a", "complex", 0.2), row(1, "a", "rna", 0.9), row(1, "b", "complex", 0.5)]
    means = means_of(rows)
    assert [(m.kind, m.mean, m.n) for m in means] == [("complex", 0.35, 2), ("rna", 0.9, 1)]
    means += means_of([row(2, "a", "complex", 0.4)]) + means_of([row(3, "a", "complex", 0.4)])
    assert best(means).step == 2
