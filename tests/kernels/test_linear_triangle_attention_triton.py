"""Linear triangular attention by Triton kernels, on the GPU or in Triton's interpreter."""

import importlib

import pytest
import torch

from seedfold.kernels import linear_triangle_attention, memory_budget, use

LARGE = torch.cuda.is_available()
# Tokens, channels of pairs, heads, channels of a head.
SIZES = [(150, 128, 4, 32), (70, 96, 3, 24), (33, 384, 8, 48), (257, 64, 1, 64)]
SIZES = SIZES if LARGE else [(18, 40, 1, 24)]
MEDIUM = 67 if LARGE else 5
FORMS = [(form, psi) for form in (True, False) for psi in ("sigmoid", "relu", "identity")]
GATED = {"gated": True, "bias_activation": "sigmoid"}
ADDITIVE = {"gated": False, "bias_activation": "relu"}


@pytest.fixture(params=["gated", "additive"])
def form(request):
    """The settings that the models have."""
    return GATED if request.param == "gated" else ADDITIVE


@pytest.fixture
def fused():
    pytest.importorskip("triton")
    return importlib.import_module("seedfold.kernels.linear_triangle_attention.fused")


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
        "norm_out_weight": random(c),
        "norm_out_bias": random(c),
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
def test_is_accurate(size, random, accurate, dtype, form):
    """The floor: scores are rounded before and after the gate; plain PyTorch keeps them in fp32."""
    budget = size[0] ** 2 * 100  # A few rows.
    tensors, floor = arguments(random, *size), 2.5 * torch.finfo(dtype).eps
    accurate(linear_triangle_attention, tensors, form, dtype=dtype, budget=budget, floor=floor)


@pytest.mark.parametrize(("gated", "bias_activation"), FORMS)
def test_all_forms(gated, bias_activation, random, accurate, main_dtype):
    settings = {"gated": gated, "bias_activation": bias_activation}
    accurate(linear_triangle_attention, arguments(random, MEDIUM), settings, dtype=main_dtype)


def test_a_transposed_batch(random, accurate, main_dtype, path, form):
    tensors = arguments(random, MEDIUM, batch=2)
    tensors["z"], tensors["pair_mask"] = tensors["z"].transpose(1, 2), tensors["pair_mask"].mT
    accurate(linear_triangle_attention, tensors, form, dtype=main_dtype)


def test_a_slice_of_a_larger_tensor(random, accurate):
    tensors = arguments(random, 5)
    tensors["z"] = random(1, 7, 8, 28)[:, 1:6, 2:7, 4:]
    accurate(linear_triangle_attention, tensors, GATED, dtype=torch.float32)
    tensors["z"] = random(1, 24, 5, 5).permute(0, 2, 3, 1)
    accurate(linear_triangle_attention, tensors, GATED, dtype=torch.float32)


def test_one_token(random, accurate, form):
    tensors = arguments(random, 1)
    tensors["pair_mask"][:] = True
    accurate(linear_triangle_attention, tensors, form, dtype=torch.float32, floor=1e-4)


@pytest.mark.parametrize("n", [1, MEDIUM])
def test_without_keys_there_are_no_gradients(n, random, accurate, main_dtype, form):
    """Exactly none of q, k, v and the bias: zeros are compared exactly."""
    tensors = arguments(random, n)
    tensors["pair_mask"][:] = False
    accurate(linear_triangle_attention, tensors, form, dtype=main_dtype)


def test_masked_keys_get_no_gradient(random, device, main_dtype, fused, form):
    """Where pairs enter neither as queries nor through the bias, but psi is 1/2."""
    tensors = arguments(random, MEDIUM)
    tensors["weight_bias"].zero_()
    tensors = on(device, tensors, main_dtype)
    kept = tensors["pair_mask"][..., None]
    settings = form | {"bias_activation": "sigmoid"}
    with use("triton"):
        out = linear_triangle_attention(**tensors, **settings)
        (d_z,) = torch.autograd.grad((out * kept).float().square().sum(), tensors["z"])
    assert d_z[:, :-1].any()
    assert not d_z[~kept.expand_as(d_z)].any()


def test_sums_may_exceed_half_precision(random, device, dtype, fused, form):
    tensors = arguments(random, MEDIUM)
    tensors["weight_v"] *= 1e4
    tensors["norm_bias"].zero_()
    tensors["norm_weight"].fill_(1)
    with torch.no_grad():
        with use("triton"):
            found = linear_triangle_attention(**on(device, tensors, dtype), **form)
        with use("reference"):
            exact = linear_triangle_attention(**on(device, tensors, torch.float64), **form)
    assert (found - exact).norm() < 20 * torch.finfo(dtype).eps * exact.norm()


