import dataclasses
import importlib.util
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from seedfold.data_pipeline.errors import InputError
from seedfold.train.curves import read_table
from seedfold.train.parallel import DataParallel, environment, make_strategy
from seedfold.train.run import train
from seedfold.train.sources import ValidationConfig

CHANGES = """
import os, signal
from seedfold.train.module import FoldingModule
own = FoldingModule.training_step
def training_step(self, batch, index):
    if self.trainer.global_rank == 1 and self.trainer.global_step == {step}:
        {action}
    return own(self, batch, index)
FoldingModule.training_step = training_step
"""
VALIDATED = {"validation": "mean", "validation_examples": "lddt"}
"""Tables of a validation, and the column of what was measured."""
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def quiet(_line: str) -> None:
    pass


def assert_same_run(one, other):
    """Losses of every step, weights and average, but for the order in which numbers are added."""
    tables = [read_table(Path(c.run.folder, "metrics.csv")) for c in (one, other)]
    assert len(tables[0]) == len(tables[1]) == one.trainer.steps
    for row, same in zip(*tables, strict=True):
        totals = [name for name in row if name.startswith("total")]  # Of each source too.
        for name in (*totals, "mse", "distogram", "gradient_norm"):
            assert float(same[name]) == pytest.approx(float(row[name]), rel=1e-5), (row, same)
        assert same["learning_rate"] == row["learning_rate"]
    checkpoints = [
        torch.load(
            Path(c.run.folder, "checkpoints", f"step_{c.trainer.steps:08d}.ckpt"),
            weights_only=True,
        )
        for c in (one, other)
    ]
    assert checkpoints[0].keys() == checkpoints[1].keys()
    a, b = ({**c["state_dict"], **c["seedfold"]["ema"]["weights"]} for c in checkpoints)
    assert a.keys() == b.keys()
    # As a whole: Adam makes a step of the rounding of a gradient that is almost 0.
    x, y = (torch.cat([tensors[name].flatten() for name in a]) for tensors in (a, b))
    assert (x - y).norm() < 1e-5 * x.norm()


def with_devices(config, devices: int, accumulate: int):
    changed = dataclasses.replace(config.trainer, devices=devices, accumulate=accumulate)
    return dataclasses.replace(config, trainer=changed)


def test_two_processes_are_one(make_config, launch):
    """Started by torchrun, where the second is told to stop; one goes on: there a step has another
    number of batches.

    Four examples a step. Confidence is not trained: its weights are without gradient.
    """
    one = make_config("one", trainer={"accumulate": 4}, stage={"rollout_steps": 0})
    train(one, quiet)
    two = make_config("two", trainer={"accumulate": 4}, stage={"rollout_steps": 0})
    stop = CHANGES.format(step=2, action="os.kill(os.getpid(), signal.SIGTERM)")
    done = launch(with_devices(two, 2, 2), *TWO, changes=stop)
    assert done.stdout.count("3 15") == 2, done.stdout + done.stderr
    assert train(two, quiet).step == 4
    assert_same_run(one, two)


def test_two_processes_quarantine_and_validate_as_one(
    make_config, make_set, damage, example, launch
):
    """Started by the run. One of two examples is damaged: both processes draw it, and the second
    one is to validate it.
    """
    source = make_set([dataclasses.replace(example, id=name) for name in ("whole", "damaged")])
    damage(source, 1)
    validation = ValidationConfig(folder=source.folder, n_samples=1, n_steps=2, n_cycles=1)
    own = {
        "data": {"sources": (source,), "validation": validation},
        "stage": {"rollout_steps": 0},
    }
    told: list[str] = []
    one = make_config("one", trainer={"accumulate": 4, "validate_every": 2}, **own)
    train(one, told.append)
    two = make_config("two", trainer={"validate_every": 2}, **own)
    done = launch(with_devices(two, 2, 2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 None") == 2
    assert done.stdout.count("parameters") == 1, "one process speaks"
    assert_same_run(one, two)
    tables = [
        {name: read_table(Path(c.run.folder, f"{name}.csv")) for name in ("quarantine", *VALIDATED)}
        for c in (one, two)
    ]
    assert tables[0]["quarantine"] and tables[0]["quarantine"] == tables[1]["quarantine"]
    for name, value in VALIDATED.items():
        assert len(tables[0][name]) == len(tables[1][name]) > 0
        for row, same in zip(tables[0][name], tables[1][name], strict=True):
            # Of weights that differ by rounding.
            assert float(same.pop(value)) == pytest.approx(float(row.pop(value)), abs=5e-3)
            assert same == row
    for words in ("quarantined (1): set/damaged", "validation: damaged failed"):
        assert any(words in line for line in told) and words in done.stdout


def test_an_error_in_one_process_ends_the_other(make_config, launch):
    config = with_devices(make_config(), 2, 1)
    fail = CHANGES.format(step=1, action="raise RuntimeError('planted')")
    done = launch(config, changes=fail, seconds=300)
    assert done.returncode != 0 and "planted" in done.stderr


def test_an_error_in_the_first_process_ends_those_it_started():
    strategy = DataParallel()
    strategy._launcher = Mock()
    strategy.on_exception(RuntimeError("planted"))
    strategy._launcher.kill.assert_called_once_with(9)


def test_one_device_needs_no_strategy(make_config):
    config = make_config()
    assert make_strategy(config) == "auto"
    assert isinstance(make_strategy(with_devices(config, 2, 1)), DataParallel)


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is not None, reason="it is installed")
def test_deepspeed_that_is_not_there_is_told(make_config):
    with pytest.raises(InputError, match=r"deepspeed_2: deepspeed is not installed; pip install"):
        make_strategy(make_config(trainer={"strategy": "deepspeed_2"}))


def test_slurm_leaves_signals_alone(monkeypatch):
    assert environment() == []
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "seedfold")
    (found,) = environment()
    assert not found.auto_requeue
