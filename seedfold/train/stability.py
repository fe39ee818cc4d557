"""Watches over a run: norms and maxima now and then, and an end where the loss has collapsed.

Source: SeedFold (arXiv 2512.24354), section on training: wide pair representations (c_z > 256) are
unstable; a longer warm-up and a lower learning rate cured it. The rule and its numbers are ours.

The rule. Let `best` be the lowest median that any `window` losses in a row had, fewer at first and
always without the last `patience`. A loss is bad if it is above `halt_factor` times `best`, or not
finite. A run has collapsed when more than half of its last `patience` losses are bad, or
`max_skipped` of its last `window` steps were skipped. Medians do not see hard examples, however
large their loss is: were a twentieth of all losses bad for reasons of their own, 26 of 50 would be
once in 1e20 steps. A collapse is seen 26 steps after its beginning, a slow one as well, since
`best` never rises. The first 2 `patience` losses are not judged, and a loss of exactly 0
(confidence where nothing was resolved) is not counted.

Then `collapse.json` is written, with what was in the last steps: a batch is a function of the run's
seed, its step and slot, and the seeds of its examples are all that is random about it. Checkpoints
of steps after the first bad loss are set aside, so that the last good one is the newest.
"""

import csv
import json
import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.train.callbacks import AfterStep
from seedfold.train.data import Batch
from seedfold.train.instruments import NOTHING, STACKS, Maxima, gradient_norms
from seedfold.train.module import FoldingModule
from seedfold.train.ranks import gathered

COLUMNS = ("step", *(f"{what}_{s}" for what in ("gradient", "activation", "logit") for s in STACKS))
"""Of `stability.csv`; empty where a stack has no such thing, or was not there."""
ASIDE = ".collapsed"
"""What is put behind the name of a checkpoint that came after the collapse."""


@dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """When to look inside the network, and when to end a run; see `seedfold.train.stability`.

    `every`: steps between two looks; 0 is never. `halt_factor` 0: the loss ends no run;
    `max_skipped` 0: skipped steps end none.
    """

    every: int = 100
    window: int = 200
    patience: int = 50
    halt_factor: float = 2.0
    max_skipped: int = 20


class Watch:
    """The rule by which a run has collapsed.

    Args:
        config: Its numbers.
    """

    def __init__(self, config: StabilityConfig):
        self.config = config
        self.best = math.inf
        self.older: deque[float] = deque(maxlen=config.window)
        self.last: deque[float] = deque(maxlen=config.patience)
        self.skips: deque[bool] = deque(maxlen=config.window)

    def see(self, loss: float, skipped: bool) -> str | None:
        """Takes in the loss of a step, and whether it was skipped; says what is wrong, if it is."""
        c = self.config
        self.skips.append(skipped)
        if loss != 0:
            self._take_in(loss if math.isfinite(loss) else math.inf)
        if c.max_skipped and sum(self.skips) >= c.max_skipped:
            return f"{sum(self.skips)} of the last {len(self.skips)} gradients were not finite"
        limit = self.limit
        n_bad = sum(loss > limit for loss in self.last)
        if n_bad > c.patience / 2:
            return (
                f"{n_bad} of the last {len(self.last)} losses are above "
                f"{c.halt_factor:g} times {self.best:.4g}, the best median"
            )
        return None

    @property
    def limit(self) -> float:
        """Above it a loss is bad."""
        return self.config.halt_factor * self.best if self.config.halt_factor else math.inf

    def _take_in(self, loss: float) -> None:
        if len(self.last) == self.config.patience:
            self.older.append(self.last[0])
            if len(self.older) >= min(self.config.patience, self.config.window):
                self.best = min(self.best, statistics.median(self.older))
        self.last.append(loss)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs."""
        names = ("older", "last", "skips")
        return {"best": self.best, **{name: list(getattr(self, name)) for name in names}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the other left off."""
        self.best = state["best"]
        for name in ("older", "last", "skips"):
            values: deque[Any] = getattr(self, name)
            values.clear()
            values.extend(state[name])


