"""Quarantine: which examples could not be made, in a table, and the end of a run that has too many.

What a place holds instead is told in `examples`. The table is `quarantine.csv` in the folder of the
run, the same whatever the number of ranks. More than `max_bad` bad attempts among the last `WINDOW`
examples stop the run; before so many were seen, those that are missing count as good.
"""

import math
from pathlib import Path

from lightning import Trainer

from seedfold.data_pipeline.errors import InputError
from seedfold.train.callbacks import AfterStep, Say
from seedfold.train.data import Batch
from seedfold.train.examples import Bad
from seedfold.train.module import FoldingModule
from seedfold.train.ranks import gathered
from seedfold.train.tables import Table

WINDOW = 1000
"""Examples that the share of bad ones is taken over, or those of one step if they are more."""
TOLD = 5
"""Examples that are told one by one; later ones whenever their number has doubled."""


class Quarantine(AfterStep):
    """Writes down what could not be made, tells of it, and stops where it is too much.

    Args:
        path: Of the table.
        max_bad: Largest share of bad attempts.
        global_batch: Examples of a step, of all ranks.
        say: Is told of what is new, and how many there were at the end.
    """

    def __init__(self, path: Path, max_bad: float, global_batch: int, say: Say):
        self.table = Table(path, Bad)
        self.max_bad, self.global_batch, self.say = max_bad, global_batch, say
        self.rows = self.table.read()
        self._new: list[Bad] = []

    @property
    def known(self) -> dict[tuple[int, int, int], Bad]:
        """Failures on record, which a resumed run takes for granted; not those that stopped it."""
        if self.rows and self._too_many(max(bad.step for bad in self.rows) + 1):
            return {}
        return {bad.place: bad for bad in self.rows}

    def on_train_start(self, trainer: Trainer, pl_module: FoldingModule) -> None:
        """Keeps the rows of the steps that the trainer has done."""
        self.rows = [bad for bad in self.rows if bad.step < trainer.global_step]
        if trainer.is_global_zero:
            self.table.write(self.rows)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: FoldingModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Collects what is bad in all batches of a step."""
        self._new += batch.bad
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def after_step(self, trainer: Trainer, module: FoldingModule, batch: Batch) -> None:
        """Adds the rows of all ranks.

        Raises:
            InputError: on every rank, if there are too many.
        """
        new, self._new = self._new, []
        if not trainer.strategy.reduce_boolean_decision(bool(new), all=False):
            return
        new = sorted(gathered(new), key=lambda bad: bad.place)
        n_before = len(self.rows)
        self.rows += new
        if trainer.is_global_zero:
            self.table.append(new)
            self._tell(new, n_before)
        if self._too_many(trainer.global_step):
            raise self._error(new[-1])

    def on_train_end(self, trainer: Trainer, pl_module: FoldingModule) -> None:
        """Says how many there were."""
        if self.rows and trainer.is_global_zero:
            n = len(self.rows)
            self.say(f"quarantined: {n} examples could not be made, see {self.table.path}")

    def _tell(self, new: list[Bad], n_before: int) -> None:
        for number, bad in enumerate(new, n_before + 1):
            if number <= TOLD or (number & (number - 1)) == 0:
                self.say(f"quarantined ({number}): {bad.source}/{bad.id}: {bad.reason}")

    def _too_many(self, step: int) -> bool:
        n_steps = math.ceil(WINDOW / self.global_batch)
        n_bad = sum(bad.step >= step - n_steps for bad in self.rows)
        return n_bad > self.max_bad * n_steps * self.global_batch

    def _error(self, last: Bad) -> InputError:
        return InputError(
            str(self.table.path),
            f"too many examples cannot be made, the last {last.source}/{last.id}: {last.reason}",
            expected=f"at most {self.max_bad:.0%} of the last {WINDOW} (data.max_bad)",
            todo="look at the data sets with seedfold prepare verify; "
            "the same command goes on from the last checkpoint",
        )
