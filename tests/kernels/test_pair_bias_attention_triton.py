import importlib

import pytest
import torch

from seedfold.kernels import pair_bias_attention, use

CASES = {
    # batch and samples, heads, queries, keys, channels
    "no samples": ((2,), 2, 21, 21, 24),
    "samples": ((1, 3), 2, 19, 33, 16),
    "batch and samples": ((2, 2), 1, 17, 7, 48),
}
if torch.cuda.is_available():
    CASES |= {
        "diffusion": ((1, 5), 16, 385, 385, 48),
        "single": ((1,), 16, 383, 383, 24),
        "training": ((2, 8), 4, 129, 129, 64),
    }


@pytest.fixture
def fused():
    pytest.importorskip("triton")
    return importlib.import_module("seedfold.kernels.pair_bias_attention.fused")


def arguments(random, batch, n_head, n_q, n_k, c):
    """Operands as a model has them, transposed; the last keys of the first example are masked."""
    q, k, v = (random(*batch, n, n_head, c).transpose(-2, -3) for n in (n_q, n_k, n_k))
    bias = random(batch[0], n_head, n_q, n_k)
    bias[0, ..., -(n_k // 4 + 1) :] = -1e4
    return {"q": q, "k": k, "v": v, "bias": bias}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case, random, accurate, dtype):
    accurate(pair_bias_attention, arguments(random, *CASES[case]), dtype=dtype)


def test_operands_of_any_strides(random, accurate, dtype):
    """Slices of one projection and a bias whose heads come last."""
    tensors = arguments(random, *CASES["no samples"])
    q, k, v = random(2, 21, 3, 2, 24).unbind(2)
    tensors |= {n: x.transpose(1, 2) for n, x in zip("qkv", (q, k, v), strict=True)}
    tensors["bias"] = random(2, 21, 21, 2).permute(0, 3, 1, 2)
    accurate(pair_bias_attention, tensors, dtype=dtype)


def test_contiguous_heads(random, accurate, dtype):
    tensors = arguments(random, *CASES["samples"])
    accurate(pair_bias_attention, {n: x.contiguous() for n, x in tensors.items()}, dtype=dtype)


def test_writes_all_of_its_outputs(random, accurate, dtype, monkeypatch, fused):
    """Memory that a kernel leaves out would be NaN."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *s, **k: empty(*s, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda x, **k: torch.full_like(x, torch.nan, **k))
    accurate(pair_bias_attention, arguments(random, *CASES["samples"]), dtype=dtype)


def test_one_token(random, device, dtype, fused):
    """Its weight is 1 whatever the logit is."""
    tensors = {n: x.to(device, dtype) for n, x in arguments(random, (1, 2), 1, 1, 1, 16).items()}
    inputs = {n: x.requires_grad_() for n, x in tensors.items()}
    with use("triton"):
        out = pair_bias_attention(**inputs)
    d_q, d_k, d_v, d_bias = torch.autograd.grad(out.sum(), list(inputs.values()))
    torch.testing.assert_close(out, inputs["v"], rtol=1e-6, atol=0)
    torch.testing.assert_close(d_v, torch.ones_like(d_v), rtol=1e-6, atol=0)
    assert max(x.abs().max().item() for x in (d_q, d_k, d_bias)) < 1e-4


@pytest.mark.parametrize("masked", [-1e9, -torch.inf])
def test_masked_keys(masked, random, device, dtype, fused):
    """Masked keys neither matter nor get gradients; a query without keys sees all of them."""
    tensors = arguments(random, *CASES["no samples"])
    tensors["bias"][..., 15:] = masked
    tensors["bias"][1, 0, 6] = masked
    inputs = {n: x.to(device, dtype, copy=True).requires_grad_() for n, x in tensors.items()}
    with use("triton"):
        out = pair_bias_attention(**inputs)
        gradients = torch.autograd.grad(out.float().square().sum(), list(inputs.values()))
    # In exact arithmetic equal biases of all keys cancel.
    exact = {n: x.detach().double() for n, x in inputs.items()}
    exact["bias"] = exact["bias"].clamp_min(-1e4)
    exact["bias"][1, 0, 6] = 0
    exact = {n: x.requires_grad_() for n, x in exact.items()}
    expected = pair_bias_attention(**exact)
    truth = torch.autograd.grad(expected.square().sum(), list(exact.values()))
    assert all((g[0, :, 15:] == 0).all() for g in gradients[1:3])
    assert (gradients[3][0, ..., 15:] == 0).all()
    for found, right in zip((out, *gradients), (expected, *truth), strict=True):
        assert found.isfinite().all()
        assert (found - right).norm() < (2e-3 if dtype == torch.float32 else 2e-2) * right.norm()


def test_custom_operators(device, fused):
    tensors, _ = fused.example(device, torch.float32)
    operands = [fused._by_token(tensors[n][:, :2, :, :5]).clone() for n in "qkv"]
    inputs = [*operands, tensors["bias"][..., :5, :5].clone()]
    torch.library.opcheck(fused._attend, tuple(x.clone().requires_grad_() for x in inputs))
    o, lse = fused._attend(*inputs)
    torch.library.opcheck(fused._attend_backward, (torch.ones_like(o), *inputs, o, lse))


def test_refuses_wide_heads(random, device):
    tensors = arguments(random, (1,), 1, 4, 4, 80)
    with use("triton"), pytest.raises(RuntimeError, match="80 channels"):
        pair_bias_attention(**{n: x.to(device) for n, x in tensors.items()})
