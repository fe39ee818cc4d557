"""The definition: x + update."""

import torch
from jaxtyping import Float
from torch import Tensor


def residual(x: Float[Tensor, "*N"], update: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Returns the sum; the caller gives `update` up, whose memory holds it when autograd is off.

    Writing to fresh memory takes longer than adding does.
    """
    if torch.is_grad_enabled() or update.dtype != x.dtype:
        return x + update
    return update.add_(x)
