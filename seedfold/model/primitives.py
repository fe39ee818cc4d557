"""The small layers everything else is made of. Source: AF3 SI, Algorithms 11, 22, 25, 26."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seedfold.kernels import adaln, transition

Init = Literal["default", "relu", "zeros"]


class Linear(nn.Linear):
    """A linear layer without bias unless asked; `init` as in AF3 SI 5.1 (LeCun, He, zeros).

    `bias_init` is the constant the bias starts from, -2 for the gates of Algorithms 24 and 25.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        bias: bool = False,
        init: Init = "default",
        bias_init: float = 0.0,
    ):
        self._init, self._bias_init = init, bias_init
        super().__init__(c_in, c_out, bias=bias)

    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        if self._init == "zeros":
            nn.init.zeros_(self.weight)
        else:
            # Standard deviation of a normal truncated at +-2 is 0.8796 of its parameter.
            scale = 2.0 if self._init == "relu" else 1.0
            std = math.sqrt(scale / self.in_features) / 0.87962566103423978
            nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)
        if self.bias is not None:
            nn.init.constant_(self.bias, self._bias_init)


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis; `scale` and `offset` say which parameters it has."""

    def __init__(self, c: int, scale: bool = True, offset: bool = True):
        super().__init__(c, elementwise_affine=scale, bias=offset)


class Transition(nn.Module):
    """LayerNorm, SwiGLU of width n * c, and back. AF3 SI, Algorithm 11."""

    def __init__(self, c: int, n: int):
        super().__init__()
        self.layer_norm = LayerNorm(c)
        self.linear_a = Linear(c, n * c, init="relu")
        self.linear_b = Linear(c, n * c, init="relu")
        self.linear_out = Linear(n * c, c, init="zeros")

    def forward(self, x: Float[Tensor, "*N c"]) -> Float[Tensor, "*N c"]:
        """Returns the update of `x`."""
        return transition(
            x,
            self.layer_norm.weight,
            self.layer_norm.bias,
            self.linear_a.weight,
            self.linear_b.weight,
            self.linear_out.weight,
        )


class AdaLN(nn.Module):
    """LayerNorm of `a` whose scale and offset come from `s`. AF3 SI, Algorithm 26."""

    def __init__(self, c_a: int, c_s: int):
        super().__init__()
        self.layer_norm_a = LayerNorm(c_a, scale=False, offset=False)
        self.layer_norm_s = LayerNorm(c_s, offset=False)
        self.linear_scale = Linear(c_s, c_a, bias=True, init="zeros")
        self.linear_offset = Linear(c_s, c_a, init="zeros")

    def forward(
        self, a: Float[Tensor, "*N c_a"], s: Float[Tensor, "*#N c_s"]
    ) -> Float[Tensor, "*N c_a"]:
        """Returns `a` normalised and modulated by `s`."""
        return adaln(
            a,
            s,
            self.layer_norm_s.weight,
            self.linear_scale.weight,
            self.linear_scale.bias,
            self.linear_offset.weight,
        )


class ConditionedTransitionBlock(nn.Module):
    """SwiGLU transition conditioned on `s`. AF3 SI, Algorithm 25.

    `extra_factor` adds Boltz-1's fourth matrix: the SwiGLU is multiplied by a plain projection of
    the normalised input (the structure module of SeedFold's parameter table, docs/model.md).
    """

    def __init__(self, c_a: int, c_s: int, n: int = 2, extra_factor: bool = False):
        super().__init__()
        self.adaln = AdaLN(c_a, c_s)
        self.linear_a = Linear(c_a, n * c_a, init="relu")
        self.linear_b = Linear(c_a, n * c_a, init="relu")
        self.linear_factor = Linear(c_a, n * c_a) if extra_factor else None
        self.linear_out = Linear(n * c_a, c_a)
        self.linear_gate = Linear(c_s, c_a, bias=True, init="zeros", bias_init=-2.0)

    def forward(
        self, a: Float[Tensor, "*N c_a"], s: Float[Tensor, "*#N c_s"]
    ) -> Float[Tensor, "*N c_a"]:
        """Returns the update of `a`."""
        a = self.adaln(a, s)
        b = F.silu(self.linear_a(a)) * self.linear_b(a)
        if self.linear_factor is not None:
            b = b * self.linear_factor(a)
        return torch.sigmoid(self.linear_gate(s)) * self.linear_out(b)


class FourierEmbedding(nn.Module):
    """cos(2 pi (t w + b)) with fixed random w and b. AF3 SI, Algorithm 22.

    The constants are buffers of the state dict, drawn from a fixed seed: a model whose constants
    were redrawn would be broken without any error.
    """

    w: Tensor
    b: Tensor

    def __init__(self, c: int):
        super().__init__()
        generator = torch.Generator().manual_seed(42)
        self.register_buffer("w", torch.randn(c, generator=generator))
        self.register_buffer("b", torch.randn(c, generator=generator))

    def forward(self, t: Float[Tensor, "*N"]) -> Float[Tensor, "*N c"]:
        """Embeds the noise level `t` (dimensionless)."""
        return torch.cos(2 * math.pi * (t[..., None] * self.w + self.b))
