import math
from itertools import pairwise

import pytest
import torch

from seedfold.geometry import random_rotation
from seedfold.model.sampler import (
    Draws,
    SamplerConfig,
    noise_schedule,
    sample_diffusion,
    seeded_generator,
)


def test_end_points_of_the_schedule():
    """SI 3.7.1: from 160 sigma_data to 4e-4 sigma_data in 200 steps; Protenix ends at 0."""
    levels = noise_schedule(SamplerConfig(), 200)
    assert len(levels) == 201
    assert levels[0] == pytest.approx(2560.0) and levels[-1] == pytest.approx(0.0064)
    half = 16 * ((160 ** (1 / 7) + 4e-4 ** (1 / 7)) / 2) ** 7
    assert levels[100] == pytest.approx(half)
    assert all(a > b for a, b in pairwise(levels))
    zero = noise_schedule(SamplerConfig(end_at_zero=True), 200)
    assert zero[-1] == 0.0 and zero[:-1] == levels[:-1]


def shrink(x_noisy, t_hat):
    """An equivariant denoiser that knows its atoms: distances from the centre are its answer."""
    centred = x_noisy - x_noisy.mean(-2, keepdim=True)
    radius = torch.arange(1, x_noisy.shape[-2] + 1, dtype=x_noisy.dtype)[:, None]
    return centred / centred.norm(dim=-1, keepdim=True) * radius


def sample(draws, n_steps=20, mask=None, config=None, **options):
    mask = torch.ones(1, 6, dtype=torch.bool) if mask is None else mask
    return sample_diffusion(
        shrink,
        mask,
        [draws] * len(mask),
        config or SamplerConfig(),
        n_steps,
        torch.float64,
        **options,
    )


class Rotated(Draws):
    """The same random numbers, seen from elsewhere."""

    def __init__(self, seed, index, q):
        super().__init__(seed, index)
        self.q = q

    def normal(self, n_atom):
        return super().normal(n_atom).double() @ self.q.T

    def rotation(self):
        return self.q @ super().rotation().double() @ self.q.T

    def translation(self):
        return self.q @ super().translation().double()


def test_rotated_noise_gives_a_rotated_structure():
    """With an equivariant denoiser the sampler as a whole is equivariant."""
    q = random_rotation(generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = sample([Rotated(3, 0, torch.eye(3, dtype=torch.float64))])
    torch.testing.assert_close(sample([Rotated(3, 0, q)]), plain @ q.T, rtol=1e-7, atol=1e-7)


def test_it_arrives_at_what_the_denoiser_knows():
    """Step scale 1 and a last level of 0: the last step lands on the denoiser's answer."""
    x = sample([Draws(1, 0)], config=SamplerConfig(end_at_zero=True, step_scale=1.0))[0, 0]
    centre = (x - x.mean(0)).norm(dim=-1)
    assert centre.sub(torch.arange(1, 7)).abs().max() < 2.0
    assert x.norm(dim=-1).sub(torch.arange(1, 7)).abs().max() < 1e-9


def test_by_hand_for_one_step():
    """Algorithm 18 with one step and a denoiser that answers zero, in closed form."""
    config = SamplerConfig(translation_scale=0.0)
    mask = torch.ones(1, 4, dtype=torch.bool)
    x = sample_diffusion(
        lambda x_noisy, t_hat: torch.zeros_like(x_noisy),
        mask, [[Draws(5, 2)]], config, 1, torch.float64,
    )  # fmt: skip
    draws = Draws(5, 2)
    first = 2560.0 * draws.normal(4).double()
    rotation = draws.rotation().double()
    draws.translation()
    noise = draws.normal(4).double()
    # The next level, 0.0064, is below gamma_min: nothing is added and t_hat = 2560.
    expected = (first - first.mean(0)) @ rotation.T + 0 * noise
    expected = expected * (1 + 1.5 * (0.0064 - 2560.0) / 2560.0)
    torch.testing.assert_close(x[0, 0], expected)


def test_noise_is_added_while_the_level_is_high():
    """t_hat = 1.8 times the level above gamma_min, where the added variance makes up for it."""
    seen = []
    config = SamplerConfig()

    def denoise(x_noisy, t_hat):
        seen.append(t_hat.item())
        return torch.zeros_like(x_noisy)

    mask = torch.ones(1, 3, dtype=torch.bool)
    sample_diffusion(denoise, mask, [[Draws(0, 0)]], config, 10, torch.float64)
    levels = noise_schedule(config, 10)
    expected = [previous * (1.8 if level > 1.0 else 1.0) for previous, level in pairwise(levels)]
    assert seen == pytest.approx(expected) and math.isclose(seen[0], 1.8 * 2560)


def test_padding_and_company_do_not_change_a_sample():
    """Sample 2 alone, among others, padded, and in a batch with a longer example."""
    alone = sample([Draws(9, 2)])[0, 0]
    among = sample([Draws(9, k) for k in range(4)])[0, 2]
    torch.testing.assert_close(among, alone)
    assert not torch.allclose(sample([Draws(9, 1)])[0, 0], alone)


def test_progress_is_told_every_step():
    told = []
    sample([Draws(0, 0)], n_steps=4, on_step=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_streams_are_unrelated():
    first = {
        (seed, k): torch.randn(4, generator=seeded_generator(seed, f"sample {k}")).tolist()
        for seed in range(8)
        for k in range(8)
    }
    assert len({tuple(v) for v in first.values()}) == 64
