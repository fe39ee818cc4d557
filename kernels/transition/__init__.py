"""LayerNorm, SwiGLU and down-projection. Source: AF3 SI, Algorithm 11."""

from seedfold.kernels.transition.reference import transition

__all__ = ["transition"]
