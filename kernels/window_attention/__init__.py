"""Sequence-local attention in windows with pair bias. Source: AF3 SI, Algorithm 7."""

from seedfold.kernels.window_attention.reference import window_attention

__all__ = ["window_attention"]