class Stability(AfterStep):
    """Writes `stability.csv`, and ends a run that has collapsed.

    Args:
        config: When.
        folder: Of the run.
        seed: Of the run.
    """

    def __init__(self, config: StabilityConfig, folder: Path, seed: int):
        self.config, self.folder, self.seed = config, folder, seed
        self.watch = Watch(config)
        self.steps: deque[dict[str, Any]] = deque(maxlen=config.patience)
        self._maxima: Maxima | None = None
        self._found: Tensor | None = None
        self._losses: list[float] = []
        self._examples: list[dict[str, Any]] = []
        self._skipped = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Keeps the rows up to the step that the trainer has done."""
        self._skipped = pl_module.n_skipped
        path, kept = self.folder / "stability.csv", []
        if not self.config.every or not trainer.is_global_zero:
            return
        if path.exists():
            with path.open(newline="") as file:
                kept = [r for r in csv.DictReader(file) if int(r["step"]) <= trainer.global_step]
        with whole_file(path) as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(kept)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Begins to look where it is time to."""
        every = self.config.every
        if every and (trainer.global_step + 1) % every == 0 and self._maxima is None:
            self._maxima = Maxima(pl_module.network)
            self._maxima.start()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Reads what was found: gradients are whole, and not clipped yet."""
        if self._maxima is not None:
            maxima = trainer.strategy.reduce(self._maxima.stop(), reduce_op="max")
            self._found = torch.cat([gradient_norms(pl_module.network)[None], maxima])
            self._maxima = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Collects the batches of a step."""
        self._losses.append(pl_module.terms["total"])
        pairs = zip(batch.names, batch.seeds, strict=True)
        self._examples += [{"name": name, "seed": seed} for name, seed in pairs]
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def after_step(self, trainer: Trainer, module: FoldingModule, batch: Batch) -> None:
        """Writes a row where there is one, and judges the step."""
        if self._found is not None and trainer.is_global_zero:
            with (self.folder / "stability.csv").open("a", newline="") as file:
                csv.writer(file).writerow([trainer.global_step, *_cells(self._found)])
        self._found = None
        record = self._record(trainer, module)
        self.steps.append(record)
        wrong = self.watch.see(record["loss"], record["skipped"])
        if wrong is not None:
            self._halt(trainer, wrong)

    def _record(self, trainer: Trainer, module: FoldingModule) -> dict[str, Any]:
        """What is to be known of a step: `step` of them are done with it."""
        loss = sum(self._losses) / len(self._losses)
        if trainer.world_size > 1:
            of_rank = torch.tensor(loss, device=module.device)
            loss = float(trainer.strategy.reduce(of_rank, reduce_op="mean"))
        record = {
            "step": trainer.global_step,
            "loss": loss,
            "gradient_norm": module.terms.get("gradient_norm"),
            "skipped": module.n_skipped > self._skipped,
            "examples": self._examples,
        }
        self._losses, self._examples, self._skipped = [], [], module.n_skipped
        return record

    def _halt(self, trainer: Trainer, wrong: str) -> None:
        """Leaves the run so that it can go on from before.

        Raises:
            InputError: always.
        """
        bad = [r["step"] for r in self.steps if self._is_bad(r)]
        first = min(bad, default=trainer.global_step)
        checkpoints = sorted((self.folder / "checkpoints").glob("step_*.ckpt"))
        # The loss of a step is that of the weights before it.
        late = [p for p in checkpoints if int(p.stem.removeprefix("step_")) >= first - 1]
        good = [p.stem for p in checkpoints if p not in late]
        report = {"seed": self.seed, "wrong": wrong, "steps": _plain(_of_all_ranks(self.steps))}
        if trainer.is_global_zero:
            for path in late:
                path.rename(path.with_name(path.name + ASIDE))
            with whole_file(self.folder / "collapse.json") as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n")
        trainer.strategy.barrier()
        found = f"collapsed at step {trainer.global_step}: {wrong} (collapse.json)"
        raise InputError(str(self.folder), found, todo=_todo(self.folder, good))

    def _is_bad(self, record: Mapping[str, Any]) -> bool:
        return record["skipped"] or not record["loss"] <= self.watch.limit

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"watch": self.watch.state_dict(), "steps": list(self.steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse."""
        self.watch.load_state_dict(state_dict["watch"])
        self.steps.extend(state_dict["steps"])


def _cells(found: Tensor) -> list[str]:
    return ["" if value == NOTHING else f"{value:.6g}" for value in found.flatten().tolist()]


def _of_all_ranks(steps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of steps with the examples of every rank; everything else they share."""
    ranks = gathered([[record["examples"] for record in steps]])
    merged = []
    for record, *examples in zip(steps, *ranks, strict=True):
        every = {tuple(e.items()): e for of_rank in examples for e in of_rank}
        merged.append(record | {"examples": list(every.values())})
    return merged


def _plain(value: Any) -> Any:
    """For JSON, which knows no number that is not finite."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _todo(folder: Path, good: list[str]) -> str:
    calmer = "a lower optim.learning_rate or a longer optim.warmup_steps"
    if not good:
        return f"begin again as another run.name with {calmer}; no checkpoint is from before"
    return f"go on from {good[-1]} by run.start={folder} as another run.name with {calmer}"
