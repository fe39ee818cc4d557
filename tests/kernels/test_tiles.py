"""The shared pieces of kernels, each in a kernel of its own."""

import pytest
import torch

triton = pytest.importorskip("triton")
tl = triton.language

from seedfold.kernels.tiles import scaled_to_half, settled  # noqa: E402


@triton.jit
def _scale(x_ptr, factor_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out_ptr + at, scaled_to_half(tl.load(x_ptr + at), tl.load(factor_ptr + at)))


@triton.jit
def _settle(x_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out_ptr + at, settled(tl.load(x_ptr + at)))


def test_scaled_to_half_rounds_twice_as_pytorch_does(device, dtype):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(256, generator=generator) * 100).to(device)
    x[:3] = torch.tensor([0.0, -0.0, 1e-30])
    factor = torch.rand(256, generator=generator).to(device, dtype)
    factor[3:5] = 0
    out = torch.full_like(factor, torch.nan)
    _scale[(1,)](x, factor, out, N=256)
    assert torch.equal(out, x.to(dtype) * factor)


def test_settled_changes_nothing(device):
    x = torch.randn(256, generator=torch.Generator().manual_seed(0)).to(device)
    out = torch.full_like(x, torch.nan)
    _settle[(1,)](x, out, N=256)
    assert torch.equal(out, x)
