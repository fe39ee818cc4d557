"""What stands at a place of a run, for any place; and what does if that cannot be made.

Source: AF3 SI 2.5 to 2.7. A place is a step and a slot of its global batch. What stands there is a
function of the seed and the place (`data_pipeline.examples.sampler`), and so is all that is random
about it.

An example that cannot be made is quarantined: the place draws again, from the next streams of the
sampler, until something can be made. Every attempt that failed is handed on with the example, for
`quarantine.csv`. So the batch is still a function of seed and place, whatever workers and ranks
there are, as long as the files are the same. Where it was not the files (time ran out, a store was
away), a resumed run takes the failures that are on record for granted.

It cannot be made if anything raises (a damaged shard, a bug), takes too long, has fewer than
`LEAST_KNOWN` known atoms, or features that are not finite.
"""

import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.sampler import Draw, Sampler
from seedfold.data_pipeline.examples.symmetries import Symmetries
from seedfold.data_pipeline.features import Features
from seedfold.train.sources import DataConfig, opened

Place = tuple[int, int]
"""Step and slot in its global batch."""
LEAST_KNOWN = 4
"""Atoms with a label, without which nothing can be superposed."""
MOST_ATTEMPTS = 20
"""Draws for one place; if half of all examples were bad, one place in a million would need more."""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """An attempt that failed: a row of `quarantine.csv`."""

    step: int
    slot: int
    attempt: int
    source: str
    id: str
    reason: str

    @property
    def place(self) -> tuple[int, int, int]:
        """Step, slot and attempt."""
        return self.step, self.slot, self.attempt


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One example without batch axis, and the seed of what is random about its training.

    `step`: which it was drawn for. `bad`: attempts at the same place that failed before.
    """

    name: str
    step: int
    seed: int
    f: Features
    symmetries: Symmetries
    bad: tuple[Bad, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A place for which nothing could be made, and the failures of all attempts."""

    bad: tuple[Bad, ...]

    def error(self) -> InputError:
        """What to tell the user."""
        last = self.bad[-1]
        return InputError(
            "data.sources",
            f"{len(self.bad)} examples in a row cannot be made at step {last.step}, "
            f"the last {last.source}/{last.id}: {last.reason}",
            todo="look at the data sets with seedfold prepare verify",
        )


class Examples(Dataset[Drawn]):
    """What stands at a place, for any place.

    Args:
        config: Sources, crop and conventions; the data sets must be there.
        seed: Of the run.
        known: Attempts that are taken to fail, by their place.
    """

    def __init__(
        self, config: DataConfig, seed: int, known: Mapping[tuple[int, int, int], Bad] | None = None
    ):
        self.n_token, self.seconds = config.n_token, config.seconds
        self.known = dict(known or {})
        self.sets = {s.name: opened(s, config.inputs) for s in config.sources}
        indices = {name: data.index for name, data in self.sets.items()}
        weights = {s.name: s.weight for s in config.sources}
        self.sampler = Sampler(indices, weights, seed)

    def __getitem__(self, place: Place) -> Drawn:
        found = self.find(place)
        if isinstance(found, Unusable):
            raise found.error()
        return found

    def __getitems__(self, places: Sequence[Place]) -> list[Drawn | Unusable]:
        """Many places, as loaders ask: without errors, which no worker survives in one piece."""
        return [self.find(place) for place in places]

    def find(self, place: Place) -> Drawn | Unusable:
        """The first attempt at a place that succeeds."""
        bad: tuple[Bad, ...] = ()
        for attempt in range(MOST_ATTEMPTS):
            if (*place, attempt) in self.known:
                bad += (self.known[(*place, attempt)],)
                continue
            draw = self.sampler.draw(*place, attempt)
            try:
                with time_limit(self.seconds):
                    return self._made(place[0], draw, bad)
            except Exception as error:
                bad += (self._bad(place, attempt, draw, error),)
        return Unusable(bad=bad)

    def _made(self, step: int, draw: Draw, bad: tuple[Bad, ...]) -> Drawn:
        part = self.sets[draw.data_set].part(draw.unit, n_token=self.n_token, seed=draw.seed)
        check(part.f)
        return Drawn(
            name=f"{draw.data_set}/{part.example.id}",
            step=step,
            seed=draw.seed,
            f=part.f,
            symmetries=part.symmetries(),
            bad=bad,
        )

    def _bad(self, place: Place, attempt: int, draw: Draw, error: Exception) -> Bad:
        data = self.sets[draw.data_set]
        return Bad(
            step=place[0],
            slot=place[1],
            attempt=attempt,
            source=draw.data_set,
            id=data.name(data.index[draw.unit]),
            reason=reason(error),
        )


def check(f: Features) -> None:
    """Refuses features that nothing can be learnt from, or that would spoil a step.

    Raises:
        ValueError: saying why.
    """
    assert f.labels is not None, "training needs labels"
    known = f.labels.resolved & (f.labels.weight > 0)
    if int(known.sum()) < LEAST_KNOWN:
        raise ValueError(f"{int(known.sum())} of {f.n_atom} atoms are known")
    tensors = {name: getattr(f, name) for name in f.axes()}
    tensors |= {f"labels.{name}": getattr(f.labels, name) for name in f.labels.axes()}
    for name, tensor in tensors.items():
        # A sum is finite only if all its terms are, and is one pass without another tensor.
        if tensor.is_floating_point() and not bool(tensor.sum().isfinite()):
            raise ValueError(f"{name} is not finite")


def reason(error: Exception) -> str:
    """An error in one line; with its place in the code where it is likely to be a bug."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError | TimeoutError) and text:
        return text
    *_, frame = traceback.extract_tb(error.__traceback__)
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{named} ({Path(frame.filename).name}, line {frame.lineno})"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` in the block after so many seconds; not outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
