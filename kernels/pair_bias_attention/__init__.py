"""Attention whose bias is shared by samples. Source: AF3 SI, Algorithm 24."""

from seedfold.kernels.pair_bias_attention.reference import pair_bias_attention

__all__ = ["pair_bias_attention"]
