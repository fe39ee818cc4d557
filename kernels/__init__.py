"""Operations on tensors: each a folder with its definition (`reference`) and its fast versions."""

from seedfold.kernels.pair_bias_attention import pair_bias_attention
from seedfold.kernels.transition import transition

__all__ = ["pair_bias_attention", "transition"]
