"""The forecast, the ladder, and what counts as running out of memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seedfold.memory import (
    CHUNKS,
    GIB,
    MIB,
    Forecast,
    MemoryExceededError,
    PeakMemory,
    ladder,
    out_of_memory_as_such,
)
from seedfold.memory import forecast as of_network
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.models import load_model


def forecast(available: float, n_samples: int = 5) -> Forecast:
    return Forecast(
        fixed=2.0 * GIB,
        per_sample=1.0 * GIB,
        n_samples=n_samples,
        available=float(available),
        chunks=CHUNKS["gpu"],
    )


def test_the_first_rung_is_the_largest_that_fits():
    assert ladder(forecast(100 * GIB), 5)[0].parallel_samples == 5
    tight = ladder(forecast(3.3 * GIB), 5)
    assert [(r.chunk, r.parallel_samples) for r in tight] == [(c, 1) for c in CHUNKS["gpu"][1:]]


def test_if_nothing_fits_the_smallest_is_tried_and_the_user_told():
    nothing = forecast(1 * GIB)
    (rung,) = ladder(nothing, 5)
    assert rung.chunk == CHUNKS["gpu"][-1] and rung.parallel_samples == 1
    assert "probably fail" in nothing.line and "probably fail" not in forecast(99 * GIB).line


def test_one_sample_has_no_rung_twice():
    rungs = ladder(forecast(100 * GIB, 1), 1)
    assert [(r.chunk, r.parallel_samples) for r in rungs] == [(c, 1) for c in CHUNKS["gpu"]]


def test_the_forecast_grows_with_the_square_of_the_tokens():
    model = load_model()
    small, large = (model.forecast(n, 8 * n, 1, 1).fixed for n in (1000, 2000))
    empty = model.forecast(0, 0, 1, 1).fixed
    assert (large - empty) / (small - empty) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_every_form_of_out_of_memory(error):
    with pytest.raises(MemoryExceededError), out_of_memory_as_such():
        raise error


def test_a_real_allocation_that_is_too_large():
    with pytest.raises(MemoryExceededError), out_of_memory_as_such():
        torch.empty(2**60)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes") as found, out_of_memory_as_such():
        raise RuntimeError("shapes do not match")
    assert not isinstance(found.value, MemoryExceededError)


def test_peak_memory_sees_what_was_allocated_and_freed():
    with PeakMemory(torch.device("cpu")) as before:
        pass
    with PeakMemory(torch.device("cpu")) as peak:
        array = np.ones(400 * MIB // 8)
        del array
    assert peak.gib - before.gib == pytest.approx(400 / 1024, abs=0.1)


def test_places_without_atoms_are_counted():
    """A network that gives each token 24 places needs as much as one whose tokens have 24 atoms."""
    pico = PRESETS["pico"]()
    roomy = replace(
        pico,
        diffusion=replace(
            pico.diffusion, atom_mixer=replace(pico.diffusion.atom_mixer, n_slots=24)
        ),
    )
    with torch.device("meta"):
        plain, slotted = SeedFold(pico), SeedFold(roomy)
    cpu = torch.device("cpu")
    found = of_network(slotted, cpu, 500, 4000, 1, 1)
    expected = of_network(plain, cpu, 500, 24 * 500, 1, 1)
    assert (found.fixed, found.per_sample) == (expected.fixed, expected.per_sample)
    assert found.per_sample > of_network(plain, cpu, 500, 4000, 1, 1).per_sample
