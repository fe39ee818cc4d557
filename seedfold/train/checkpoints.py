"""Checkpoints of a run: everything that going on needs, whole or absent, the newest few.

A checkpoint is one file, and the same for every strategy of `parallel`: weights, their average,
moments of the optimiser and the count of steps. What else a step depends on is a function of that
count (`data`, `optim`). Files are read without unpickling objects.

Deviations: Lightning's own checkpoint callback is not used: it can neither keep the newest by step
nor survive a damaged file.
"""

import signal
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Trainer

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.train.callbacks import AfterStep, Say
from seedfold.train.data import Batch
from seedfold.train.module import FoldingModule
from seedfold.train.ranks import gathered

PATTERN = "step_*.ckpt"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Checkpoints(AfterStep):
    """Keeps everything that resuming needs; at SIGTERM and SIGINT saves it and stops the trainer.

    Args:
        folder: Of the checkpoints.
        every: Steps.
        keep: How many of the newest stay.
        export: Called by all ranks after a checkpoint, to write the averaged weights.
    """

    def __init__(
        self, folder: Path, every: int, keep: int, export: Callable[[Trainer, FoldingModule], None]
    ):
        assert keep > 0, keep
        self.folder, self.every, self.keep, self.export = folder, every, keep, export
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Takes the signals over from Lightning, which would stop without saving."""
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._receive)
        if trainer.is_global_zero:
            for left_by_a_killed_run in self.folder.glob(f".*.{PATTERN}"):
                left_by_a_killed_run.unlink()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Gives the signals back."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Gives the signals back."""
        self.on_train_end(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Counts batches anew, which were more or fewer a step on other devices."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        n = checkpoint["global_step"] * trainer.accumulate_grad_batches
        for counts in (progress["total"], progress["current"]):
            counts.update(dict.fromkeys(counts, n))

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received = number

    def after_step(self, trainer: Trainer, module: FoldingModule, batch: Batch) -> None:
        """Saves where it is time to; all ranks stop when one is told to."""
        step = trainer.global_step
        stop = trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)
        if stop or step % self.every == 0 or step == trainer.max_steps:
            self._save(trainer, module)
        if stop:
            # One rank may have been told, and all end alike.
            self.received = next(n for n in gathered([self.received]) if n is not None)
            trainer.should_stop = True

    def _save(self, trainer: Trainer, module: FoldingModule) -> None:
        """All ranks bring their parts, the first one writes."""
        path = self.folder / f"step_{trainer.global_step:08d}.ckpt"
        first = trainer.is_global_zero
        with whole_file(path) if first else nullcontext(path) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)
        self.export(trainer, module)
        if first:
            self._remove_others(path)
        # Where the first process to end takes the others with it, this one must not be late.
        trainer.strategy.barrier()

    def _remove_others(self, newest: Path) -> None:
        """Those of later steps could not be read when this run began."""
        found = sorted(self.folder.glob(PATTERN))
        older = [path for path in found if path < newest]
        later = [path for path in found if path > newest]
        for path in [*later, *older[: max(0, len(older) + 1 - self.keep)]]:
            path.unlink()


def latest(folder: Path) -> Path | None:
    """The checkpoint of the highest step."""
    return max(folder.glob(PATTERN), default=None)


def latest_whole(folder: Path, say: Say) -> Path | None:
    """The checkpoint of the highest step whose content is as it was written.

    Args:
        folder: Of checkpoints.
        say: Is told of every one that is damaged.

    Raises:
        InputError: if there are checkpoints, all of them damaged.
    """
    found = sorted(folder.glob(PATTERN), reverse=True)
    for path in found:
        damage = _damage(path)
        if damage is None:
            return path
        say(f"{path} is damaged ({damage}); the one before is used")
    if found:
        raise InputError(
            str(folder),
            f"{len(found)} checkpoints, all damaged",
            todo="remove the folder to begin the run anew",
        )
    return None


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _damage(path: Path) -> str | None:
    """What is wrong with a file of torch, a zip archive; None if its checksums fit."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        return str(error)
    return None if part is None else f"checksum of {part}"
