"""What the tests of all operations share: how an operation is compared with its naive self.

Where there is no GPU, Triton kernels run in Triton's interpreter, on CPU tensors. It computes
bfloat16 wrongly without a word (as integers), so half precision is tested there as float16, which
takes the same path through every kernel.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seedfold.kernels import memory_budget, use

HAS_GPU = torch.cuda.is_available()
LONG = os.environ.get("SEEDFOLD_LONG") == "1"
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # Read when a kernel is defined, that is on import.


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
def device() -> torch.device:
    """Where Triton kernels are tested: the GPU, or the CPU in Triton's interpreter."""
    pytest.importorskip("triton")
    return torch.device("cuda" if HAS_GPU else "cpu")


DTYPES = {"half": torch.bfloat16 if HAS_GPU else torch.float16, "single": torch.float32}


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """float32, and bfloat16 or what stands for it in the interpreter."""
    return DTYPES[request.param]


@pytest.fixture(params=DTYPES if HAS_GPU or LONG else ["single"])
def main_dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """As `dtype`, but float32 alone in the interpreter, which takes seconds for every case.

    For what is no matter of precision: strides, masks, settings. SEEDFOLD_LONG=1 runs both.
    """
    return DTYPES[request.param]


FLOORS = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Relative errors that are never too large for outputs and gradients."""


@pytest.fixture
def accurate(device: torch.device) -> Callable[..., None]:
    """Checks the Triton kernels of an operation, output and all gradients, against float64.

    The error ||found - exact|| / ||exact|| may be 1.5 times that of plain PyTorch in the same
    precision, or the floor of that precision. The output without autograd, in blocks, is held to
    the same, and on a GPU everything must be the same to the last bit when run again.
    """

    def check(
        op: Callable[..., Tensor],
        tensors: dict[str, Tensor],
        settings: dict[str, Any] | None = None,
        *,
        dtype: torch.dtype,
        budget: int = 1,
        floor: float = 0.0,
    ) -> None:
        settings = settings or {}
        rounded = {
            name: x.to(dtype).to(device) if x.is_floating_point() else x.to(device)
            for name, x in tensors.items()
        }

        def run(implementation: str, dtype: torch.dtype) -> dict[str, Tensor]:
            inputs = {
                # Copied with its strides: transposed arguments are part of what is tested.
                name: x.to(dtype, copy=True).requires_grad_() if x.is_floating_point() else x
                for name, x in rounded.items()
            }
            floating = {name: x for name, x in inputs.items() if x.requires_grad}
            with use(implementation):
                out = op(**inputs, **settings)
                direction = torch.linspace(-40, 40, out.numel(), device=out.device).cos()
                direction = direction.view(out.shape).to(dtype)
                gradients = torch.autograd.grad(out, list(floating.values()), direction)
                with torch.no_grad(), memory_budget(budget):
                    lean = op(**inputs, **settings)
            named = {f"d {name}": g for name, g in zip(floating, gradients, strict=True)}
            return {"out": out.detach(), "lean": lean, **named}

        exact = run("reference", torch.float64)
        plain = run("reference", dtype)
        found = run("triton", dtype)
        # The interpreter runs one program after the other: only a GPU can change their order.
        again = run("triton", dtype) if HAS_GPU else found
        for name, truth in exact.items():
            size = truth.norm().item()
            error, allowed = (
                (x[name].double() - truth).norm().item() / max(size, 1e-30) for x in (found, plain)
            )
            allowed = max(1.5 * allowed, FLOORS[dtype], floor) if size > 0 else 0.0
            assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"
            assert found[name].shape == truth.shape
            assert torch.equal(found[name], again[name]), f"{name} is not repeatable"

    return check


@pytest.fixture
def pair_mask() -> Tensor:
    """Two examples of 5 tokens; some pairs are masked, not only whole tokens."""
    mask = torch.ones(2, 5, 5, dtype=torch.bool)
    mask[0, 4], mask[0, :, 4] = False, False
    mask[1, 0, 2] = mask[1, 3, 1] = False
    return mask
