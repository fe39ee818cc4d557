"""The definition: sigmoid(W_scale s' + b_scale) * LN(a) + W_offset s' with s' = w * LN(s)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def adaln(
    a: Float[Tensor, "*N c_a"],
    s: Float[Tensor, "*#N c_s"],
    norm_s_weight: Float[Tensor, " c_s"],
    weight_scale: Float[Tensor, "c_a c_s"],
    bias_scale: Float[Tensor, " c_a"],
    weight_offset: Float[Tensor, "c_a c_s"],
) -> Float[Tensor, "*N c_a"]:
    """Returns `a` normalised and modulated by `s`; no norm has an offset, that of a no scale."""
    s = F.layer_norm(s, s.shape[-1:], norm_s_weight)
    scale = torch.sigmoid(F.linear(s, weight_scale, bias_scale))
    return scale * F.layer_norm(a, a.shape[-1:]) + F.linear(s, weight_offset)
