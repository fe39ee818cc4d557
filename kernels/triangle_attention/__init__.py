"""Row-wise softmax attention with the third edge as bias. AF3 SI, Algorithms 14 and 15."""

from seedfold.kernels.triangle_attention.reference import triangle_attention

__all__ = ["triangle_attention"]
