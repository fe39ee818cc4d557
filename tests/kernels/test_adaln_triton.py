import importlib

import pytest
import torch

from seedfold.kernels import adaln, use

CASES = {
    # a without channels, s without channels, c_a, c_s
    "one row": ((1,), (1,), 16, 16),
    "s of its own": ((2, 7), (2, 7), 48, 32),
    "samples": ((2, 3, 7), (2, 1, 7), 24, 40),
    "batch missing": ((2, 3, 7), (7,), 32, 16),
    "shared on both sides": ((3, 2, 5), (1, 2, 1), 16, 16),
}
if torch.cuda.is_available():
    CASES |= {
        "tokens": ((1, 5, 129), (1, 5, 129), 768, 384),
        "atoms": ((1, 6, 3001), (1, 1, 3001), 128, 128),
    }


@pytest.fixture
def fused():
    pytest.importorskip("triton")
    return importlib.import_module("seedfold.kernels.adaln.fused")


def arguments(random, a_axes, s_axes, c_a, c_s):
    return {
        "a": random(*a_axes, c_a) + 0.5,
        "s": random(*s_axes, c_s),
        "norm_s_weight": random(c_s),
        "weight_scale": random(c_a, c_s) / c_s**0.5,
        "bias_scale": random(c_a),
        "weight_offset": random(c_a, c_s) / c_s**0.5,
    }


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case, random, accurate, dtype):
    """The floor: a few rows, of which little is left behind the gradient of a LayerNorm."""
    floor = 2 * torch.finfo(dtype).eps
    accurate(adaln, arguments(random, *CASES[case]), dtype=dtype, floor=floor)


def test_transposed_arguments(random, accurate, dtype):
    tensors = arguments(random, (3, 2, 5), (3, 1, 5), 16, 16)
    tensors["a"], tensors["s"] = tensors["a"].transpose(0, 2), tensors["s"].transpose(0, 2)
    accurate(adaln, tensors, dtype=dtype)


def test_writes_all_of_its_outputs(random, accurate, dtype, monkeypatch, fused):
    """Memory that a kernel leaves out would be NaN."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *s, **k: empty(*s, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda x, **k: torch.full_like(x, torch.nan, **k))
    accurate(adaln, arguments(random, *CASES["samples"]), dtype=dtype)


def test_keeps_the_precision_of_the_residual_stream(random, device, dtype, fused):
    """Under autocast `a` and the weights stay float32, the result is in half precision."""
    if dtype == torch.float32:
        pytest.skip("for autocast")
    tensors = {k: x.float().to(device) for k, x in arguments(random, *CASES["samples"]).items()}
    tensors["a"] = tensors["a"] + 300  # The mean would swallow the rest in half precision.
    inputs = {k: x.requires_grad_() for k, x in tensors.items()}
    with torch.autocast(device.type, dtype), use("triton"):
        found = adaln(**inputs)
    assert found.dtype == dtype
    gradients = torch.autograd.grad(found.float().square().sum(), list(inputs.values()))
    expected = adaln(**inputs)
    truth = torch.autograd.grad(expected.square().sum(), list(inputs.values()))
    for a, b in zip((found, *gradients), (expected, *truth), strict=True):
        assert (a - b).norm() < 0.01 * b.norm()
    assert all(g.dtype == torch.float32 for g in gradients)


def test_custom_operators(random, device, fused):
    tensors, _ = fused.example(device, torch.float32)
    a, s = fused._rows(tensors["a"][:1, :2, :3], tensors["s"][:1, :, :3])
    weight = torch.cat([tensors["weight_scale"], tensors["weight_offset"]])
    arguments = (a, s, tensors["norm_s_weight"], weight, tensors["bias_scale"])
    torch.library.opcheck(fused._adaln, tuple(x.clone().requires_grad_() for x in arguments))
    out, projected = fused._adaln(*arguments)
    torch.library.opcheck(fused._adaln_backward, (torch.ones_like(out), *arguments, projected))
