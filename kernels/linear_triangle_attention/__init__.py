"""SeedFold's linear triangular attention, gated and additive. Source: arXiv 2512.24354."""

from seedfold.kernels.linear_triangle_attention.reference import linear_triangle_attention

__all__ = ["linear_triangle_attention"]
