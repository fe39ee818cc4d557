"""Linear triangular attention, gated and additive. Source: SeedFold, arXiv 2512.24354.

With phi = ReLU on queries and keys, per head and row i,

    gated:     o[j] = sum_k (phi(q[j]) . phi(k[k])) psi(b[j, k]) v[k]         psi = sigmoid
    additive:  o[j] = sum_k (phi(q[j]) . phi(k[k]) + psi(b[j, k])) v[k]       psi = ReLU

and the update is Linear(sigmoid(gate) * LayerNorm(o)), the norm over all heads together. There is
no softmax and no denominator. Masked keys have their phi(k) and v set to zero, which is exact.

The paper leaves psi of the additive form open: its pseudocode takes ReLU, a comment beside it a
sigmoid. `bias_activation` chooses.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.kernels import linear_triangle_attention
from seedfold.model.primitives import LayerNorm, Linear
from seedfold.model.triangle.attention import whole_heads

BiasActivation = Literal["sigmoid", "relu", "identity"]


class _LinearTriangleAttention(nn.Module):
    """What the two forms share: projections, output norm and gate."""

    gated: bool
    bias_activation: BiasActivation

    def __init__(self, c_z: int, n_heads: int | None, c_head: int):
        super().__init__()
        self.n_heads = n_heads or whole_heads(c_z, c_head)
        c_hidden = self.n_heads * c_head
        self.layer_norm = LayerNorm(c_z)
        self.linear_q = Linear(c_z, c_hidden)
        self.linear_k = Linear(c_z, c_hidden)
        self.linear_v = Linear(c_z, c_hidden)
        self.linear_bias = Linear(c_z, self.n_heads)
        self.layer_norm_out = LayerNorm(c_hidden)
        self.linear_gate = Linear(c_z, c_hidden, init="zeros")
        self.linear_out = Linear(c_hidden, c_z, init="zeros")

    def forward(
        self,
        z: Float[Tensor, "B N_token N_token c_z"],
        pair_mask: Bool[Tensor, "B N_token N_token"],
    ) -> Float[Tensor, "B N_token N_token c_z"]:
        """Returns the update of `z`."""
        return linear_triangle_attention(
            z,
            pair_mask,
            norm_weight=self.layer_norm.weight,
            norm_bias=self.layer_norm.bias,
            weight_q=self.linear_q.weight,
            weight_k=self.linear_k.weight,
            weight_v=self.linear_v.weight,
            weight_bias=self.linear_bias.weight,
            norm_out_weight=self.layer_norm_out.weight,
            norm_out_bias=self.layer_norm_out.bias,
            weight_gate=self.linear_gate.weight,
            weight_out=self.linear_out.weight,
            gated=self.gated,
            bias_activation=self.bias_activation,
        )


class GatedTriangleAttention(_LinearTriangleAttention):
    """The form of SeedFold-Linear: the bias gates every product of query and key."""

    gated = True
    bias_activation = "sigmoid"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`n_heads` None is c_z / c_head heads."""

        kind: Literal["linear_gated"] = "linear_gated"
        n_heads: int | None = None
        c_head: int = 32

    def __init__(self, config: Config, c_z: int, ending: bool = False):
        super().__init__(c_z, config.n_heads, config.c_head)


class AdditiveTriangleAttention(_LinearTriangleAttention):
    """The cheaper form: the bias is added, so that it is one matrix product for all rows."""

    gated = False

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`n_heads` None is c_z / c_head heads."""

        kind: Literal["linear_additive"] = "linear_additive"
        n_heads: int | None = None
        c_head: int = 32
        bias_activation: BiasActivation = "relu"

    def __init__(self, config: Config, c_z: int, ending: bool = False):
        super().__init__(c_z, config.n_heads, config.c_head)
        self.bias_activation = config.bias_activation
