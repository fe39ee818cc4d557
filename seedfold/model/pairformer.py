"""The Pairformer and the pair block that every pair stack is made of.

Source: AF3 SI, Algorithm 17; dropout as in its section 3.6 and in AlphaFold 2.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.kernels import own, residual
from seedfold.model.attention import AttentionPairBias
from seedfold.model.primitives import Transition
from seedfold.model.triangle import (
    TRIANGLE_ATTENTIONS,
    TriangleAttention,
    TriangleMultiplication,
)


class DropoutRowwise(nn.Module):
    """Adds an update with dropout whose mask is shared by all rows.

    Rows are axis -3 of a [..., row, column, c] tensor.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(
        self, x: Float[Tensor, "*B row column c"], update: Float[Tensor, "*B row column c"]
    ) -> Float[Tensor, "*B row column c"]:
        """Returns x + dropout(update): while training, whole columns of channels are dropped."""
        if not self.training or self.p == 0:
            return residual(x, update)
        kept = torch.rand_like(update[..., :1, :, :]) >= self.p
        return residual(x, update, kept.to(update.dtype) / (1 - self.p))


class PairBlock(nn.Module):
    """Two triangle multiplications, two triangle attentions and a transition (lines 2 to 6).

    Without autograd `z` is updated in place, as in all blocks; stacks make a copy first.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`triangle_attention`: Config of one of `TRIANGLE_ATTENTIONS`.

        `c_hidden_mul`: width inside the triangle multiplications; None is c_z.
        """

        triangle_attention: Annotated[Any, TRIANGLE_ATTENTIONS] = field(
            default_factory=TriangleAttention.Config
        )
        c_hidden_mul: int | None = None
        transition_n: int = 4
        dropout: float = 0.25

    def __init__(self, config: Config, c_z: int):
        super().__init__()
        self.triangle_multiplication_outgoing = TriangleMultiplication(
            c_z, "outgoing", config.c_hidden_mul
        )
        self.triangle_multiplication_incoming = TriangleMultiplication(
            c_z, "incoming", config.c_hidden_mul
        )
        self.triangle_attention_starting = TRIANGLE_ATTENTIONS.build(config.triangle_attention, c_z)
        self.triangle_attention_ending = TRIANGLE_ATTENTIONS.build(
            config.triangle_attention, c_z, ending=True
        )
        self.pair_transition = Transition(c_z, config.transition_n)
        self.dropout = DropoutRowwise(config.dropout)

    def forward(
        self,
        z: Float[Tensor, "B N_token N_token c_z"],
        pair_mask: Bool[Tensor, "B N_token N_token"],
    ) -> Float[Tensor, "B N_token N_token c_z"]:
        """Returns the new `z`."""
        z = self.dropout(z, self.triangle_multiplication_outgoing(z, pair_mask))
        z = self.dropout(z, self.triangle_multiplication_incoming(z, pair_mask))
        z = self.dropout(z, self.triangle_attention_starting(z, pair_mask))
        # Transposed, the ending node's rows are the columns of z: dropout is column-wise there.
        z, pair_mask = z.transpose(1, 2), pair_mask.transpose(1, 2)
        z = self.dropout(z, self.triangle_attention_ending(z, pair_mask))
        z = z.transpose(1, 2)
        return residual(z, self.pair_transition(z))


class PairformerBlock(nn.Module):
    """A pair block, then attention and transition of the single representation."""

    def __init__(self, pair: PairBlock.Config, n_heads: int, transition_n: int, c_s: int, c_z: int):
        super().__init__()
        self.pair_block = PairBlock(pair, c_z)
        self.attention_pair_bias = AttentionPairBias(c_s, c_z, n_heads)
        self.single_transition = Transition(c_s, transition_n)

    def forward(
        self,
        s: Float[Tensor, "B N_token c_s"],
        z: Float[Tensor, "B N_token N_token c_z"],
        mask: Bool[Tensor, "B N_token"],
    ) -> tuple[Float[Tensor, "B N_token c_s"], Float[Tensor, "B N_token N_token c_z"]]:
        """Returns the new `s` and `z`."""
        z = self.pair_block(z, mask[:, :, None] & mask[:, None, :])
        s = s + self.attention_pair_bias(s, self.attention_pair_bias.pair_bias(z, mask))
        return s + self.single_transition(s), z


class PairformerStack(nn.Module):
    """A stack of Pairformer blocks. AF3 SI, Algorithm 17."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`n_heads` and `transition_n` are those of the single representation."""

        n_blocks: int = 48
        n_heads: int = 16
        transition_n: int = 4
        pair: PairBlock.Config = field(default_factory=PairBlock.Config)

    def __init__(self, config: Config, c_s: int, c_z: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            PairformerBlock(config.pair, config.n_heads, config.transition_n, c_s, c_z)
            for _ in range(config.n_blocks)
        )

    def forward(
        self,
        s: Float[Tensor, "B N_token c_s"],
        z: Float[Tensor, "B N_token N_token c_z"],
        mask: Bool[Tensor, "B N_token"],
    ) -> tuple[Float[Tensor, "B N_token c_s"], Float[Tensor, "B N_token N_token c_z"]]:
        """Returns the new `s` and `z`; `mask` marks the real tokens."""
        z = own(z)
        for block in self.blocks:
            s, z = block(s, z, mask)
        return s, z
