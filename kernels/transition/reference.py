"""The definition: W_out (silu(W_a LN(x)) * W_b LN(x))."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seedfold.kernels.backend import by_rows


def transition(
    x: Float[Tensor, "*N c"],
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
    weight_a: Float[Tensor, "c_hidden c"],
    weight_b: Float[Tensor, "c_hidden c"],
    weight_out: Float[Tensor, "c c_hidden"],
) -> Float[Tensor, "*N c"]:
    """Returns the update of `x`; the hidden activations are never all held at once."""
    flat = x.reshape(-1, x.shape[-1])

    def update(rows: slice) -> Tensor:
        y = F.layer_norm(flat[rows], flat.shape[1:], norm_weight, norm_bias)
        return F.linear(F.silu(F.linear(y, weight_a)) * F.linear(y, weight_b), weight_out)

    bytes_each = x.element_size() * (2 * len(norm_weight) + 3 * len(weight_a))
    return by_rows(update, bytes_each, torch.empty_like(flat)).view(x.shape)
