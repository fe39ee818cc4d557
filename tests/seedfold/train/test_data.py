import dataclasses
import itertools

import pytest
import torch

from seedfold.data_pipeline.errors import InputError
from seedfold.train.data import Batch, Batches, FoldingData, Places
from seedfold.train.examples import Examples
from seedfold.train.sources import DataConfig, Source


def taken(places, n):
    return list(itertools.islice(places, n))


def test_ranks_share_the_slots_of_every_step():
    """Global batch 8 = 2 ranks x 2 batches x 2 examples."""
    ranks = [taken(Places(5, 8, 2, rank, 2), 4) for rank in range(2)]
    for step, at in ((5, slice(0, 2)), (6, slice(2, 4))):
        found = sorted(place for batches in ranks for batch in batches[at] for place in batch)
        assert found == [(step, slot) for slot in range(8)]
    assert all(len(batch) == 2 for batches in ranks for batch in batches)


def test_a_later_start_is_the_same_without_the_beginning():
    assert taken(Places(0, 4, 2, 0, 1), 8)[4:] == taken(Places(2, 4, 2, 0, 1), 4)


def same(one: Batch, other: Batch) -> bool:
    assert one.f.labels is not None and other.f.labels is not None
    return (
        (one.names, one.seeds, one.bad) == (other.names, other.seeds, other.bad)
        and torch.equal(one.f.ref_pos, other.f.ref_pos)
        and torch.equal(one.f.labels.x, other.f.labels.x)
    )


@pytest.fixture
def named(example, make_set):
    return make_set([dataclasses.replace(example, id=name) for name in ("a", "b", "c")])


def test_workers_ranks_and_resuming_change_nothing(named, damage):
    """A third of the examples is damaged; its places hold the same others everywhere."""
    damage(named, 1)
    examples = Examples(DataConfig(sources=(named,), n_token=24), 7)

    def batches(first_step: int, n: int, workers: int, rank: int = 0, world: int = 1):
        size = 2 // world
        return taken(Batches(examples, Places(first_step, 2, size, rank, world), workers), n)

    alone = batches(0, 6, 0)
    assert all(same(a, b) for a, b in zip(alone, batches(0, 6, 2), strict=True))
    assert all(same(a, b) for a, b in zip(alone[4:], batches(4, 2, 1), strict=True))
    assert not same(alone[0], alone[1])
    assert any(batch.bad for batch in alone) and {b.id for a in alone for b in a.bad} == {"b"}
    ranks = [batches(0, 6, 0, rank, 2) for rank in range(2)]
    for whole, *parts in zip(alone, *ranks, strict=True):
        assert whole.seeds == tuple(seed for part in parts for seed in part.seeds)
        assert whole.bad == tuple(bad for part in parts for bad in part.bad)


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_to_draw_is_an_error_in_one_line(named, damage, workers):
    for unit in range(3):
        damage(named, unit)
    examples = Examples(DataConfig(sources=(named,), n_token=24), 7)
    with pytest.raises(InputError, match="20 examples in a row cannot be made") as caught:
        taken(Batches(examples, Places(0, 2, 2, 0, 1), workers), 1)
    assert "\n" not in str(caught.value)


def test_symmetries_are_those_of_the_crop(source):
    """Every atom's own truth in the pool is its label."""
    examples = Examples(DataConfig(sources=(source,), n_token=24), 7)
    for step in range(4):
        drawn = examples[(step, 0)]
        assert drawn.f.labels is not None
        s = drawn.symmetries
        at = s.source[s.own[s.unit], torch.arange(s.n_atom)]
        torch.testing.assert_close(s.pool.x[at], drawn.f.labels.x)


def test_what_is_missing_is_named(tmp_path):
    absent = Source(name="pdb", folder=str(tmp_path / "none"))
    data = FoldingData(DataConfig(sources=(absent,)), 1)
    data.prepare_data()
    with pytest.raises(InputError, match=r"pdb: no finished data set in .*none; make it with"):
        data.setup("fit")
