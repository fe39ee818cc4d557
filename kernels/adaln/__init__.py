"""LayerNorm whose scale and offset come from a conditioning. Source: AF3 SI, Algorithm 26."""

from jaxtyping import Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.adaln import reference

__all__ = ["adaln"]


def adaln(
    a: Float[Tensor, "*N c_a"],
    s: Float[Tensor, "*#N c_s"],
    norm_s_weight: Float[Tensor, " c_s"],
    weight_scale: Float[Tensor, "c_a c_s"],
    bias_scale: Float[Tensor, " c_a"],
    weight_offset: Float[Tensor, "c_a c_s"],
) -> Float[Tensor, "*N c_a"]:
    """Returns sigmoid(W_scale s' + b_scale) * LN(a) + W_offset s' with s' = w * LN(s).

    `s` is broadcast over those axes of `a` along which it is the same, such as samples.
    """
    if backend.triton_serves(adaln, a):
        from seedfold.kernels.adaln import fused

        return fused.adaln(a, s, norm_s_weight, weight_scale, bias_scale, weight_offset)
    return reference.adaln(a, s, norm_s_weight, weight_scale, bias_scale, weight_offset)
