"""The triangle operations of a pair stack, and the table of its interchangeable attentions.

A triangle attention is a module whose name stands in `TRIANGLE_ATTENTIONS`, or anywhere else:
configurations may name it as ``kind: "package.module:Class"``. What it must satisfy:

- a nested frozen dataclass ``Config`` with a field ``kind: Literal["its name"]``;
- ``__init__(config, c_z, ending=False)``; `ending` tells it that it serves the ending node, for
  the rare variant to which that makes a difference;
- ``forward(z, pair_mask) -> update``, `z` of shape [B, N_token, N_token, c_z]: row-wise attention
  around the starting node (AF3 SI, Algorithm 14), where row i holds queries j and keys k, and the
  bias is read from z[j, k]. `PairBlock` gives the ending node the transposed `z`, and adds dropout
  and residual itself;
- pairs whose `pair_mask` is False change nothing at the others, and the dtype of `z` is kept.

The contract tests run over the table.
"""

from seedfold.config import Variants
from seedfold.model.triangle.attention import TriangleAttention
from seedfold.model.triangle.linear_attention import (
    AdditiveTriangleAttention,
    GatedTriangleAttention,
)
from seedfold.model.triangle.multiplication import TriangleMultiplication

TRIANGLE_ATTENTIONS = Variants(
    softmax=TriangleAttention,
    linear_gated=GatedTriangleAttention,
    linear_additive=AdditiveTriangleAttention,
)

__all__ = [
    "TRIANGLE_ATTENTIONS",
    "AdditiveTriangleAttention",
    "GatedTriangleAttention",
    "TriangleAttention",
    "TriangleMultiplication",
]
