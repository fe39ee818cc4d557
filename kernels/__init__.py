"""Operations on tensors: each a folder with its definition (`reference`) and its fast versions.

An operation takes tensors and weights, knows no biology, and decides for itself how to run: which
implementation (`use`) and in how many pieces (`memory_budget`).
"""

from seedfold.kernels.adaln import adaln
from seedfold.kernels.backend import memory_budget, use
from seedfold.kernels.concat_norm_linear import OneHot, concat_norm_linear
from seedfold.kernels.linear_triangle_attention import linear_triangle_attention
from seedfold.kernels.outer_product_mean import outer_product_mean
from seedfold.kernels.pair_bias_attention import pair_bias_attention
from seedfold.kernels.pair_weighted_averaging import pair_weighted_averaging
from seedfold.kernels.residual import own, residual
from seedfold.kernels.transition import transition
from seedfold.kernels.triangle_attention import triangle_attention
from seedfold.kernels.triangle_multiplication import triangle_multiplication
from seedfold.kernels.window_attention import window_attention

WITH_KERNELS = (
    adaln,
    linear_triangle_attention,
    pair_bias_attention,
    transition,
    triangle_attention,
    triangle_multiplication,
    window_attention,
)
"""The operations that have Triton kernels."""

__all__ = [
    "WITH_KERNELS",
    "OneHot",
    "adaln",
    "concat_norm_linear",
    "linear_triangle_attention",
    "memory_budget",
    "outer_product_mean",
    "own",
    "pair_bias_attention",
    "pair_weighted_averaging",
    "residual",
    "transition",
    "triangle_attention",
    "triangle_multiplication",
    "use",
    "window_attention",
]
