import dataclasses
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.crop import METHODS, crop
from seedfold.data_pipeline.examples.symmetries import symmetries
from seedfold.data_pipeline.examples.training_set import TrainingSet
from seedfold.data_pipeline.features import Features
from seedfold.train.examples import MOST_ATTEMPTS, Examples, check, reason, time_limit
from seedfold.train.sources import DataConfig

N_TOKEN = 24


@pytest.fixture
def named(example, make_set):
    """A data set of the example under several names."""
    return make_set([dataclasses.replace(example, id=name) for name in ("a", "b", "c")])


def opened(source, known=None, **options) -> Examples:
    return Examples(DataConfig(sources=(source,), n_token=N_TOKEN, **options), 7, known)


def equal(one: Features, other: Features) -> bool:
    pairs = [(one, other), (one.labels, other.labels)]
    return all(torch.equal(getattr(a, n), getattr(b, n)) for a, b in pairs for n in a.axes())


def test_features_and_symmetries_are_those_of_the_crop(source):
    """Made at once, they are what one gets by cropping twice from the same seed."""
    examples, data = opened(source), TrainingSet(source.folder)
    sizes = set()
    for step in range(4):
        drawn, draw = examples[(step, 0)], examples.sampler.draw(step, 0)
        assert drawn.name == "example/6yqw" and drawn.seed == draw.seed and not drawn.bad
        assert equal(drawn.f, data.features(draw.unit, n_token=N_TOKEN, seed=draw.seed))
        record = data.index[draw.unit]
        rng, example = np.random.default_rng(draw.seed), data.example(record)
        tokens = crop(example, N_TOKEN, rng, chains=record.chains, methods=METHODS)
        expected = symmetries(example, data.components(record.shard), tokens)
        for field in dataclasses.fields(expected):
            if field.name != "pool":
                found = getattr(drawn.symmetries, field.name)
                assert torch.equal(found, getattr(expected, field.name)), field.name
        assert torch.equal(drawn.symmetries.pool.x, expected.pool.x)
        sizes.add(drawn.symmetries.n_atom)
    assert len(sizes) > 1, "the crops are all the same"


def test_what_is_damaged_is_replaced_by_the_next_draw(named, damage):
    damage(named, 1)
    examples = opened(named)
    n_bad = 0
    for step in range(12):
        drawn = examples[(step, 2)]
        for attempt, bad in enumerate(drawn.bad):
            assert bad.place == (step, 2, attempt)
            assert examples.sampler.draw(step, 2, attempt).unit == 1
            assert (bad.source, bad.id) == ("set", "b")
            assert "unit-00000.tar: b: its bytes do not match their checksum" in bad.reason
        draw = examples.sampler.draw(step, 2, len(drawn.bad))
        assert drawn.name == "set/" + "abc"[draw.unit] and draw.unit != 1
        assert drawn.seed == draw.seed
        n_bad += len(drawn.bad)
    assert n_bad, "nothing bad was drawn"


def hidden(example, n_known: int):
    resolved = np.zeros_like(example.resolved)
    resolved[:n_known] = True
    return dataclasses.replace(example, id="hidden", resolved=resolved)


def test_what_has_too_few_known_atoms_is_bad(example, make_set):
    for n_known, bad in ((3, True), (4, False)):
        examples = Examples(DataConfig(sources=(make_set([hidden(example, n_known)]),)), 7)
        found = examples.find((0, 0))
        reasons = {b.reason for b in found.bad}
        assert reasons == ({f"3 of {example.n_atom} atoms are known"} if bad else set())


def test_predicted_structures_below_the_threshold_are_not_known(example, make_set):
    low = dataclasses.replace(example, plddt=np.full(example.n_token, 60, np.float32))
    with pytest.raises(InputError, match=r"20 examples in a row cannot be made at step 5.* 0 of"):
        Examples(DataConfig(sources=(make_set([low]),)), 7)[(5, 0)]


def test_what_is_not_finite_is_bad(source):
    f = opened(source)[(0, 0)].f
    check(f)
    spoiled = f.ref_pos.clone()
    spoiled[3, 1] = torch.inf
    with pytest.raises(ValueError, match="ref_pos is not finite"):
        check(dataclasses.replace(f, ref_pos=spoiled))
    labels = dataclasses.replace(f.labels, x=f.labels.x * torch.nan)
    with pytest.raises(ValueError, match=r"labels\.x is not finite"):
        check(dataclasses.replace(f, labels=labels))


def failing_at(examples: Examples, monkeypatch, number: int, act: Callable) -> None:
    """The n-th part that is asked for is not made; `act` happens instead."""
    (data,) = examples.sets.values()
    part, calls = data.part, []

    def sometimes(*args, **kwargs):
        calls.append(args)
        return act() if len(calls) == number else part(*args, **kwargs)

    monkeypatch.setattr(data, "part", sometimes)


def test_what_takes_too_long_is_bad_and_stays_so_in_a_resumed_run(named, monkeypatch):
    examples = opened(named, seconds=0.5)
    failing_at(examples, monkeypatch, 1, lambda: time.sleep(20))
    first = examples[(3, 0)]
    assert [b.reason for b in first.bad] == ["took longer than 0.5 s"]
    fresh = opened(named)
    assert fresh[(3, 0)].seed != first.seed
    resumed = opened(named, {bad.place: bad for bad in first.bad})[(3, 0)]
    assert (resumed.seed, resumed.bad) == (first.seed, first.bad)
    assert equal(resumed.f, first.f)


def test_a_bug_is_bad_and_told_with_its_place(named, monkeypatch):
    examples = opened(named)
    failing_at(examples, monkeypatch, 1, lambda: {}["XYZ"])
    (bad,) = examples[(0, 0)].bad
    assert bad.reason.startswith("KeyError: 'XYZ' (test_examples.py, line ")


def test_nothing_to_draw_is_one_line(named, damage):
    for unit in range(3):
        damage(named, unit)
    examples = opened(named)
    with pytest.raises(InputError) as caught:
        examples[(4, 1)]
    assert "\n" not in str(caught.value)
    assert f"{MOST_ATTEMPTS} examples in a row cannot be made at step 4" in str(caught.value)


def test_reasons_are_lines():
    def caught(error: Exception) -> str:
        try:
            raise error
        except Exception as raised:
            return reason(raised)

    assert caught(ValueError("two\n lines")) == "two lines"
    assert caught(ValueError()).startswith("ValueError (test_examples.py, line ")


def test_the_time_limit_is_taken_back():
    with time_limit(0.05):
        pass
    time.sleep(0.1)
    with pytest.raises(TimeoutError), time_limit(0.05):
        time.sleep(5)
