"""Triangle attention with softmax. Source: AF3 SI, Algorithms 14 and 15.

Deviations: none from the supplement, whose ending node reads its bias from the transposed pair
(k, j). AlphaFold 3's released code reads it from (j, k); `ending_bias="original"` does the same.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.kernels import triangle_attention
from seedfold.model.primitives import LayerNorm, Linear


class TriangleAttention(nn.Module):
    """Attention along each row of the pair representation, biased by the third edge."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`n_heads` None is c_z / c_head heads; a number fixes them whatever c_z is."""

        kind: Literal["softmax"] = "softmax"
        n_heads: int | None = None
        c_head: int = 32
        ending_bias: Literal["transposed", "original"] = "transposed"

    def __init__(self, config: Config, c_z: int, ending: bool = False):
        super().__init__()
        self.n_heads = config.n_heads or whole_heads(c_z, config.c_head)
        self.transpose_bias = ending and config.ending_bias == "original"
        c_hidden = self.n_heads * config.c_head
        self.layer_norm = LayerNorm(c_z)
        self.linear_q = Linear(c_z, c_hidden)
        self.linear_k = Linear(c_z, c_hidden)
        self.linear_v = Linear(c_z, c_hidden)
        self.linear_bias = Linear(c_z, self.n_heads)
        self.linear_gate = Linear(c_z, c_hidden, init="zeros")
        self.linear_out = Linear(c_hidden, c_z, init="zeros")

    def forward(
        self,
        z: Float[Tensor, "B N_token N_token c_z"],
        pair_mask: Bool[Tensor, "B N_token N_token"],
    ) -> Float[Tensor, "B N_token N_token c_z"]:
        """Returns the update of `z`."""
        return triangle_attention(
            z,
            pair_mask,
            norm_weight=self.layer_norm.weight,
            norm_bias=self.layer_norm.bias,
            weight_q=self.linear_q.weight,
            weight_k=self.linear_k.weight,
            weight_v=self.linear_v.weight,
            weight_bias=self.linear_bias.weight,
            weight_gate=self.linear_gate.weight,
            weight_out=self.linear_out.weight,
            transpose_bias=self.transpose_bias,
        )


def whole_heads(c_z: int, c_head: int) -> int:
    """How many heads of `c_head` make up `c_z`.

    Raises:
        ValueError: if they leave a rest.
    """
    if c_z % c_head:
        raise ValueError(
            f"triangle attention: found c_z {c_z} and c_head {c_head}; expected a multiple of "
            "c_head, or n_heads to be given"
        )
    return c_z // c_head
