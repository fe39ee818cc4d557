"""Batches for training: drawn by step and slot, made by workers ahead of time.

Source: AF3 SI 2.5 to 2.7. What stands in the batch of a step is a function of the seed, the step
and the slot (`examples`): resuming needs no state, and neither the number of workers nor that of
ranks changes anything.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import lightning
from torch.utils.data import DataLoader, Sampler

from seedfold.data_pipeline.examples.sampler import rank_slots
from seedfold.data_pipeline.examples.symmetries import Symmetries
from seedfold.data_pipeline.features import Features, collate
from seedfold.train.examples import Bad, Drawn, Examples, Place, Unusable
from seedfold.train.sources import DataConfig, is_there, prepare

AHEAD = 4
"""Batches that a worker has ready: some examples take several times longer than others."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples that a device sees at a time; `seed` decides what they have in common.

    `step`: which they were drawn for. `bad`: what was drawn for their places before them and could
    not be made.
    """

    names: tuple[str, ...]
    step: int
    seeds: tuple[int, ...]
    seed: int
    f: Features
    symmetries: tuple[Symmetries, ...]
    bad: tuple[Bad, ...] = ()

    @classmethod
    def of(cls, examples: Sequence[Drawn]) -> "Batch":
        """Collates the examples."""
        return cls(
            names=tuple(e.name for e in examples),
            step=examples[0].step,
            seeds=tuple(e.seed for e in examples),
            seed=examples[0].seed,
            f=collate([e.f for e in examples]),
            symmetries=tuple(e.symmetries for e in examples),
            bad=tuple(bad for e in examples for bad in e.bad),
        )


class Places(Sampler[list[Place]]):
    """The places of every batch of one rank, from a step on, without end.

    Args:
        first_step: Where to begin.
        global_batch: Examples of a step, of all ranks.
        batch_size: Examples at a time; the examples of a rank are so many or a multiple.
        rank: Which.
        world_size: Of how many.
    """

    def __init__(
        self, first_step: int, global_batch: int, batch_size: int, rank: int, world_size: int
    ):
        assert global_batch % (batch_size * world_size) == 0, (global_batch, batch_size)
        self.first_step, self.batch_size = first_step, batch_size
        self.slots = rank_slots(global_batch, rank, world_size).tolist()

    def __iter__(self) -> Iterator[list[Place]]:
        step = self.first_step
        while True:
            for i in range(0, len(self.slots), self.batch_size):
                yield [(step, slot) for slot in self.slots[i : i + self.batch_size]]
            step += 1


class Batches:
    """The batches of some places, made by workers.

    Args:
        examples: What stands at a place.
        places: Of every batch.
        workers: Processes; 0 = this one.

    Raises:
        InputError: while iterating, if nothing can be made for a place.
    """

    def __init__(self, examples: Examples, places: Places, workers: int):
        self.loader = DataLoader(
            examples,
            batch_sampler=places,
            num_workers=workers,
            collate_fn=_collated,
            prefetch_factor=AHEAD if workers else None,
            worker_init_fn=_without_signals,
        )

    def __iter__(self) -> Iterator[Batch]:
        for found in self.loader:
            # Raised by a worker it would reach the user as a page of tracebacks.
            if isinstance(found, Unusable):
                raise found.error()
            yield found


def _without_signals(_worker: int) -> None:
    """Ctrl-C and schedulers signal all processes of a run; the first one decides what follows."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _collated(found: Sequence[Drawn | Unusable]) -> Batch | Unusable:
    examples = [e for e in found if isinstance(e, Drawn)]
    failed = [e for e in found if isinstance(e, Unusable)]
    return failed[0] if failed else Batch.of(examples)


class FoldingData(lightning.LightningDataModule):
    """Opens the data sets, and makes those that can be made.

    Args:
        config: Sources, crop, workers.
        seed: Of the run.
        accumulate: Batches of every device in a step.
        known: Attempts that failed in this run before it was stopped, by their place.
    """

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        accumulate: int = 1,
        known: Mapping[tuple[int, int, int], Bad] | None = None,
    ):
        super().__init__()
        self.config, self.seed, self.accumulate, self.known = config, seed, accumulate, known

    def prepare_data(self) -> None:
        """Makes the data sets that are not there yet."""
        for source in self.config.sources:
            if source.structures is not None and not is_there(source):
                prepare(source)

    def setup(self, stage: str) -> None:
        """Opens the data sets."""
        self.examples = Examples(self.config, self.seed, self.known)

    def train_dataloader(self) -> Batches:
        """Batches from the trainer's step on."""
        assert self.trainer is not None
        world_size, size = self.trainer.world_size, self.config.batch_size
        places = Places(
            first_step=self.trainer.global_step,
            global_batch=size * self.accumulate * world_size,
            batch_size=size,
            rank=self.trainer.global_rank,
            world_size=world_size,
        )
        return Batches(self.examples, places, self.config.workers)
