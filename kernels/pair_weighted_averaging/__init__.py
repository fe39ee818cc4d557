"""Averaging of every MSA row with weights from the pair representation. AF3 SI, Algorithm 10."""

from seedfold.kernels.pair_weighted_averaging.reference import pair_weighted_averaging

__all__ = ["pair_weighted_averaging"]
