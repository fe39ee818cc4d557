"""LayerNorm, SwiGLU and down-projection. Source: AF3 SI, Algorithm 11."""

from jaxtyping import Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.transition import reference

__all__ = ["transition"]


def transition(
    x: Float[Tensor, "*N c"],
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
    weight_a: Float[Tensor, "c_hidden c"],
    weight_b: Float[Tensor, "c_hidden c"],
    weight_out: Float[Tensor, "c c_hidden"],
) -> Float[Tensor, "*N c"]:
    """Returns the update of `x`, W_out (silu(W_a y) * W_b y) of y = LN(x).

    The hidden activations are never all held at once while autograd is off.
    """
    if backend.triton_serves(transition, x):
        from seedfold.kernels.transition import fused

        return fused.transition(x, norm_weight, norm_bias, weight_a, weight_b, weight_out)
    return reference.transition(x, norm_weight, norm_bias, weight_a, weight_b, weight_out)
