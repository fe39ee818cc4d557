"""Samples that keep to chemistry: projection onto limits of distances and volumes.

Whenever the network has guessed a structure, the guess is moved, by little, until its bonds,
angles, planes and hands are within limits and no atoms overlap; sampling goes on from there. It is
the constraint projection of position-based dynamics (Mueller et al. 2007,
doi:10.1016/j.jvcir.2007.01.005), all constraints at a time and with momentum: a violated limit
moves its atoms along its gradient as far as it needs, an atom that several limits move goes by
their mean. So there is no force constant to choose, and a structure within all limits stays as it
is. Peers guide by gradients of potentials (Boltz-1x, Protenix).
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_EPS = 1e-6
_SKIN = 1.0
"""Angstrom: atoms that are this much further apart than allowed may come to overlap in a call."""
_TURN = 0.3
"""Radians, that a torsion turns at most in one iteration."""
_STILL = 5e-3
"""Angstrom: atoms that move by less in a round stand still."""
_BLOCK = 1024
_NEVER = 2**62
"""Key of a pair that no structure has, so that `Limits.near` is never exhausted."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a structure has to keep to; Angstrom and cubic Angstrom.

    The fields are those of `seedfold.data_pipeline.restraints.Restraints`, explained there.
    """

    pairs: Int[Tensor, "N_pair 2"]
    least: Float[Tensor, " N_pair"]
    most: Float[Tensor, " N_pair"]
    quads: Int[Tensor, "N_quad 4"]
    least_volume: Float[Tensor, " N_quad"]
    most_volume: Float[Tensor, " N_quad"]
    torsions: Int[Tensor, "N_torsion 4"]
    side: Int[Tensor, " N_torsion"]
    twist: Float[Tensor, " N_torsion"]
    radii: Float[Tensor, " N_atom"]
    near: Int[Tensor, " N_near"]

    def to(self, device: torch.device, dtype: torch.dtype) -> "Limits":
        """The same elsewhere; `dtype` is that of the coordinates."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value.to(device, dtype if value.is_floating_point() else None)
        return Limits(**moved)

    def repeated(self, n: int) -> "Limits":
        """The same for `n` copies of the atoms, one after another; `near` is that of one."""
        copy = torch.arange(n, device=self.pairs.device)[:, None]
        return Limits(
            pairs=(self.pairs + len(self.radii) * copy[..., None]).flatten(0, 1),
            least=self.least.repeat(n),
            most=self.most.repeat(n),
            quads=(self.quads + len(self.radii) * copy[..., None]).flatten(0, 1),
            least_volume=self.least_volume.repeat(n),
            most_volume=self.most_volume.repeat(n),
            torsions=(self.torsions + len(self.radii) * copy[..., None]).flatten(0, 1),
            side=self.side.repeat(n),
            twist=self.twist.repeat(n),
            radii=self.radii.repeat(n),
            near=self.near,
        )


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Moves the guesses at one molecule to within `limits`, from noise of `begin` Angstrom down.

    At higher noise a guess is the mean of many structures, which has no bonds that could be mended.
    """

    limits: Limits
    begin: float = 16.0
    n_iterations: int = 20
    n_last: int = 200
    """Rounds of iterations in the last call, at no noise; fewer if all atoms stand still."""
    step: float = 1.5
    momentum: float = 0.8

    def __call__(
        self, x: Float[Tensor, "1 N_sample N_atom 3"], t_hat: float
    ) -> Float[Tensor, "1 N_sample N_atom 3"]:
        """Projects what was guessed at noise level `t_hat`, Angstrom."""
        if x.shape[0] != 1 or x.shape[2] != len(self.limits.radii):
            raise ValueError(
                f"guidance: found coordinates of shape {tuple(x.shape)}; expected one example of "
                f"{len(self.limits.radii)} atoms"
            )
        if t_hat > self.begin:
            return x
        moved = x[0]
        for _ in range(1 if t_hat else self.n_last):
            before, moved = moved, self.project(moved, self.n_iterations)
            if (moved - before).abs().amax() < _STILL:
                break
        return moved[None]

    def project(
        self, x: Float[Tensor, "N_sample N_atom 3"], n_iterations: int
    ) -> Float[Tensor, "N_sample N_atom 3"]:
        """Moves all samples towards the limits, each by itself.

        What comes near on the way is not seen to overlap before the next call.
        """
        limits = self.limits.repeated(len(x))
        close, apart = self._close_pairs(x)
        pairs, quads = torch.cat([limits.pairs, close]), limits.quads
        least = torch.cat([limits.least, apart])
        most = torch.cat([limits.most, torch.full_like(apart, torch.inf)])
        atoms = torch.cat([pairs.flatten(), quads.flatten(), limits.torsions.flatten()])
        points = x.flatten(0, 1)
        speed = torch.zeros_like(points)
        for _ in range(n_iterations):
            moves = (
                _pair_moves(points, pairs, least, most),
                _volume_moves(points, quads, limits.least_volume, limits.most_volume),
                _torsion_moves(points, limits.torsions, limits.side, limits.twist),
            )
            moves = torch.cat([m.flatten(0, 1) for m in moves])
            mean, moving = _mean_moves(atoms, moves, len(points))
            # An atom that is within all its limits stops there.
            speed = moving * (self.momentum * speed + self.step * mean)
            points = points + speed
        return points.reshape(x.shape)

    def _close_pairs(
        self, x: Float[Tensor, "N_sample N_atom 3"]
    ) -> tuple[Int[Tensor, "n 2"], Float[Tensor, " n"]]:
        """Atoms that overlap or soon may, numbered through all samples; how far apart they belong.

        Those joined by up to three bonds are left to the limits of their own.
        """
        radii, n_atom = self.limits.radii, x.shape[1]
        bonded = torch.cat([self.limits.near, self.limits.near.new_tensor([_NEVER])])
        pairs, apart = [], []
        for k, points in enumerate(x):
            for start in range(0, n_atom, _BLOCK):
                least = radii[start : start + _BLOCK, None] + radii[start:]
                distance = torch.cdist(points[start : start + _BLOCK], points[start:])
                i, j = torch.nonzero((distance < least + _SKIN).triu(1), as_tuple=True)
                keys = (i + start) * n_atom + j + start
                free = bonded[torch.searchsorted(bonded, keys)] != keys
                pairs.append(torch.stack([i[free], j[free]], -1) + start + k * n_atom)
                apart.append(least[i[free], j[free]])
        return torch.cat(pairs), torch.cat(apart)


def _pair_moves(
    x: Float[Tensor, "N 3"],
    pairs: Int[Tensor, "n 2"],
    least: Float[Tensor, " n"],
    most: Float[Tensor, " n"],
) -> Float[Tensor, "n 2 3"]:
    """How the atoms of each pair have to move for their distance to be at the nearest limit."""
    line = x[pairs[:, 0]] - x[pairs[:, 1]]
    distance = line.norm(dim=-1)
    excess = distance - torch.minimum(torch.maximum(distance, least), most)
    move = (0.5 * excess / distance.clamp_min(_EPS))[:, None] * line
    return torch.stack([-move, move], 1)


def _volume_moves(
    x: Float[Tensor, "N 3"],
    quads: Int[Tensor, "n 4"],
    least: Float[Tensor, " n"],
    most: Float[Tensor, " n"],
) -> Float[Tensor, "n 4 3"]:
    """The same for four atoms and their signed volume, to first order."""
    a, b, c = (x[quads[:, k]] - x[quads[:, 0]] for k in (1, 2, 3))
    cross = torch.linalg.cross
    grad = torch.stack([cross(b, c), cross(c, a), cross(a, b)], 1)
    volume = (a * grad[:, 0]).sum(-1)
    excess = volume - torch.minimum(torch.maximum(volume, least), most)
    grad = torch.cat([-grad.sum(1, keepdim=True), grad], 1)
    size = (grad**2).sum((-1, -2)).clamp_min(_EPS)
    return -(excess / size)[:, None, None] * grad


def _torsion_moves(
    x: Float[Tensor, "N 3"],
    quads: Int[Tensor, "n 4"],
    side: Int[Tensor, " n"],
    twist: Float[Tensor, " n"],
) -> Float[Tensor, "n 4 3"]:
    """The same for torsions, which belong to cis, to trans, or to what is nearer."""
    torsion, grad = torsion_and_gradient(x[quads])
    size = torsion.abs()
    trans = (side < 0) | ((side == 0) & (size > math.pi / 2))
    excess = torch.where(trans, (size + twist - math.pi).clamp_max(0), (size - twist).clamp_min(0))
    excess = torsion.sign() * excess.clamp(-_TURN, _TURN)
    norm = (grad**2).sum((-1, -2)).clamp_min(_EPS)
    return -(excess / norm)[:, None, None] * grad


def torsion_and_gradient(
    x: Float[Tensor, "n 4 3"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 4 3"]]:
    """Torsion of four atoms in a row, radians, 0 = cis, and by how much it grows with each atom.

    Source: Bekker et al. 1995, as in molecular dynamics.
    """
    before, axis, after = (x[:, k + 1] - x[:, k] for k in range(3))
    m, n = torch.linalg.cross(before, axis), torch.linalg.cross(axis, after)
    length = axis.norm(dim=-1)
    torsion = torch.atan2(length * (before * n).sum(-1), (m * n).sum(-1))
    first = -(length / (m**2).sum(-1).clamp_min(_EPS))[:, None] * m
    last = (length / (n**2).sum(-1).clamp_min(_EPS))[:, None] * n
    square = (length**2).clamp_min(_EPS)
    shift = -((before * axis).sum(-1) / square)[:, None] * first
    shift = shift + ((after * axis).sum(-1) / square)[:, None] * last
    return torsion, torch.stack([first, shift - first, -shift - last, last], 1)


def _mean_moves(
    atoms: Int[Tensor, " n"], moves: Float[Tensor, "n 3"], n_atom: int
) -> tuple[Float[Tensor, "N 3"], Bool[Tensor, "N 1"]]:
    """Mean of those moves of each atom that are not zero, and whether it has any."""
    moved = (moves != 0).any(-1, keepdim=True).to(moves.dtype)
    total = moves.new_zeros(n_atom, 4)
    rows = torch.cat([moves, moved], -1)
    if total.is_cuda:  # There index_add_ adds in any order; this sorts first.
        total.index_put_((atoms,), rows, accumulate=True)
    else:
        total.index_add_(0, atoms, rows)
    return total[:, :3] / total[:, 3:].clamp_min(1), total[:, 3:] > 0
