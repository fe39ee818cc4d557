"""Modules with weights that are nowhere zero, and pairs to put in."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Draws every parameter of a module anew, in float64."""

    def draw(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(5)
        module = module.double().eval()
        for parameter in module.parameters():
            parameter.data = torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            ) / parameter.shape[-1] ** 0.5 + float(parameter.dim() == 1)
        return module

    return draw


@pytest.fixture
def z() -> Tensor:
    """Pairs of 6 tokens, 64 wide."""
    generator = torch.Generator().manual_seed(6)
    return torch.randn(1, 6, 6, 64, generator=generator, dtype=torch.float64)


@pytest.fixture
def full() -> Tensor:
    """A mask without any False."""
    return torch.ones(1, 6, 6, dtype=torch.bool)
