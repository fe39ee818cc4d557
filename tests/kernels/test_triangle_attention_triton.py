"""Triangle attention by Triton kernels, on the GPU or in Triton's interpreter."""

import importlib

import pytest
import torch

from seedfold.kernels import memory_budget, triangle_attention, use

LARGE = torch.cuda.is_available()
# Tokens, channels of pairs, heads, channels of a head.
SIZES = [(150, 128, 4, 32), (70, 96, 3, 24), (33, 384, 8, 48), (257, 64, 1, 64)]
SIZES = SIZES if LARGE else [(18, 40, 1, 24)]
MEDIUM = 67 if LARGE else 5


@pytest.fixture
def fused():
    pytest.importorskip("triton")
    return importlib.import_module("seedfold.kernels.triangle_attention.fused")


@pytest.fixture(params=["on chip", "from memory"])
def path(request, monkeypatch, fused):
    """Both ways of the projections, that of few channels and that of many."""
    if request.param == "from memory":
        dense = importlib.import_module("seedfold.kernels.dense.triton_kernels")
        monkeypatch.setattr(dense, "_MAX_FUSED", 8)


def arguments(random, n, c_z=24, n_heads=2, d=16, batch=1):
    """Some pairs are masked, and the last token is: its row has no keys."""
    mask = random(batch, n, n) < 1
    mask[:, -1] = mask[:, :, -1] = False
    c = n_heads * d
    return {
        "z": random(batch, n, n, c_z),
        "pair_mask": mask,
        "norm_weight": random(c_z),
        "norm_bias": random(c_z),
        **{f"weight_{x}": random(c, c_z) / c_z**0.5 for x in ("q", "k", "v", "gate")},
        "weight_bias": random(n_heads, c_z) / c_z**0.5,
        "weight_out": random(c_z, c) / c**0.5,
    }


def on(device, tensors, dtype=torch.float32):
    return {
        name: x.to(device, dtype).requires_grad_() if x.is_floating_point() else x.to(device)
        for name, x in tensors.items()
    }


def floating(tensors):
    return [x for x in tensors.values() if x.is_floating_point()]


@pytest.mark.parametrize("size", SIZES)
def test_is_accurate(size, random, accurate, dtype):
    """The floor: the backward pass starts from o, rounded; plain PyTorch from exact weights."""
    budget = size[0] ** 2 * 100  # A few rows.
    floor = 5 * torch.finfo(dtype).eps
    accurate(triangle_attention, arguments(random, *size), dtype=dtype, budget=budget, floor=floor)


def test_a_transposed_bias(random, accurate, main_dtype, path):
    settings = {"transpose_bias": True}
    accurate(triangle_attention, arguments(random, MEDIUM), settings, dtype=main_dtype)


def test_a_transposed_batch(random, accurate, main_dtype, path):
    tensors = arguments(random, MEDIUM, batch=2)
    tensors["z"], tensors["pair_mask"] = tensors["z"].transpose(1, 2), tensors["pair_mask"].mT
    accurate(triangle_attention, tensors, dtype=main_dtype)


def test_a_slice_of_a_larger_tensor(random, accurate):
    tensors = arguments(random, 5)
    tensors["z"] = random(1, 7, 8, 28)[:, 1:6, 2:7, 4:]
    accurate(triangle_attention, tensors, dtype=torch.float32)
    tensors["z"] = random(1, 24, 5, 5).permute(0, 2, 3, 1)
    accurate(triangle_attention, tensors, dtype=torch.float32)


