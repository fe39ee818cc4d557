"""What the tests of all operations share: how an operation is compared with its naive self."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seedfold.kernels import memory_budget


@pytest.fixture
def random() -> Callable[..., Tensor]:
    """Draws float64 numbers of a shape, the same in every run."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture
def agree() -> Callable[..., None]:
    """Checks an operation against a naive one: output and gradients, whole and in blocks."""

    def check(
        op: Callable[..., Tensor], naive: Callable[..., Tensor], *inputs: Tensor, **weights: Tensor
    ) -> None:
        floating = [x for x in (*inputs, *weights.values()) if x.is_floating_point()]
        for x in floating:
            x.requires_grad_()
        expected = naive(*inputs, **weights)
        found = op(*inputs, **weights)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        direction = torch.randn_like(expected)
        for a, b in zip(
            torch.autograd.grad(found, floating, direction),
            torch.autograd.grad(expected, floating, direction),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
        for budget in (1, 2000, 10**9):
            with torch.no_grad(), memory_budget(budget):
                found = op(*inputs, **weights)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    return check


@pytest.fixture
def pair_mask() -> Tensor:
    """Two examples of 5 tokens; some pairs are masked, not only whole tokens."""
    mask = torch.ones(2, 5, 5, dtype=torch.bool)
    mask[0, 4], mask[0, :, 4] = False, False
    mask[1, 0, 2] = mask[1, 3, 1] = False
    return mask
