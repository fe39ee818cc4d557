"""The sampler against known answers of its generator and against the frequencies it must have."""

import math

import numpy as np
import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.index import ExampleColumns, Index, build_index
from seedfold.data_pipeline.examples.sampler import Sampler, philox, rank_slots
from seedfold.data_pipeline.examples.shards import Shard
from seedfold.data_pipeline.examples.weights import SamplingUnits

MIXTURE = {"pdb": 0.50, "afdb": 0.08, "mgnify": 0.42}
WEIGHTS = {
    "pdb": np.array([3.0, 0.5, 0.0, 1.5, 6.0, 2.0, 0.25]),
    "afdb": np.array([1.0, 1.0, 1 / 3, 1 / 3, 1 / 3]),
    "mgnify": np.arange(1.0, 12.0),
}


def make_index(folder, weight):
    n = len(weight)
    zeros = np.zeros(n, np.int64)
    examples = ExampleColumns(
        shards=(Shard(name="unit-00000.tar", checksum=""),),
        shard=zeros,
        offset=zeros,
        size=zeros,
        crc32=zeros,
        n_token=zeros,
    )
    units = SamplingUnits(
        example=np.arange(n, dtype=np.uint32),
        n_chains=np.ones(n, np.uint8),
        chain_1=zeros.astype(np.uint16),
        chain_2=zeros.astype(np.uint16),
        weight=weight,
    )
    return Index.open(build_index(folder, examples, units, manifest_hash=""))


@pytest.fixture(scope="module")
def indices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indices")
    return {name: make_index(folder / name, weight) for name, weight in WEIGHTS.items()}


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    """The vectors that Random123 publishes for Philox4x32-10."""

    def words(text):
        return [int(word, 16) for word in text.split()]

    # Twice beside other counters, so that the vectorised form is tested.
    columns = tuple(np.array([1, w, 2**32 - 1, w], np.uint64) for w in words(counter))
    k0, k1 = words(key)
    out = np.stack(philox(columns, (k0, k1)), axis=1)
    assert out[1].tolist() == out[3].tolist() == words(expected)


def draws(sampler, n_step, batch):
    parts = [sampler.draw_many(step, np.arange(batch)) for step in range(n_step)]
    return (
        np.concatenate([p.data_set for p in parts]),
        np.concatenate([p.unit for p in parts]),
        np.concatenate([p.seed for p in parts]),
    )


def chi_square_z(observed, probability):
    """Wilson-Hilferty: about a standard normal number if the frequencies are right."""
    expected = probability * observed.sum()
    assert (observed[expected == 0] == 0).all()
    possible = expected > 0
    k = possible.sum() - 1
    x = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
    return ((x / k) ** (1 / 3) - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))


def test_frequencies_are_mixture_times_weights(indices):
    sampler = Sampler(indices, MIXTURE, seed=1)
    data_set, unit, _ = draws(sampler, 200, 1000)
    total = np.array([MIXTURE[name] for name in sampler.names])
    assert abs(chi_square_z(np.bincount(data_set, minlength=3), total)) < 3
    for i, name in enumerate(sampler.names):
        counts = np.bincount(unit[data_set == i], minlength=len(WEIGHTS[name]))
        assert abs(chi_square_z(counts, WEIGHTS[name] / WEIGHTS[name].sum())) < 3, name


def test_the_test_of_frequencies_can_fail(indices):
    """A mixture wrong by 0.01 is seen."""
    data_set, _, _ = draws(Sampler(indices, {**MIXTURE, "afdb": 0.09}, seed=1), 200, 1000)
    total = np.array([0.08, 0.42, 0.50])
    assert chi_square_z(np.bincount(data_set, minlength=3), total) > 5


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 100])
def test_a_batch_is_the_same_for_any_number_of_ranks(indices, world_size):
    sampler = Sampler(indices, MIXTURE, seed=3)
    whole = sampler.draw_many(17, np.arange(64))
    found = {}
    for rank in range(world_size):
        slots = rank_slots(64, rank, world_size)
        part = sampler.draw_many(17, slots)
        drawn = zip(part.data_set, part.unit, part.seed, strict=True)
        found |= dict(zip(slots.tolist(), drawn, strict=True))
    assert [found[i] for i in range(64)] == list(
        zip(whole.data_set, whole.unit, whole.seed, strict=True)
    )


def test_one_draw_equals_its_place_among_many(indices):
    """Exact resume: nothing but (seed, step, slot) counts, not what was drawn before."""
    many = Sampler(indices, MIXTURE, seed=3).draw_many(2**40 + 5, np.array([9, 2, 2**32 - 1]))
    sampler = Sampler(indices, MIXTURE, seed=3)
    for i, slot in enumerate([9, 2, 2**32 - 1]):
        draw = sampler.draw(2**40 + 5, slot)
        assert draw.data_set == sampler.names[many.data_set[i]]
        assert (draw.unit, draw.seed) == (many.unit[i], many.seed[i])


