import csv
import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from seedfold.data_pipeline.errors import InputError
from seedfold.models import load_model
from seedfold.train.data import Batch, Examples
from seedfold.train.run import train


def quiet(_line: str) -> None:
    pass


def with_trainer(config, **changes):
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, **changes))


def losses(config):
    """The table without the times and the lDDT."""
    others = ("seconds", "waited", "lddt", "mirrored", "tokens_per_second", "flops_per_second")
    with open(f"{config.run.folder}/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in r.items() if k not in others} for r in rows]


def tensors(config):
    """Weights and average at the end."""
    path = Path(config.run.folder, "checkpoints", f"step_{config.trainer.steps:08d}.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    return {**checkpoint["state_dict"], **checkpoint["seedfold"]["ema"]["weights"]}


def assert_same(one, other):
    """To the last bit."""
    assert losses(one) == losses(other) and len(losses(one)) == one.trainer.steps
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_resumed_run_is_the_uninterrupted_one(make_config):
    """Killed after step 3, when the last checkpoint was of step 2: step 3 is done again."""
    whole = make_config("whole", trainer={"accumulate": 2})
    train(whole, quiet)
    parts = make_config("parts", trainer={"accumulate": 2})
    train(with_trainer(parts, steps=3), quiet)
    (Path(parts.run.folder) / "checkpoints" / "step_00000003.ckpt").unlink()
    assert len(losses(parts)) == 3
    said = []
    train(parts, said.append)
    assert "going on with step_00000002.ckpt" in said
    assert_same(whole, parts)


def test_a_signal_saves_and_stops(make_config):
    """After step 1, for which no checkpoint is due; going on gives the run without a signal."""
    whole, stopped = make_config("whole"), make_config("stopped")
    train(whole, quiet)

    def kill(line: str) -> None:
        if line.startswith("step"):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    outcome = train(with_trainer(stopped, validate_every=1), kill)
    assert outcome.stopped_by == signal.SIGTERM and outcome.step == 1
    assert signal.getsignal(signal.SIGTERM) == before
    outcome = train(stopped, quiet)
    assert outcome.step == 4 and outcome.stopped_by is None
    assert_same(whole, stopped)


def test_the_exported_network_is_the_averaged_one(make_config):
    """What was sampled at the end is what `load_model` predicts."""
    config = make_config()
    outcome = train(config, quiet)
    model = load_model(str(outcome.weights))
    assert model.trained and model.name == "test" and model.network.config == config.model
    average = torch.load(
        Path(config.run.folder, "checkpoints", "step_00000004.ckpt"), weights_only=True
    )["seedfold"]["ema"]["weights"]
    own = model.network.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in average.items())
    f = Batch.of([Examples(config.data, config.run.seed)[(0, 0)]]).f
    samples = [s.x for s in model.network.predict(f, seed=config.run.seed, n_samples=5)]
    x, known = torch.cat(samples, 1)[0], f.labels.resolved[0]
    d, d_gt = (torch.cdist(p, p) for p in (x[:, known], f.labels.x[0][known]))
    near = (d_gt < 15) & ~torch.eye(len(d_gt), dtype=torch.bool)
    kept = sum(((d - d_gt).abs() < t).double() for t in (0.5, 1, 2, 4)) / 4
    expected = ((kept * near).sum(-1) / near.sum(-1)).mean(-1)
    assert list(outcome.sampled.lddt) == pytest.approx(expected.tolist(), abs=1e-4)


def test_another_run_is_not_overwritten(make_config):
    config = make_config(trainer={"steps": 1})
    train(config, quiet)
    other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, learning_rate=1e-4))
    with pytest.raises(InputError, match=r"holds a run with optim.learning_rate=0.003, not 0.0001"):
        train(other, quiet)
    stored = json.loads(Path(config.run.folder, "config.json").read_text())
    assert stored["optim"]["learning_rate"] == 0.003


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU")
def test_a_device_that_is_not_there_is_told(make_config):
    with pytest.raises(InputError, match=r"trainer: No supported gpu backend found"):
        train(make_config(trainer={"accelerator": "gpu"}), quiet)
