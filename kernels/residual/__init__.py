"""Adding an update to what it updates."""

from seedfold.kernels.residual.reference import residual

__all__ = ["residual"]
