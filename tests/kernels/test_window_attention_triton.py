import importlib

import pytest
import torch

from seedfold.kernels import use, window_attention

CASES = {
    # batch and samples, heads, atoms, channels, queries, keys
    "one atom": ((1,), 1, 1, 16, 4, 8),
    "no samples": ((2,), 2, 11, 16, 4, 8),
    "short last block": ((1, 3), 2, 21, 24, 8, 20),
    "batch and samples": ((2, 2), 1, 9, 16, 4, 6),
}
if torch.cuda.is_available():
    CASES |= {
        "atoms": ((1, 7), 4, 1003, 32, 32, 128),
        "wide": ((2, 2), 2, 333, 64, 32, 128),
    }


@pytest.fixture
def fused():
    pytest.importorskip("triton")
    return importlib.import_module("seedfold.kernels.window_attention.fused")


def arguments(random, batch, n_head, n_atom, c, n_queries, n_keys):
    """Windows around their queries; keys outside the molecule are masked."""
    q, k, v = (random(*batch, n_atom, n_head, c).transpose(-2, -3) for _ in range(3))
    first = torch.arange(0, n_atom, n_queries)[:, None] - (n_keys - n_queries) // 2
    key_index = first + torch.arange(n_keys)
    outside = (key_index < 0) | (key_index >= n_atom)
    bias = random(batch[0], n_head, len(first), n_queries, n_keys)
    bias = bias.masked_fill(outside[:, None], -1e4)
    return {"q": q, "k": k, "v": v, "bias": bias, "key_index": key_index.clamp(0, n_atom - 1)}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case, random, accurate, dtype):
    accurate(window_attention, arguments(random, *CASES[case]), dtype=dtype)


def test_operands_of_any_strides(random, accurate, dtype):
    """Slices of one projection, a transposed bias, and windows in no order."""
    tensors = arguments(random, *CASES["no samples"])
    q, k, v = random(2, 11, 3, 2, 16).unbind(2)
    tensors |= {n: x.transpose(1, 2) for n, x in zip("qkv", (q, k, v), strict=True)}
    tensors["bias"] = random(3, 2, 4, 8, 2).permute(4, 1, 0, 2, 3)
    generator = torch.Generator().manual_seed(0)
    tensors["key_index"] = torch.randint(11, (3, 8), generator=generator)
    accurate(window_attention, tensors, dtype=dtype)


def test_contiguous_heads(random, accurate, dtype):
    tensors = arguments(random, *CASES["no samples"])
    tensors |= {n: tensors[n].contiguous() for n in "qkv"}
    accurate(window_attention, tensors, dtype=dtype)


def test_writes_all_of_its_outputs(random, accurate, dtype, monkeypatch, fused):
    """Memory that a kernel leaves out would be NaN."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *s, **k: empty(*s, **k).fill_(torch.nan))
    accurate(window_attention, arguments(random, *CASES["short last block"]), dtype=dtype)


@pytest.mark.parametrize("masked", [-1e9, -torch.inf])
def test_masked_keys(masked, random, device, dtype, fused):
    """Masked keys neither matter nor get gradients; a query without keys sees all of its window."""
    tensors = arguments(random, *CASES["no samples"])
    tensors["bias"][:, :, :, :, 5] = masked
    tensors["bias"][1, 0, 1, 2] = masked  # Atom 6 has no keys at all.
    tensors = {n: x.to(device) for n, x in tensors.items()}
    key_index = tensors.pop("key_index")
    inputs = {n: x.to(dtype, copy=True).requires_grad_() for n, x in tensors.items()}
    with use("triton"):
        out = window_attention(**inputs, key_index=key_index)
        gradients = torch.autograd.grad(out.float().square().sum(), list(inputs.values()))
    # In exact arithmetic equal biases of all keys cancel.
    exact = {n: x.detach().double().requires_grad_() for n, x in inputs.items()}
    tensors["bias"] = exact["bias"].detach().clamp_min(-1e4)
    tensors["bias"][1, 0, 1, 2] = 0
    exact["bias"] = tensors["bias"].requires_grad_()
    expected = window_attention(**exact, key_index=key_index)
    truth = torch.autograd.grad(expected.square().sum(), list(exact.values()))
    d_bias = gradients[3].clone()
    assert (d_bias[0, :, :, :, 5] == 0).all()
    assert (d_bias[:, :, 2, 3:] == 0).all(), "of queries beyond the last atom"
    for found, right in zip((out, *gradients), (expected, *truth), strict=True):
        assert found.isfinite().all()
        assert (found - right).norm() < (2e-3 if dtype == torch.float32 else 2e-2) * right.norm()


def test_custom_operators(random, device, fused):
    tensors = arguments(random, (1, 2), 1, 5, 16, 4, 6)
    key_index = tensors.pop("key_index").to(device)
    bias = tensors.pop("bias").float().to(device)
    inputs = [fused._by_atom(x.float().to(device)) for x in tensors.values()] + [bias]
    recorded = [x.clone().requires_grad_() for x in inputs]
    torch.library.opcheck(fused._attend, (*recorded, key_index))
    torch.library.opcheck(fused._attend_backward, (inputs[0], *inputs, key_index))


def test_refuses_what_no_program_can_hold(random, device):
    tensors = arguments(random, (1,), 1, 4, 80, 4, 4)
    with use("triton"), pytest.raises(RuntimeError, match="4 x 4 with 80 channels"):
        window_attention(**{n: x.to(device) for n, x in tensors.items()})
