"""Mean over MSA rows of outer products of two tokens' projections. AF3 SI, Algorithm 9."""

from seedfold.kernels.outer_product_mean.reference import outer_product_mean

__all__ = ["outer_product_mean"]
