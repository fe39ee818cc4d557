"""What happens between steps: the base of callbacks, and structures that are sampled on the way."""

from collections.abc import Callable
from typing import Any

from lightning import Callback, Trainer

from seedfold.train.data import Batch, FoldingData
from seedfold.train.module import FoldingModule, Sampled

Say = Callable[[str], None]


class AfterStep(Callback):
    """A callback that is called after optimiser steps, not after every batch of one."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Sorts the batches out."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.after_step(trainer, pl_module, batch)

    def after_step(self, trainer: Trainer, module: FoldingModule, batch: Batch) -> None:
        """Called when `trainer.global_step` has counted the step."""
        raise NotImplementedError


class SampledStructures(AfterStep):
    """Now and then predicts the examples of the step with the averaged network.

    Args:
        every: Steps.
        seed: Of the predictions.
    """

    def __init__(self, every: int, seed: int):
        self.every, self.seed = every, seed

    def after_step(self, trainer: Trainer, module: FoldingModule, batch: Batch) -> None:
        """Adds the mean lDDT, and how many are mirror images, to the terms of the step."""
        if trainer.global_step % self.every == 0:
            found = module.sampled(batch.f, n_samples=1, seed=self.seed)
            module.terms["lddt"] = sum(found.lddt) / len(found.lddt)
            module.terms["mirrored"] = sum(found.mirrored) / len(found.mirrored)


class FirstExample(Callback):
    """At the end of the run predicts its first example with the averaged network.

    Args:
        data: Of the run.
        seed: Of the predictions.
    """

    def __init__(self, data: FoldingData, seed: int):
        self.data, self.seed = data, seed
        self.found: Sampled | None = None

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Nothing if the run was stopped before."""
        if trainer.global_step >= trainer.max_steps:
            f = Batch.of([self.data.examples[(0, 0)]]).f.to(pl_module.device)
            self.found = pl_module.sampled(f, n_samples=5, seed=self.seed)
