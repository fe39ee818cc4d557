"""The table of a run, a row a step: losses, times, throughput; and lines for who waits.

Rows are means over the batches of a step and over all ranks. wandb is optional and gets the same
rows.

Source: model FLOP/s utilisation as in Chowdhery et al., "PaLM" (2022), appendix B: FLOPs of the
model, not those that checkpointing repeats, against the peak of the devices (`flops`).
"""

import csv
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.profilers import Profiler

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.train.callbacks import AfterStep, Say
from seedfold.train.data import Batch
from seedfold.train.flops import Sizes, peak_flops, step_flops
from seedfold.train.module import FoldingModule
from seedfold.train.ranks import gathered

Row = dict[str, float]
Log = Callable[[Row], None]

COLUMNS = (
    *("step", "total", "diffusion", "mse", "bond", "smooth_lddt", "distogram", "confidence"),
    *("plddt", "pde", "resolved", "pae", "gradient_norm", "learning_rate", "skipped"),
    *("lddt", "mirrored", "seconds", "waited"),
    *("tokens_per_second", "flops_per_second", "utilisation"),
)
"""Of the table; others are added when they first occur.

`lddt` is that of sampled structures, of which the share `mirrored` are mirror images; `waited` the
seconds spent on data; `total_NAME` the loss of the examples of a source; `utilisation` is empty on
devices whose peak is unknown.
"""
NEXT_BATCH = "[_TrainingEpochLoop].train_dataloader_next"


class Clock(Profiler):
    """Adds up the seconds of everything that Lightning does, by its names."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._began: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """Notes the time."""
        self._began[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Adds what has passed."""
        self.seconds[action_name] += time.perf_counter() - self._began.pop(action_name)


class Curves(AfterStep):
    """Writes a row a step to a CSV file, and tells how far the run is.

    A resumed run goes on behind its checkpoint: rows of later steps are dropped.

    Args:
        path: Of the table.
        clock: That of the trainer.
        say: Is told a line now and then.
        every: Steps between two lines.
        open_log: Opens what is given every row as well, when the run begins.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        say: Say,
        every: int = 10,
        open_log: Callable[[], Log] | None = None,
    ):
        self.path, self.clock, self.say, self.every = path, clock, say, every
        self.open_log = open_log
        self.log: Log | None = None
        self.columns: list[str] = list(COLUMNS)
        self._rows: list[Row] = []
        self._tokens, self._flops = 0, 0.0
        self._ended = self._waited = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Keeps the rows up to the step that the trainer has done."""
        if trainer.is_global_zero:
            rows = [row for row in read_table(self.path) if int(row["step"]) <= trainer.global_step]
            self._rewrite(rows)
            self.log = None if self.open_log is None else self.open_log()
        self._restart_clock()

    def _restart_clock(self) -> None:
        self._rows, self._tokens, self._flops = [], 0, 0.0
        self._ended, self._waited = time.perf_counter(), self.clock.seconds[NEXT_BATCH]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Collects the terms of all batches of a step."""
        self._rows.append(pl_module.terms)
        for name, total in pl_module.totals.items():
            self._rows.append({f"total_{name.partition('/')[0]}": total})
        sizes = Sizes.of(batch.f)
        each = step_flops(pl_module.network, pl_module.stage, sizes)
        self._tokens += len(batch.names) * sizes.n_token
        self._flops += len(batch.names) * each.model
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def after_step(self, trainer: Trainer, module: FoldingModule, batch: Batch) -> None:
        """Writes the means over the batches of the step, of all ranks."""
        waited = self.clock.seconds[NEXT_BATCH] - self._waited
        seconds = time.perf_counter() - self._ended
        own = [*self._rows, {"seconds": seconds, "waited": waited}]
        done = {"tokens": float(self._tokens), "flops": self._flops}
        row = {"step": float(trainer.global_step), **means(gathered(own))}
        row |= _throughput(gathered([done]), row["seconds"], trainer.strategy.root_device)
        if trainer.is_global_zero:
            self._write(row)
            if self.log is not None:
                self.log(row)
            if trainer.global_step % self.every == 0 or "lddt" in row:
                self.say(_line(row, int(trainer.max_steps)))
        self._restart_clock()

    def _write(self, row: Row) -> None:
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite(read_table(self.path))
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row | {"step": int(row["step"])})

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        for row in rows:
            self.columns += [name for name in row if name not in self.columns]
        with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, self.columns)
            table.writeheader()
            table.writerows(rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table as they stand there; none if there is no such file.

    The last one is left out if the machine died while it was written.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row and None not in row.values()]


def means(rows: Iterable[Mapping[str, float]]) -> Row:
    """The mean of every name over the rows that have it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def wandb_log(folder: Path, name: str, config: Mapping[str, Any], *, offline: bool) -> Log:
    """A run of wandb that rows are given to; the same folder goes on with the same run.

    Raises:
        InputError: if wandb is not installed.
    """
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise InputError(
            "trainer.logger", "wandb is not installed", todo="pip install wandb, or logger=csv"
        ) from error
    run = wandb.init(
        project="seedfold",
        name=name,
        id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
        dir=folder,
        config=dict(config),
        mode="offline" if offline else "online",
        resume="allow",
    )
    return lambda row: run.log(row, step=int(row["step"]))


def _throughput(done: list[Row], seconds: float, device: torch.device) -> Row:
    """Of all ranks together; utilisation of one."""
    tokens, flops = (sum(rank[name] for rank in done) / seconds for name in ("tokens", "flops"))
    row = {"tokens_per_second": tokens, "flops_per_second": flops}
    peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return row if peak is None else row | {"utilisation": flops / (peak * len(done))}


def _line(row: Row, steps: int) -> str:
    lddt = f", sampled lDDT {row['lddt']:.3f}" if "lddt" in row else ""
    lddt += " (mirror image)" if row.get("mirrored", 0) > 0.5 else ""
    step = int(row["step"])
    return f"step {step} of {steps}: loss {row['total']:.3f}{lddt}, {row['seconds']:.2f} s"
