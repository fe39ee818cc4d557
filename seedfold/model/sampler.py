"""From noise to structures. Source: AF3 SI, Algorithm 18 and section 3.7.

Deviations: line 9 uses the noisy coordinates, as the denoiser does (erratum, Protenix report).
Every sample draws from a generator of its own and only for its real atoms, so that it does not
depend on how many samples there are, how many run at a time, or the padding.
"""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.geometry import centre_and_move, random_rotation
from seedfold.model.diffusion import SIGMA_DATA

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_noisy [B N_sample N_atom 3], t_hat [B 1]) -> x_denoised, all in Angstrom."""
Guide = Callable[[Tensor, float], Tensor]
"""(x_denoised [B N_sample N_atom 3], noise level) -> the same, moved; at level 0 the last time."""
OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all) after every step."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Noise schedule and step of Algorithm 18; `s_max` and `s_min` in units of SIGMA_DATA.

    `end_at_zero` replaces the last noise level by 0, as Protenix does; `go_on_to_zero` adds 0 after
    it, one more call of the denoiser. `shared_start`: all samples of a seed start from one noise.
    `guided`: what the network was made for, see `seedfold.model.guidance`; a caller may differ.
    """

    n_steps: int = 200
    s_max: float = 160.0
    s_min: float = 4e-4
    rho: float = 7.0
    end_at_zero: bool = False
    go_on_to_zero: bool = False
    shared_start: bool = False
    gamma_0: float = 0.8
    gamma_min: float = 1.0
    noise_scale: float = 1.003
    step_scale: float = 1.5
    translation_scale: float = 1.0
    guided: bool = False


def noise_schedule(config: SamplerConfig, n_steps: int) -> list[float]:
    """The noise levels, in Angstrom, from the highest down (SI 3.7.1, eq. 7).

    There are `n_steps` + 1 of them, and 0 after them if the configuration goes on to zero.
    """
    first, last = (s ** (1 / config.rho) for s in (config.s_max, config.s_min))
    levels = [
        SIGMA_DATA * (first + i / n_steps * (last - first)) ** config.rho
        for i in range(n_steps + 1)
    ]
    levels = [*levels[:-1], 0.0] if config.end_at_zero else levels
    return [*levels, 0.0] if config.go_on_to_zero else levels


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose; those of other seeds and purposes are unrelated to it."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))


class Draws:
    """The random numbers of one sample: a stream of its own, determined by seed and index."""

    def __init__(self, seed: int, index: int):
        self.seed = seed
        self.generator = seeded_generator(seed, f"sample {index}")

    def normal(self, n_atom: int) -> Float[Tensor, "N_atom 3"]:
        """Standard normal vectors for the real atoms."""
        return torch.randn(n_atom, 3, generator=self.generator)

    def shared_normal(self, n_atom: int) -> Float[Tensor, "N_atom 3"]:
        """The same for every sample of the seed."""
        return torch.randn(n_atom, 3, generator=seeded_generator(self.seed, "start"))

    def rotation(self) -> Float[Tensor, "3 3"]:
        """A uniform rotation."""
        return random_rotation(generator=self.generator)

    def translation(self) -> Float[Tensor, " 3"]:
        """A standard normal vector."""
        return torch.randn(3, generator=self.generator)


class _Batch:
    """The draws of a batch of examples, several samples each, placed onto padded tensors."""

    def __init__(
        self,
        draws: list[list[Draws]],
        atom_mask: Bool[Tensor, "B N_atom"],
        dtype: torch.dtype,
    ):
        self.draws, self.dtype = draws, dtype
        self.atom_mask = atom_mask
        self.mask = atom_mask.cpu()
        self.n_real = self.mask.sum(-1).tolist()

    def normal(self, shared: bool = False) -> Float[Tensor, "B N_sample N_atom 3"]:
        shape = (len(self.draws), len(self.draws[0]), self.mask.shape[1], 3)
        noise = torch.zeros(shape, dtype=self.dtype)
        for b, row in enumerate(self.draws):
            for k, draw in enumerate(row):
                drawn = (draw.shared_normal if shared else draw.normal)(self.n_real[b])
                noise[b, k, self.mask[b]] = drawn.to(self.dtype)
        return noise.to(self.atom_mask.device)

    def motion(self) -> tuple[Float[Tensor, "B N_sample 3 3"], Float[Tensor, "B N_sample 3"]]:
        rotations = torch.stack([torch.stack([d.rotation() for d in r]) for r in self.draws])
        shifts = torch.stack([torch.stack([d.translation() for d in r]) for r in self.draws])
        device = self.atom_mask.device
        return rotations.to(device, self.dtype), shifts.to(device, self.dtype)


def sample_diffusion(
    denoise: Denoiser,
    atom_mask: Bool[Tensor, "B N_atom"],
    draws: list[list[Draws]],
    config: SamplerConfig,
    n_steps: int,
    dtype: torch.dtype = torch.float32,
    on_step: OnStep | None = None,
    guide: Guide | None = None,
) -> Float[Tensor, "B N_sample N_atom 3"]:
    """Algorithm 18 for the samples whose random numbers are `draws`, [example][sample]."""
    batch = _Batch(draws, atom_mask, dtype)
    levels = noise_schedule(config, n_steps)
    x = levels[0] * batch.normal(config.shared_start)
    for i, (previous, level) in enumerate(itertools.pairwise(levels)):
        rotation, shift = batch.motion()
        x = centre_and_move(x, atom_mask[:, None], rotation, config.translation_scale * shift)
        gamma = config.gamma_0 if level > config.gamma_min else 0.0
        t_hat = previous * (gamma + 1)
        added = config.noise_scale * (t_hat**2 - previous**2) ** 0.5
        x_noisy = x + added * batch.normal()
        x_denoised = denoise(x_noisy, x.new_full((x.shape[0], 1), t_hat))
        if guide is not None:
            x_denoised = guide(x_denoised, t_hat)
        x = x_noisy + config.step_scale * (level - t_hat) * (x_noisy - x_denoised) / t_hat
        if on_step is not None:
            on_step(i + 1, len(levels) - 1)
    x = x if guide is None else guide(x, 0.0)
    return x * atom_mask[:, None, :, None]
