"""SeedFold's linear triangular attention, gated and additive. Source: arXiv 2512.24354."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.linear_triangle_attention import reference

__all__ = ["linear_triangle_attention"]

_MAX_CHANNELS = 64


def linear_triangle_attention(
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    *,
    norm_weight: Float[Tensor, " c_z"],
    norm_bias: Float[Tensor, " c_z"],
    weight_q: Float[Tensor, "c c_z"],
    weight_k: Float[Tensor, "c c_z"],
    weight_v: Float[Tensor, "c c_z"],
    weight_bias: Float[Tensor, "N_head c_z"],
    norm_out_weight: Float[Tensor, " c"],
    norm_out_bias: Float[Tensor, " c"],
    weight_gate: Float[Tensor, "c c_z"],
    weight_out: Float[Tensor, "c_z c"],
    gated: bool,
    bias_activation: Literal["sigmoid", "relu", "identity"],
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of `z`: W_out (sigmoid(W_gate LN(z)) * LN(o)).

    With psi = bias_activation(W_bias LN(z)), row i sums over its keys k

        (relu(q[i, j]) . relu(k[i, k])) * psi[j, k] * v[i, k]      if `gated`, else
        (relu(q[i, j]) . relu(k[i, k]) + psi[j, k]) * v[i, k].

    Keys with a False pair_mask[i, k] are left out.
    """
    arguments = {
        "norm_weight": norm_weight,
        "norm_bias": norm_bias,
        "weight_q": weight_q,
        "weight_k": weight_k,
        "weight_v": weight_v,
        "weight_bias": weight_bias,
        "norm_out_weight": norm_out_weight,
        "norm_out_bias": norm_out_bias,
        "weight_gate": weight_gate,
        "weight_out": weight_out,
        "gated": gated,
        "bias_activation": bias_activation,
    }
    refusal = _refusal(len(weight_q) // len(weight_bias))
    if backend.triton_serves(linear_triangle_attention, z, refusal):
        from seedfold.kernels.linear_triangle_attention import fused

        return fused.linear_triangle_attention(z, pair_mask, **arguments)
    return reference.linear_triangle_attention(z, pair_mask, **arguments)


def _refusal(d: int) -> str:
    """Why heads of `d` channels do not fit the kernels; empty if they do."""
    if d > _MAX_CHANNELS or d % 8:
        return f"heads of {d} channels, not a multiple of 8 up to {_MAX_CHANNELS}"
    return ""
