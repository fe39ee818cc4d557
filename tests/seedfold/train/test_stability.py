import csv
import dataclasses
import json
import math
import random
from unittest.mock import Mock

import lightning
import pytest
import torch
from torch import nn

from seedfold.data_pipeline.errors import InputError
from seedfold.train.checkpoints import Checkpoints
from seedfold.train.data import Batch
from seedfold.train.module import FoldingModule
from seedfold.train.optim import Ema, OptimConfig
from seedfold.train.stability import COLUMNS, Stability, StabilityConfig, Watch

RULE = StabilityConfig(every=4, window=20, patience=10, halt_factor=2.0, max_skipped=5)


def judged(losses, skipped=(), config=RULE) -> int | None:
    """The first step, from 0, at which the run is ended."""
    watch = Watch(config)
    verdicts = [watch.see(loss, i in skipped) for i, loss in enumerate(losses)]
    return next((i for i, verdict in enumerate(verdicts) if verdict is not None), None)


def test_a_collapse_is_seen_when_most_of_the_last_losses_are_bad():
    """Six of ten: ten losses to compare with, ten to judge, and the sixth bad one."""
    assert judged([1.0] * 30 + [2.1] * 9) == 35
    assert judged([1.0] * 30 + [1.9] * 40) is None
    assert judged([1.0] * 30 + [2.1] * 5 + [1.0] * 30 + [2.1] * 5 + [1.0] * 30) is None


def test_hard_examples_end_nothing():
    """Every eighth loss is enormous; the others are log-normal."""
    rng = random.Random(0)
    losses = [1e6 if i % 8 == 0 else math.exp(0.3 * rng.gauss(0, 1)) for i in range(1500)]
    assert judged(losses, config=StabilityConfig()) is None
    collapse = [6 * loss for loss in losses[:100]]
    assert judged([*losses, *collapse], config=StabilityConfig()) is not None


def test_a_slow_rise_is_seen_too():
    """0.2 % a step: no window is twice as high as the one before, but twice the best is reached."""
    best_ends = 40
    losses = [1.0] * best_ends + [1.002**i for i in range(1000)]
    doubled = math.log(2) / math.log(1.002)
    assert judged(losses) == pytest.approx(best_ends + doubled + 5, abs=2)


def test_the_beginning_is_not_judged_and_nothing_learnt_is_no_loss():
    assert judged([5.0] * 5 + [50.0] * 15) is None
    assert judged([0.0, 1.0] * 100) is None


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_bad(wrong):
    assert judged([1.0] * 30 + [wrong] * 10) == 35


def test_many_skipped_steps_end_a_run():
    """Five of the last twenty."""
    assert judged([1.0] * 60, skipped={3, 10, 23, 30, 31}) is None
    assert judged([1.0] * 60, skipped={20, 22, 31, 33, 35, 40}) == 35
    off = dataclasses.replace(RULE, max_skipped=0)
    assert judged([1.0] * 60, skipped=range(60), config=off) is None


def test_a_watch_goes_on_from_its_state():
    losses = [1 + (i * 7919 % 13) / 13 for i in range(50)] + [5.0] * 10
    whole, watch = Watch(RULE), Watch(RULE)
    for i, loss in enumerate(losses):
        verdict = whole.see(loss, i % 9 == 0)
        if i in (12, 33, 52):
            state, watch = json.loads(json.dumps(watch.state_dict())), Watch(RULE)
            watch.load_state_dict(state)
        assert watch.see(loss, i % 9 == 0) == verdict
    assert verdict is not None


class Exploding(FoldingModule):
    """The loss is 1 until `first` steps are done, and 2.25 times the one before from then on."""

    def __init__(self, first: int = 28):
        lightning.LightningModule.__init__(self)
        self.first, self.head_alone, self.optim = first, False, OptimConfig(clip_norm=1e9)
        self.network = nn.ModuleDict({"distogram_head": nn.Linear(1, 1, bias=False)})
        nn.init.ones_(self.network["distogram_head"].weight)
        self.ema = Ema(self.network, 0.9)
        self.n_skipped = 0
        self.terms: dict[str, float] = {}

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        loss = self.network["distogram_head"](torch.ones(1, 1)).square().sum()
        self.terms = {"total": float(loss.detach())}
        return loss

    def transfer_batch_to_device(self, batch, device, dataloader_idx) -> Batch:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        # w <- (1 - 2 lr) w
        optimizer.param_groups[0]["lr"] = 0.0 if self.trainer.global_step < self.first else 1.25
        step = lightning.LightningModule.optimizer_step
        step(self, epoch, batch_idx, optimizer, optimizer_closure)


