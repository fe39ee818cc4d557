"""Relative position encoding. Source: AF3 SI, Algorithm 3.

Deviations: the chain offset is compared within an entity, the erratum that all public models
follow. Residues of a cyclic chain are as far apart as the shorter way around says.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seedfold.data_pipeline.features import Features
from seedfold.kernels import OneHot
from seedfold.model.primitives import Linear

R_MAX = 32
"""Residue and token offsets are clipped to +-R_MAX; one more class is for other chains."""
S_MAX = 2
"""Offsets between copies of an entity are clipped to +-S_MAX."""
N_RESIDUE, N_TOKEN, N_CHAIN = 2 * R_MAX + 2, 2 * R_MAX + 2, 2 * S_MAX + 2
N_RELATIVE_POSITION = N_RESIDUE + N_TOKEN + 1 + N_CHAIN
"""139: residue offset 66, token offset 66, same entity 1, chain offset 6, in this order."""


class RelativePositions(NamedTuple):
    """Classes of every pair of tokens (i, j), each counted from 0; offsets are i - j."""

    residue: Int[Tensor, "B N_token N_token"]
    token: Int[Tensor, "B N_token N_token"]
    same_entity: Bool[Tensor, "B N_token N_token"]
    chain: Int[Tensor, "B N_token N_token"]


def relative_positions(f: Features) -> RelativePositions:
    """The relative positions of all pairs of tokens."""
    same_chain = _same(f.asym_id)
    same_entity = _same(f.entity_id)
    offset = _difference(f.residue_index)
    period = f.cyclic_period[..., :, None]
    wrapped = offset - period * torch.round(offset / period.clamp(min=1)).to(offset.dtype)
    offset = torch.where(same_chain & (period > 0), wrapped, offset)
    same_residue = same_chain & _same(f.residue_index)
    return RelativePositions(
        residue=_clip(offset, R_MAX, same_chain),
        token=_clip(_difference(f.token_index), R_MAX, same_residue),
        same_entity=same_entity,
        chain=_clip(_difference(f.sym_id), S_MAX, same_entity),
    )


def raw_parts(positions: RelativePositions, dtype: torch.dtype) -> list[Tensor | OneHot]:
    """The raw features of Algorithm 3, line 11, for those who need them before any projection."""
    return [
        OneHot(positions.residue, N_RESIDUE),
        OneHot(positions.token, N_TOKEN),
        positions.same_entity[..., None].to(dtype),
        OneHot(positions.chain, N_CHAIN),
    ]


class RelativePositionEncoding(nn.Module):
    """A linear map of the one-hot relative positions, read as rows of its weight."""

    def __init__(self, c_z: int):
        super().__init__()
        self.linear = Linear(N_RELATIVE_POSITION, c_z)

    def forward(self, f: Features) -> Float[Tensor, "B N_token N_token c_z"]:
        """Encodes the relative positions of all pairs of tokens."""
        positions = relative_positions(f)
        residue, token, entity, chain = self.linear.weight.t().split(
            [N_RESIDUE, N_TOKEN, 1, N_CHAIN]
        )
        # Entity and chain share one table: row e * N_CHAIN + chain.
        entity_chain = torch.cat([chain, chain + entity])
        z = F.embedding(positions.residue, residue)
        z = z + F.embedding(positions.token, token)
        return z + F.embedding(positions.same_entity * N_CHAIN + positions.chain, entity_chain)


def _same(index: Int[Tensor, "B N"]) -> Bool[Tensor, "B N N"]:
    return index[..., :, None] == index[..., None, :]


def _difference(index: Int[Tensor, "B N"]) -> Int[Tensor, "B N N"]:
    return index[..., :, None] - index[..., None, :]


def _clip(
    offset: Int[Tensor, "B N N"], limit: int, comparable: Bool[Tensor, "B N N"]
) -> Int[Tensor, "B N N"]:
    inside = (offset + limit).clamp(0, 2 * limit)
    return torch.where(comparable, inside, 2 * limit + 1).long()