# Made by another program: Philox and bisection in Python's own integers and floats.
GOLDEN = {
    (0, 0): ("mgnify", 10, 16003421494509538316),
    (0, 1): ("pdb", 4, 18281504111596708054),
    (1, 0): ("pdb", 0, 1727321847574407518),
    (7, 255): ("pdb", 0, 1862829019546292321),
    (1000000, 3): ("mgnify", 10, 10605879587513844325),
    (1099511627776, 2147483648): ("mgnify", 4, 4629106108305492791),
}


def test_golden_draws(indices):
    """The same on every platform and in every later version."""
    sampler = Sampler(indices, MIXTURE, seed=2**63 + 20240501)
    found = [sampler.draw(step, slot) for step, slot in GOLDEN]
    assert [(d.data_set, d.unit, d.seed) for d in found] == list(GOLDEN.values())


def test_further_attempts_are_further_draws(indices):
    """Of the same frequencies, with seeds of their own; the first attempt is the draw."""
    sampler, slots = Sampler(indices, MIXTURE, seed=3), np.arange(20_000)
    attempts = [sampler.draw_many(5, slots, attempt) for attempt in range(3)]
    first = sampler.draw_many(5, slots)
    assert (attempts[0].unit == first.unit).all() and (attempts[0].seed == first.seed).all()
    assert len(np.unique(np.concatenate([a.seed for a in attempts]))) == 3 * len(slots)
    total = np.array([MIXTURE[name] for name in sampler.names])
    for a in attempts:
        assert abs(chi_square_z(np.bincount(a.data_set, minlength=3), total)) < 3
    one = sampler.draw(5, 17, attempt=2)
    assert (one.unit, one.seed) == (attempts[2].unit[17], attempts[2].seed[17])


def test_the_order_of_the_mixture_does_not_matter(indices):
    backwards = dict(reversed(MIXTURE.items()))
    a, b = (Sampler(indices, m, seed=5).draw_many(1, np.arange(50)) for m in (MIXTURE, backwards))
    assert (a.data_set == b.data_set).all() and (a.unit == b.unit).all()


def test_neighbours_do_not_know_of_each_other(indices):
    """Slots, steps and seeds that differ by one: correlations within noise, seeds all different."""
    uniform = {"all": make_uniform(indices)}
    n = 100_000

    def fractions(seed, step):
        return Sampler(uniform, {"all": 1.0}, seed).draw_many(step, np.arange(n)).unit / 1e5

    base = fractions(0, 0)
    for other in (np.roll(base, 1), np.roll(base, 2), fractions(0, 1), fractions(1, 0)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / math.sqrt(n)
    data_set, unit, seed = draws(Sampler(indices, MIXTURE, seed=0), 10, 10_000)
    assert len(np.unique(seed)) == len(seed)
    assert abs(np.corrcoef(data_set, seed >> np.uint64(40))[0, 1]) < 4 / math.sqrt(n)
    assert abs(np.corrcoef(unit[data_set == 1], (seed % 1000)[data_set == 1])[0, 1]) < 0.02


def make_uniform(indices):
    return make_index(indices["pdb"].folder.parent / "uniform", np.ones(100_000))


@pytest.mark.parametrize("bit", range(0, 64, 9))
def test_seeds_use_all_their_bits(indices, bit):
    _, _, seed = draws(Sampler(indices, MIXTURE, seed=0), 1, 10_000)
    ones = ((seed >> np.uint64(bit)) & np.uint64(1)).sum()
    assert abs(int(ones) - 5000) < 4 * 50


def test_a_data_set_of_weight_0_needs_no_index(indices):
    sampler = Sampler({"pdb": indices["pdb"]}, {"pdb": 1.0, "afdb": 0.0}, seed=0)
    assert sampler.names == ("pdb",)
    assert set(sampler.draw_many(0, np.arange(100)).data_set.tolist()) == {0}


@pytest.mark.parametrize(
    ("mixture", "seed", "message"),
    [
        ({"pdb": 1.0, "rna": 0.1}, 0, "no data set rna; expected some of afdb, mgnify, pdb"),
        ({}, 0, "weights >= 0"),
        ({"pdb": 0.0}, 0, "weights >= 0"),
        ({"pdb": 1.0, "afdb": -0.1}, 0, "weights >= 0"),
        ({"pdb": math.inf}, 0, "weights >= 0"),
        ({"pdb": 1.0}, -1, "seed: -1"),
        ({"pdb": 1.0}, 2**64, "seed: 18446744073709551616"),
    ],
)
def test_settings_that_make_no_sense(indices, mixture, seed, message):
    with pytest.raises(InputError, match=message):
        Sampler(indices, mixture, seed)


@pytest.mark.parametrize(("batch", "world_size"), [(256, 8), (7, 3), (2, 5)])
def test_ranks_share_out_all_slots(batch, world_size):
    parts = [rank_slots(batch, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(batch))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
