"""Row-wise softmax attention with the third edge as bias. AF3 SI, Algorithms 14 and 15."""

from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.triangle_attention import reference

__all__ = ["triangle_attention"]

_MAX_CHANNELS = 64


def triangle_attention(
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    *,
    norm_weight: Float[Tensor, " c_z"],
    norm_bias: Float[Tensor, " c_z"],
    weight_q: Float[Tensor, "c c_z"],
    weight_k: Float[Tensor, "c c_z"],
    weight_v: Float[Tensor, "c c_z"],
    weight_bias: Float[Tensor, "N_head c_z"],
    weight_gate: Float[Tensor, "c c_z"],
    weight_out: Float[Tensor, "c_z c"],
    transpose_bias: bool = False,
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of `z`.

    Row i attends from its pairs (i, j) to its pairs (i, k) with logits q[i, j] . k[i, k] / sqrt(d)
    + bias[j, k]; bias = W_bias LN(z), or its transpose. Keys with a False pair_mask[i, k] are left
    out; a row without any keys attends to nothing, and its update is 0.
    """
    weights = {
        "norm_weight": norm_weight,
        "norm_bias": norm_bias,
        "weight_q": weight_q,
        "weight_k": weight_k,
        "weight_v": weight_v,
        "weight_bias": weight_bias,
        "weight_gate": weight_gate,
        "weight_out": weight_out,
    }
    if backend.triton_serves(triangle_attention, z, _refusal(len(weight_q) // len(weight_bias))):
        from seedfold.kernels.triangle_attention import fused

        return fused.triangle_attention(z, pair_mask, **weights, transpose_bias=transpose_bias)
    return reference.triangle_attention(z, pair_mask, **weights, transpose_bias=transpose_bias)


def _refusal(d: int) -> str:
    """Why heads of `d` channels do not fit the kernels; empty if they do."""
    if d > _MAX_CHANNELS or d % 8:
        return f"heads of {d} channels, not a multiple of 8 up to {_MAX_CHANNELS}"
    return ""
