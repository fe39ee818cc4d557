"""Triangle multiplication with its norms, gates and projections. AF3 SI, Algorithms 12 and 13."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.triangle_multiplication import reference

__all__ = ["triangle_multiplication"]


def triangle_multiplication(
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    edges: Literal["outgoing", "incoming"],
    *,
    norm_in_weight: Float[Tensor, " c_z"],
    norm_in_bias: Float[Tensor, " c_z"],
    weight_a: Float[Tensor, "c c_z"],
    weight_a_gate: Float[Tensor, "c c_z"],
    weight_b: Float[Tensor, "c c_z"],
    weight_b_gate: Float[Tensor, "c c_z"],
    norm_out_weight: Float[Tensor, " c"],
    norm_out_bias: Float[Tensor, " c"],
    weight_out: Float[Tensor, "c_z c"],
    weight_gate: Float[Tensor, "c_z c_z"],
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of `z`.

    With y = LN(z) and operands a, b = mask * sigmoid(W_gate y) * (W y), pair (i, j) gets
    sigmoid(W_gate y[i, j]) * W_out LN(x[i, j]) of x = sum_k a[i, k] * b[j, k] for outgoing edges
    and sum_k a[k, i] * b[k, j] for incoming ones. Masked pairs are left out of the sum.
    """
    weights = {
        "norm_in_weight": norm_in_weight,
        "norm_in_bias": norm_in_bias,
        "weight_a": weight_a,
        "weight_a_gate": weight_a_gate,
        "weight_b": weight_b,
        "weight_b_gate": weight_b_gate,
        "norm_out_weight": norm_out_weight,
        "norm_out_bias": norm_out_bias,
        "weight_out": weight_out,
        "weight_gate": weight_gate,
    }
    if backend.triton_serves(triangle_multiplication, z):
        from seedfold.kernels.triangle_multiplication import fused

        return fused.triangle_multiplication(z, pair_mask, edges, **weights)
    return reference.triangle_multiplication(z, pair_mask, edges, **weights)