def test_the_update_is_laid_out_as_the_input(random, device, fused, form):
    tensors = on(device, arguments(random, 5))
    z = tensors.pop("z").transpose(1, 2)
    with use("triton"):
        assert linear_triangle_attention(z, **tensors, **form)[0].stride() == z[0].stride()
        for budget in (1, 10**9):
            with torch.no_grad(), memory_budget(budget):
                assert linear_triangle_attention(z, **tensors, **form)[0].stride() == z[0].stride()


@pytest.mark.skipif(not LARGE, reason="autocast to float16 is slow on a CPU")
def test_z_may_be_more_precise_than_the_products(random, device, form):
    """The residual stream in float32 under autocast."""
    tensors = on(device, arguments(random, MEDIUM, 64, 2, 32))

    def run(implementation):
        with use(implementation), torch.autocast(device.type, torch.bfloat16):
            out = linear_triangle_attention(**tensors, **form)
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
    norm, norm_out = ([t[f"{x}_weight"], t[f"{x}_bias"]] for x in ("norm", "norm_out"))
    weights = [*norm, weight_qkvg, t["weight_bias"], *norm_out, t["weight_out"]]
    return [t["z"][0].transpose(0, 1), t["pair_mask"][0], *weights]


def test_obeys_the_rules_of_custom_operators(random, device, fused, form):
    inputs = operator_inputs(random, device)
    out, *kept = fused._forward(*inputs, *form.values())
    torch.library.opcheck(fused._backward, [torch.randn_like(out), *kept, *inputs, *form.values()])
    torch.library.opcheck(fused._lean_forward, [*inputs, *form.values()])
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    torch.library.opcheck(fused._forward, [*inputs, *form.values()])


def test_can_be_compiled(random, device, fused, form):
    """Into one graph; by Inductor only on a GPU, because it is slow and changes nothing."""
    inputs = operator_inputs(random, device)
    weights = [x.requires_grad_() for x in inputs if x.is_floating_point()]

    def update(*inputs):
        return 2 * fused._forward(*inputs, *form.values())[0]

    compiled = torch.compile(update, fullgraph=True, backend="inductor" if LARGE else "aot_eager")
    expected, found = update(*inputs), compiled(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    expected, found = (torch.autograd.grad(x.sum(), weights) for x in (expected, found))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_reads_nothing_that_it_has_not_written(random, device, monkeypatch, path, form):
    tensors = on(device, arguments(random, 9, 40, 1, 24))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        with use("triton"):
            out = linear_triangle_attention(**tensors, **form)
            gradients = torch.autograd.grad(out.sum(), floating(tensors))
            with torch.no_grad(), memory_budget(10**4):
                lean = linear_triangle_attention(**tensors, **form)
    finally:
        torch.use_deterministic_algorithms(False)
    for x in (out, lean, *gradients):
        assert x.isfinite().all()


@pytest.mark.parametrize("d", [12, 72])
def test_refuses_heads_that_do_not_fit(d, random, device):
    tensors = on(device, arguments(random, 3, d=d))
    with use("triton"), pytest.raises(RuntimeError, match=f"heads of {d} channels"):
        linear_triangle_attention(**tensors, **GATED)


def test_the_example_passes(device, fused, form):
    tensors, settings = fused.example(device, torch.float32)
    settings = settings | form
    with use("triton"):
        found = linear_triangle_attention(**tensors, **settings)
    with use("reference"):
        expected = linear_triangle_attention(**tensors, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not LARGE, reason="takes 9 GB of GPU memory")
def test_offsets_beyond_32_bits():
    launch = importlib.import_module("seedfold.kernels.linear_triangle_attention.triton_kernels")
    n, n_heads, d = 70, 2, 32
    size, stride = (2, n, 4, n_heads, d), (2**31, 4 * n_heads * d, n_heads * d, d, 1)
    options = {"dtype": torch.bfloat16, "device": "cuda"}

    def far():
        return torch.empty(2**31 + n * stride[1], **options).as_strided(size, stride)

    inputs = torch.randn(size, **options)
    gate = torch.rand(n_heads, n, n, **options)

    def run(x, out):
        q, k, v, d_o = x.copy_(inputs).unbind(2)
        o, *_ = out.unbind(2)
        launch.gated(q, k, v, gate, sign=q, out=o)
        return [o, launch.gate_gradient(d_o, q, k, v)]

    near = run(torch.empty_like(inputs), torch.empty_like(inputs))
    assert all(torch.equal(a, b) for a, b in zip(run(far(), far()), near, strict=True))
