import csv
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from seedfold.data_pipeline.errors import InputError
from seedfold.train.compose import CONFIGS, composed
from seedfold.train.module import FoldingModule
from seedfold.train.parallel import make_strategy
from seedfold.train.run import train
from seedfold.train.zero import engine_config

TRAINERS = sorted(path.stem for path in (CONFIGS / "trainer").glob("deepspeed*.yaml"))
# An extension that DeepSpeed would compile for CPUs is left out; the second step has no gradient.
CHANGES = """
import deepspeed.ops
for name in ("shm_comm", "deepspeed_shm_comm"):
    deepspeed.ops.__compatible_ops__[name] = False
from seedfold.train.module import FoldingModule
own = FoldingModule.training_step
def training_step(self, batch, index):
    return own(self, batch, index) * (float("nan") if self.trainer.global_step == 1 else 1)
FoldingModule.training_step = training_step
"""
NEEDED = "deepspeed is not installed"


def test_stage_3_is_refused(make_config):
    with pytest.raises(InputError, match=r"trainer.strategy=deepspeed_3: .*; take deepspeed_2"):
        make_strategy(make_config(trainer={"strategy": "deepspeed_3"}))


@pytest.mark.parametrize("name", TRAINERS)
def test_deepspeed_reads_what_it_is_told(name):
    """By its own parser, for every trainer file."""
    pytest.importorskip("deepspeed", reason=NEEDED)
    from deepspeed.runtime.config import DeepSpeedConfig

    config = composed(["experiment=nano", f"trainer={name}"])
    stage = int(config.trainer.strategy[-1])
    found = DeepSpeedConfig(engine_config(stage, config.optim.clip_norm))
    assert found.zero_enabled and found.zero_optimization_stage == stage
    assert found.gradient_clipping == config.optim.clip_norm
    assert not (found.float16_config.enabled or found.bfloat16_config.enabled)


@pytest.mark.parametrize("stage", [1, 2])
def test_zero_in_two_processes_is_one_process(make_config, launch, monkeypatch, stage):
    """It is resumed, and then a single process goes on. The second step is dropped."""
    pytest.importorskip("deepspeed", reason=NEEDED)
    options = {"accumulate": 4, "steps": 6}
    one, zero = make_config("one", trainer=options), make_config("zero", trainer=options)
    shared = {"devices": 2, "accumulate": 2, "strategy": f"deepspeed_{stage}"}
    for steps in (3, 4):
        options = dataclasses.replace(zero.trainer, **shared, steps=steps)
        done = launch(dataclasses.replace(zero, trainer=options), changes=CHANGES)
        assert done.stdout.count(f"{steps} None") == 2, done.stdout + done.stderr
    own = FoldingModule.training_step

    def training_step(self, batch, index):
        return own(self, batch, index) * (math.nan if self.trainer.global_step == 1 else 1)

    monkeypatch.setattr(FoldingModule, "training_step", training_step)
    for config in (one, zero):
        assert train(config, lambda _line: None).step == 6
    tables = []
    for config in (one, zero):
        with open(f"{config.run.folder}/metrics.csv", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    for row, same in zip(*tables, strict=True):
        for name in ("total", "mse", "confidence", "total_example"):
            assert float(same[name]) == pytest.approx(float(row[name]), rel=1e-5), (row, same)
        norm, other = float(row["gradient_norm"]), float(same["gradient_norm"])
        assert math.isfinite(norm) == math.isfinite(other) == (row["step"] != "2")
        assert not math.isfinite(norm) or other == pytest.approx(norm, rel=1e-5)
        assert row["skipped"] == same["skipped"]
    x, y = (vector(config, 6) for config in (one, zero))
    assert (x - y).norm() < 1e-5 * x.norm()


def vector(config, step: int) -> torch.Tensor:
    """Weights, average and moments."""
    path = Path(config.run.folder, "checkpoints", f"step_{step:08d}.ckpt")
    found = torch.load(path, weights_only=True)
    moments = found["optimizer_states"][0]["state"]
    tensors = {**found["state_dict"], **found["seedfold"]["ema"]["weights"]}
    assert all(float(state["step"]) == step - 1 for state in moments.values())
    parts = [tensors[name] for name in sorted(tensors)]
    parts += [moments[i][name] for i in sorted(moments) for name in ("exp_avg", "exp_avg_sq")]
    return torch.cat([part.flatten() for part in parts])
