"""The definition: x + update * scale, in place where autograd does not need `x`."""

import torch
from jaxtyping import Float
from torch import Tensor


def residual(
    x: Float[Tensor, "*N"],
    update: Float[Tensor, "*N"],
    scale: Float[Tensor, "*#N"] | None = None,
) -> Float[Tensor, "*N"]:
    """Returns x + update * scale; when autograd is off, in the memory of `x`, which is given up.

    All frames between a stack and its innermost block then hold one and the same tensor. `scale`,
    the mask of a dropout, gets no gradient.
    """
    if scale is not None:
        return torch.addcmul(x, update, scale.detach())
    if torch.is_grad_enabled() or torch.promote_types(x.dtype, update.dtype) != x.dtype:
        return x + update
    return x.add_(update)


def own(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """A copy that `residual` may write to; `x` itself while autograd is on."""
    return x if torch.is_grad_enabled() else x.clone()
