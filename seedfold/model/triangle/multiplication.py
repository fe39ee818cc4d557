"""Triangle multiplication, outgoing and incoming edges. Source: AF3 SI, Algorithms 12 and 13."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.kernels import triangle_multiplication
from seedfold.model.primitives import LayerNorm, Linear

Edges = Literal["outgoing", "incoming"]


class TriangleMultiplication(nn.Module):
    """Updates pair (i, j) from the pairs of i and j with every third token k.

    Outgoing edges: sum over k of a[i, k] * b[j, k]; incoming: of a[k, i] * b[k, j].
    """

    def __init__(self, c_z: int, edges: Edges, c_hidden: int | None = None):
        super().__init__()
        c_hidden = c_hidden or c_z
        self.edges: Edges = edges
        self.layer_norm_in = LayerNorm(c_z)
        self.linear_a = Linear(c_z, c_hidden)
        self.linear_a_gate = Linear(c_z, c_hidden, init="zeros")
        self.linear_b = Linear(c_z, c_hidden)
        self.linear_b_gate = Linear(c_z, c_hidden, init="zeros")
        self.layer_norm_out = LayerNorm(c_hidden)
        self.linear_out = Linear(c_hidden, c_z, init="zeros")
        self.linear_gate = Linear(c_z, c_z, init="zeros")

    def forward(
        self,
        z: Float[Tensor, "B N_token N_token c_z"],
        pair_mask: Bool[Tensor, "B N_token N_token"],
    ) -> Float[Tensor, "B N_token N_token c_z"]:
        """Returns the update of `z`."""
        return triangle_multiplication(
            z,
            pair_mask,
            self.edges,
            norm_in_weight=self.layer_norm_in.weight,
            norm_in_bias=self.layer_norm_in.bias,
            weight_a=self.linear_a.weight,
            weight_a_gate=self.linear_a_gate.weight,
            weight_b=self.linear_b.weight,
            weight_b_gate=self.linear_b_gate.weight,
            norm_out_weight=self.layer_norm_out.weight,
            norm_out_bias=self.layer_norm_out.bias,
            weight_out=self.linear_out.weight,
            weight_gate=self.linear_gate.weight,
        )
