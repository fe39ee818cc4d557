"""A linear map of the normalised concatenation of dense and one-hot parts. AF3 SI, Algorithm 21."""

from seedfold.kernels.concat_norm_linear.reference import OneHot, concat_norm_linear

__all__ = ["OneHot", "concat_norm_linear"]
