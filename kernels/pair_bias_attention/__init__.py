"""Attention whose bias is shared by samples. Source: AF3 SI, Algorithm 24."""

from jaxtyping import Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.pair_bias_attention import reference

__all__ = ["pair_bias_attention"]

_MAX_CHANNELS = 64


def pair_bias_attention(
    q: Float[Tensor, "B *S N_head N_q c"],
    k: Float[Tensor, "B *S N_head N_k c"],
    v: Float[Tensor, "B *S N_head N_k c"],
    bias: Float[Tensor, "B N_head N_q N_k"],
) -> Float[Tensor, "B *S N_head N_q c"]:
    """Attends with `bias` added to the scaled logits; masking is a large negative bias."""
    c = q.shape[-1]
    refusal = f"heads of {c} channels are too wide" if c > _MAX_CHANNELS else ""
    if backend.triton_serves(pair_bias_attention, q, refusal):
        from seedfold.kernels.pair_bias_attention import fused

        return fused.pair_bias_attention(q, k, v, bias)
    return reference.pair_bias_attention(q, k, v, bias)