def test_one_token(random, device, dtype, fused):
    """Its weight is 1 whatever the logit is: only rounding gets to q, k and the bias."""
    tensors = arguments(random, 1)
    tensors["pair_mask"][:] = True

    def run(implementation, dtype):
        inputs = on(device, {name: x.clone() for name, x in tensors.items()}, dtype)
        with use(implementation):
            out = triangle_attention(**inputs)
            gradients = torch.autograd.grad(out.sum(), floating(inputs))
            with torch.no_grad():
                return out, triangle_attention(**inputs), *gradients

    tolerance = 20 * torch.finfo(dtype).eps
    for found, exact in zip(run("triton", dtype), run("reference", torch.float64), strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("n", [1, MEDIUM])
def test_without_keys_all_is_zero(n, random, accurate, main_dtype):
    tensors = arguments(random, n)
    tensors["pair_mask"][:] = False
    accurate(triangle_attention, tensors, dtype=main_dtype)  # Zeros are compared exactly.


def test_masked_keys_get_no_gradient(random, device, main_dtype, fused):
    """Where pairs enter neither as queries nor through the bias."""
    tensors = arguments(random, MEDIUM)
    tensors["weight_bias"].zero_()
    tensors = on(device, tensors, main_dtype)
    kept = tensors["pair_mask"][..., None]
    with use("triton"):
        out = triangle_attention(**tensors)
        (d_z,) = torch.autograd.grad((out * kept).float().square().sum(), tensors["z"])
    assert d_z[:, :-1].any()
    assert not d_z[~kept.expand_as(d_z)].any()


def test_the_update_is_laid_out_as_the_input(random, device, fused):
    tensors = on(device, arguments(random, 5))
    z = tensors.pop("z").transpose(1, 2)
    with use("triton"):
        assert triangle_attention(z, **tensors)[0].stride() == z[0].stride()
        for budget in (1, 10**9):
            with torch.no_grad(), memory_budget(budget):
                assert triangle_attention(z, **tensors)[0].stride() == z[0].stride()


@pytest.mark.skipif(not LARGE, reason="autocast to float16 is slow on a CPU")
def test_z_may_be_more_precise_than_the_products(random, device):
    """The residual stream in float32 under autocast."""
    tensors = on(device, arguments(random, MEDIUM, 64, 2, 32))

    def run(implementation):
        with use(implementation), torch.autocast(device.type, torch.bfloat16):
            out = triangle_attention(**tensors)
        return out, torch.autograd.grad(out.float().square().sum(), floating(tensors))

    (out, found), (expected_out, expected) = run("triton"), run("reference")
    assert out.dtype == torch.bfloat16
    assert (out - expected_out).norm() <= 0.02 * expected_out.norm()
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() <= 0.03 * b.norm()


def operator_inputs(random, device):
    """Arguments of the custom operator, as leaves, without its setting."""
    t = {name: x.detach() for name, x in on(device, arguments(random, 5)).items()}
    weight_qkvg = torch.cat([t[f"weight_{x}"] for x in ("q", "k", "v", "gate")])
    weights = [t["norm_weight"], t["norm_bias"], weight_qkvg, t["weight_bias"], t["weight_out"]]
    return [t["z"][0].transpose(0, 1), t["pair_mask"][0], *weights]


def test_obeys_the_rules_of_custom_operators(random, device, fused):
    inputs = operator_inputs(random, device)
    out, *kept = fused._forward(*inputs, True)
    torch.library.opcheck(fused._backward, [torch.randn_like(out), *kept, *inputs, True])
    torch.library.opcheck(fused._lean_forward, [*inputs, True])
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    torch.library.opcheck(fused._forward, [*inputs, True])


def test_can_be_compiled(random, device, fused):
    """Into one graph; by Inductor only on a GPU, because it is slow and changes nothing."""
    inputs = operator_inputs(random, device)
    weights = [x.requires_grad_() for x in inputs if x.is_floating_point()]

    def update(*inputs):
        return 2 * fused._forward(*inputs, False)[0]

    compiled = torch.compile(update, fullgraph=True, backend="inductor" if LARGE else "aot_eager")
    expected, found = update(*inputs), compiled(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    expected, found = (torch.autograd.grad(x.sum(), weights) for x in (expected, found))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_reads_nothing_that_it_has_not_written(random, device, monkeypatch, path):
    tensors = on(device, arguments(random, 9, 40, 1, 24))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        with use("triton"):
            out = triangle_attention(**tensors)
            gradients = torch.autograd.grad(out.sum(), floating(tensors))
            with torch.no_grad(), memory_budget(10**4):
                lean = triangle_attention(**tensors)
    finally:
        torch.use_deterministic_algorithms(False)
    for x in (out, lean, *gradients):
        assert x.isfinite().all()


@pytest.mark.parametrize("d", [12, 72])
def test_refuses_heads_that_do_not_fit(d, random, device):
    tensors = on(device, arguments(random, 3, d=d))
    with use("triton"), pytest.raises(RuntimeError, match=f"heads of {d} channels"):
        triangle_attention(**tensors)


def test_the_example_passes(device, fused):
    tensors, settings = fused.example(device, torch.float32)
    with use("triton"):
        found = triangle_attention(**tensors, **settings)
    with use("reference"):
        expected = triangle_attention(**tensors, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not LARGE, reason="takes 9 GB of GPU memory")
def test_offsets_beyond_32_bits():
    launch = importlib.import_module("seedfold.kernels.triangle_attention.triton_kernels")
    n, n_heads, d = 70, 2, 32
    size, stride = (2, n, 4, n_heads, d), (2**31, 4 * n_heads * d, n_heads * d, d, 1)
    options = {"dtype": torch.bfloat16, "device": "cuda"}

    def far():
        return torch.empty(2**31 + n * stride[1], **options).as_strided(size, stride)

    inputs = torch.randn(size, **options)
    bias = torch.randn(n_heads, n, n, **options)

    def run(x, gradients):
        q, k, v, d_o = x.copy_(inputs).unbind(2)
        o, lse = launch.attend(q, k, v, bias, None)
        d_q, d_k, d_v, _ = gradients.unbind(2)
        d_bias = launch.attend_backward(d_o, q, k, v, bias, None, o, lse, d_q, d_k, d_v)
        return [o, lse, d_q, d_k, d_v, d_bias]

    near = run(torch.empty_like(inputs), torch.empty_like(inputs))
    assert all(torch.equal(a, b) for a, b in zip(run(far(), far()), near, strict=True))
