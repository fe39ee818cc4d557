"""Which example is drawn at which place of which batch: a function, not a stream.

The draw of (step, slot) depends on the seed, the step and the slot in the global batch only. So
the batch of a step is the same for any number of ranks and workers, a run resumes at any step with
nothing to restore, and mixture ratios and cluster weights hold whatever the shards look like.
Where a drawn example cannot be used, the next attempt draws from streams of its own.

Source of the random function: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), whose key is the seed and whose counter is (slot, stream, step).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.index import Index

_WORD = np.uint64(2**32 - 1)
_SHIFT = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_PICK, _SEED, _STREAMS = 0, 1, 2  # of an attempt: what is drawn, and what the example is given


def philox(
    counter: tuple[UInt[np.ndarray, "*N"], ...], key: tuple[int, int]
) -> tuple[UInt[np.ndarray, "*N"], ...]:
    """Philox4x32-10: four random 32-bit words (as uint64) from four words of counter."""
    c0, c1, c2, c3 = counter
    for turn in range(10):
        k0, k1 = (
            np.uint64((k + turn * step) % 2**32) for k, step in zip(key, _KEY_STEPS, strict=True)
        )
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _WORD, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _WORD
    return c0, c1, c2, c3


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A sampling unit of a data set, and the seed of all that is random about the example."""

    data_set: str
    unit: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Many draws; `data_set` counts in the sampler's `names`."""

    data_set: Int[np.ndarray, " N"]
    unit: Int[np.ndarray, " N"]
    seed: UInt[np.ndarray, " N"]


class Sampler:
    """Draws from several data sets in given ratios, with replacement.

    Args:
        indices: data sets by name.
        mixture: weight of each, not necessarily normalised; their order does not matter.
        seed: 0 to 2^64 - 1.
    """

    def __init__(self, indices: Mapping[str, Index], mixture: Mapping[str, float], seed: int):
        _check(indices, mixture, seed)
        self.names = tuple(sorted(name for name in mixture if mixture[name] > 0))
        self.indices = tuple(indices[name] for name in self.names)
        cumulative = np.cumsum([mixture[name] for name in self.names])
        self._bounds = cumulative / cumulative[-1]
        self._key = (seed % 2**32, seed >> 32)

    def draw(self, step: int, slot: int, attempt: int = 0) -> Draw:
        """What stands at `slot` of the global batch of `step`; what does if it cannot, with 1."""
        draws = self.draw_many(step, np.array([slot]), attempt)
        return Draw(
            data_set=self.names[draws.data_set[0]],
            unit=int(draws.unit[0]),
            seed=int(draws.seed[0]),
        )

    def draw_many(self, step: int, slots: Int[np.ndarray, " N"], attempt: int = 0) -> Draws:
        """The draws of many slots of one step."""
        first = _STREAMS * attempt
        words = self._words(step, slots, first + _PICK)
        data_set = np.searchsorted(self._bounds, _fraction(words[0], words[1]), side="right")
        where = _fraction(words[2], words[3])
        unit = np.empty(len(slots), np.int64)
        for i, index in enumerate(self.indices):
            unit[data_set == i] = index.pick(where[data_set == i])
        low, high, *_ = self._words(step, slots, first + _SEED)
        return Draws(data_set=data_set, unit=unit, seed=(high << _SHIFT) | low)

    def _words(
        self, step: int, slots: Int[np.ndarray, " N"], stream: int
    ) -> tuple[UInt[np.ndarray, " N"], ...]:
        assert 0 <= step < 2**64, step
        assert not len(slots) or 0 <= slots.min() <= slots.max() < 2**32, "slots are 32-bit"
        slot = slots.astype(np.uint64)
        rest = (np.full_like(slot, word) for word in (stream, step % 2**32, step >> 32))
        return philox((slot, *rest), self._key)


def rank_slots(batch: int, rank: int, world_size: int) -> Int[np.ndarray, " N"]:
    """The slots of a global batch that one of `world_size` ranks fills."""
    assert 0 <= rank < world_size, (rank, world_size)
    return np.arange(rank, batch, world_size)


def _fraction(high: UInt[np.ndarray, " N"], low: UInt[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """A double in [0, 1), all of whose 53 bits are random."""
    return (((high << _SHIFT) | low) >> np.uint64(11)) * 2.0**-53


def _check(indices: Mapping[str, Index], mixture: Mapping[str, float], seed: int) -> None:
    missing = sorted(name for name in mixture if mixture[name] > 0 and name not in indices)
    if missing:
        found = f"no data set {', '.join(missing)}"
        raise InputError("mixture", found, expected=f"some of {', '.join(sorted(indices))}")
    weights = np.array(list(mixture.values()), np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise InputError("mixture", f"{dict(mixture)}", expected="weights >= 0, not all of them 0")
    if not 0 <= seed < 2**64:
        raise InputError("seed", str(seed), expected="0 to 2^64 - 1")
