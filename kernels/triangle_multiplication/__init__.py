"""Triangle multiplication with its norms, gates and projections. AF3 SI, Algorithms 12 and 13."""

from seedfold.kernels.triangle_multiplication.reference import triangle_multiplication

__all__ = ["triangle_multiplication"]