def batches(n: int) -> list[Batch]:
    """Without anything in them."""
    return [Mock(spec=Batch, names=(f"set/{i}",), seeds=(100 + i,)) for i in range(n)]


def run(folder, *, steps: int = 100, first_batch: int = 0, resumed=None, saves=True) -> Exploding:
    module = Exploding()
    keeper = Checkpoints(folder / "checkpoints", every=7, keep=9, export=lambda *_: None)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        callbacks=[Stability(RULE, folder, seed=9), *([keeper] if saves else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(batches(steps)[first_batch:], batch_size=None)
    trainer.fit(module, loader, ckpt_path=resumed, weights_only=True)
    return module


def table(folder):
    with (folder / "stability.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_exploding_run_ends_and_leaves_what_is_needed(tmp_path):
    """28 losses of 1, the 29th as well; from the 30th on they are bad, and the 35th is the sixth.

    The weights of step 28 were the last good ones: checkpoints of steps 7, 14, ... 35 are made, but
    at step 35 the run has ended before.
    """
    with pytest.raises(InputError) as caught:
        run(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "collapsed at step 35: 6 of the last 10 losses are above 2 times 1," in message
    assert f"go on from step_00000028 by run.start={tmp_path}" in message
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"step_000000{i:02d}.ckpt" for i in (7, 14, 21, 28)]
    report = json.loads((tmp_path / "collapse.json").read_text())
    assert report["seed"] == 9 and [r["step"] for r in report["steps"]] == list(range(26, 36))
    for record in report["steps"]:
        step = record["step"]
        # The first batch of a run is that of step 0.
        assert record["examples"] == [{"name": f"set/{step - 1}", "seed": 99 + step}]
        assert record["gradient_norm"] == pytest.approx(2 * record["loss"] ** 0.5)
        assert record["loss"] == pytest.approx(2.25 ** max(0, step - 29), rel=1e-5)
        assert record["skipped"] is False
    rows = table(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(4, 35, 4))
    assert float(rows[0]["gradient_distogram"]) == pytest.approx(2.0)
    assert float(rows[7]["gradient_distogram"]) == pytest.approx(2 * 1.5**3)
    assert float(rows[7]["activation_distogram"]) == pytest.approx(1.5**3)
    assert rows[0]["gradient_msa"] == rows[0]["logit_distogram"] == ""
    assert set(rows[0]) == set(COLUMNS)


def test_a_resumed_run_ends_at_the_same_step(tmp_path):
    """Killed after step 30: what it goes on from is that of step 28."""
    run(tmp_path, steps=30)
    (tmp_path / "checkpoints" / "step_00000030.ckpt").unlink()
    resumed = tmp_path / "checkpoints" / "step_00000028.ckpt"
    with pytest.raises(InputError, match="collapsed at step 35: 6 of the last 10"):
        run(tmp_path, first_batch=28, resumed=resumed)
    assert [int(row["step"]) for row in table(tmp_path)] == list(range(4, 35, 4))
    report = json.loads((tmp_path / "collapse.json").read_text())
    assert [r["step"] for r in report["steps"]] == list(range(26, 36))


def test_later_checkpoints_are_set_aside(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (27, 29, 33, 34):
        (folder / f"step_{step:08d}.ckpt").touch()
    with pytest.raises(InputError, match="step_00000027 by"):
        run(tmp_path, saves=False)
    late = sorted(p.name for p in folder.glob("*.collapsed"))
    assert late == [f"step_000000{i}.ckpt.collapsed" for i in (29, 33, 34)]
    for path in folder.glob("*.ckpt"):
        path.unlink()
    trainer = lightning.Trainer(logger=False, accelerator="cpu")
    with pytest.raises(InputError, match=r"begin again .* no checkpoint is from before"):
        Stability(RULE, tmp_path, 1)._halt(trainer, "wrong")
