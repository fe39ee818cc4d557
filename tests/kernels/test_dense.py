"""The launchers against float64 formulas, with every output buffer filled with NaN beforehand."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")
HAS_GPU = torch.cuda.is_available()
FLOORS = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
# Pairs that fill no tile, a single pair; channels that fill no tile, exactly fill one, go through
# memory.
SHAPES = [(33, 67, 96), (130, 65, 128), (1, 1, 64), (21, 40, 256), (40, 53, 384), (37, 41, 512)]
if not HAS_GPU:
    SHAPES = [(3, 7, 24), (1, 1, 16), (2, 9, 272)]
LAYOUTS = ["contiguous", "transposed", "rows of transposed"]


@pytest.fixture
def dense(monkeypatch):
    """The module; whatever it allocates is NaN until it is written to."""
    from seedfold.kernels.dense import triton_kernels

    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield triton_kernels
    torch.use_deterministic_algorithms(False)


def laid_out(x, layout):
    """The values of `x` [A B c] in another layout."""
    if layout == "contiguous":
        return x.contiguous()
    parent = x.new_full((x.shape[1], x.shape[0] + 3, x.shape[2]), torch.nan)
    if layout == "transposed":
        parent = parent[:, 3:].contiguous()
    rows = parent.transpose(0, 1)[-x.shape[0] :]
    return rows.copy_(x)


def in_wider(x):
    """The values of `x` as channels of a tensor with more of them."""
    parent = x.new_full((*x.shape[:2], 2 * x.shape[2] + 16), torch.nan)
    return parent[..., 16 : 16 + x.shape[2]].copy_(x)


def close(found, exact, dtype, name=""):
    error = (found.double().cpu() - exact.cpu()).norm() / exact.norm().clamp_min(1e-30)
    assert error.item() < FLOORS[dtype], f"{name}: error {error.item():.3g}"


def layer_norm(x, weight, bias):
    return F.layer_norm(x, x.shape[-1:], weight, bias)


@pytest.fixture
def arguments(random, device, dtype):
    """Rounded arguments of a shape, as they are given to a launcher and in float64."""

    def make(a, b, c, n_columns=48):
        n_heads = 3 if c < 100 else 17
        x = {
            "x": random(a, b, c) * 2 + 1,
            "g": random(a, b, c),
            "norm_weight": 1 + 0.3 * random(c),
            "norm_bias": 0.3 * random(c),
            "weight": random(n_columns, c) / c**0.5,
            "weight_heads": random(n_heads, c) / c**0.5,
        }
        half = {"g", "weight", "weight_heads"}
        given = {k: v.to(device, dtype if k in half else torch.float32) for k, v in x.items()}
        return given, {k: v.double().requires_grad_() for k, v in given.items()}

    return make


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("x_dtype", ["single", "same"])
def test_norm(dense, arguments, dtype, shape, layout, x_dtype):
    given, _ = arguments(*shape)
    x = laid_out(given["x"].to(torch.float32 if x_dtype == "single" else dtype), layout)
    weight, bias = given["norm_weight"], given["norm_bias"]
    y = dense.norm(x, weight, bias, dtype)
    assert y.is_contiguous() and y.dtype == dtype
    close(y, layer_norm(x.double(), weight.double(), bias.double()), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epilogue", [False, True])
def test_norm_linear(dense, arguments, random, dtype, shape, layout, epilogue):
    given, exact = arguments(*shape)
    x, norm = laid_out(given["x"], layout), (given["norm_weight"], given["norm_bias"])
    weight, weight_heads = given["weight"], given["weight_heads"]
    mask = laid_out(random(*shape[:2], 1), layout)[..., 0].to(x.device) > 0
    settings = {"n_relu": 19, "mask": mask, "masked": (11, 37)} if epilogue else {}
    settings |= {"weight_heads": weight_heads} if epilogue else {}
    out, heads = dense.norm_linear(x, *norm, weight, **settings)
    y = layer_norm(exact["x"], exact["norm_weight"], exact["norm_bias"])
    expected = y @ exact["weight"].T
    if epilogue:
        expected[..., :19] = expected[..., :19].relu()
        expected[..., 11:37] = expected[..., 11:37] * mask[..., None]
        assert (out[..., 11:37][~mask] == 0).all()
        assert heads.is_contiguous() and heads.dtype == dtype
        close(heads, (y @ exact["weight_heads"].T).permute(2, 0, 1), dtype, "heads")
    else:
        assert heads is None
    assert out.is_contiguous() and out.dtype == dtype
    close(out, expected, dtype, "out")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_heads", [False, True])
def test_norm_linear_backward(dense, arguments, random, dtype, shape, layout, with_heads):
    given, exact = arguments(*shape)
    x, norm = laid_out(given["x"], layout), (given["norm_weight"], given["norm_bias"])
    d_out = random(*shape[:2], 48).to(x.device, dtype)
    weight_heads = given["weight_heads"] if with_heads else None
    d_heads = random(len(weight_heads), *shape[:2]).to(x.device, dtype) if with_heads else None
    found = dense.norm_linear_backward(
        x, *norm, given["weight"], d_out, weight_heads=weight_heads, d_heads=d_heads
    )
    y = layer_norm(exact["x"], exact["norm_weight"], exact["norm_bias"])
    total = (y @ exact["weight"].T * d_out.double()).sum()
    names = ["x", "norm_weight", "norm_bias", "weight"]
    if with_heads:
        total += ((y @ exact["weight_heads"].T).permute(2, 0, 1) * d_heads.double()).sum()
        names.append("weight_heads")
    assert found[0].dtype == x.dtype
    assert shape[:2] == (1, 1) or (found[0].stride(0) < found[0].stride(1)) == (
        x.stride(0) < x.stride(1)
    )
    gradients = torch.autograd.grad(total, [exact[name] for name in names])
    for name, d, expected in zip(names, found, gradients, strict=False):
        close(d, expected, dtype, name)
    again = dense.norm_linear_backward(
        x, *norm, given["weight"], d_out, weight_heads=weight_heads, d_heads=d_heads
    )
    assert all(a is b or torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normed", [False, True])
def test_gate_linear(dense, arguments, dtype, shape, layout, normed):
    given, exact = arguments(*shape)
    # Accumulated attention outputs are single precision, softmax ones are not.
    o = given["x"] if normed else given["x"].to(dtype)
    norm = {k: given[k] for k in ("norm_weight", "norm_bias")} if normed else {}
    g, weight = in_wider(given["g"]), given["weight"]
    target = laid_out(o.new_full((*shape[:2], 48), torch.nan, dtype=dtype), layout)
    out = dense.gate_linear(o, g, weight, out=target, **norm)
    assert out.data_ptr() == target.data_ptr() and out.stride() == target.stride()
    expected = o.double()
    if normed:
        expected = layer_norm(expected, exact["norm_weight"], exact["norm_bias"])
    expected = (torch.sigmoid(exact["g"]) * expected) @ exact["weight"].T
    close(out, expected, dtype)
    fresh = dense.gate_linear(laid_out(o, layout), g, weight, **norm)
    assert fresh.is_contiguous() and fresh.dtype == dtype
    close(fresh, expected, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normed", [False, True])
def test_gate_linear_backward(dense, arguments, random, dtype, shape, layout, normed):
    given, exact = arguments(*shape)
    o = given["x"] if normed else given["x"].to(dtype)
    norm = {k: given[k] for k in ("norm_weight", "norm_bias")} if normed else {}
    g, weight = in_wider(given["g"]), given["weight"]
    d_out = laid_out(random(*shape[:2], 48).to(o.device, dtype), layout)
    d_g = in_wider(torch.full_like(given["g"], torch.nan))
    d_o, *d_weights = dense.gate_linear_backward(d_out, o, g, weight, d_g, **norm)
    exact["o"] = o.double().requires_grad_()
    value, names = exact["o"], ["o", "g", "weight"]
    if normed:
        value = layer_norm(value, exact["norm_weight"], exact["norm_bias"])
        names += ["norm_weight", "norm_bias"]
    total = ((torch.sigmoid(exact["g"]) * value) @ exact["weight"].T * d_out.double()).sum()
    assert d_o.is_contiguous() and d_o.dtype == dtype
    gradients = torch.autograd.grad(total, [exact[name] for name in names])
    for name, d, expected in zip(names, [d_o, d_g, *d_weights], gradients, strict=False):
        close(d, expected, dtype, name)
    assert normed or d_weights[1:] == [None, None]


@pytest.mark.skipif(not HAS_GPU, reason="needs 9 GB")
def test_offsets_beyond_32_bits(dense, device):
    far = torch.zeros(2**31 + 1024, dtype=torch.bfloat16, device=device)
    x = far.as_strided((2, 3, 128), (2**31, 128, 1))
    x.copy_(torch.randn(2, 3, 128))
    ones, zeros = torch.ones(128, device=device), torch.zeros(128, device=device)
    weight = torch.randn(256, 128, device=device).bfloat16()
    near = x.contiguous()
    for found, expected in zip(
        dense.norm_linear(x, ones, zeros, weight, weight_heads=weight[:8]),
        dense.norm_linear(near, ones, zeros, weight, weight_heads=weight[:8]),
        strict=True,
    ):
        assert torch.equal(found, expected)
    out = torch.zeros_like(far).as_strided((2, 3, 256), (2**31, 256, 1))
    dense.gate_linear(near, near, weight, out=out)
    assert torch.equal(out, dense.gate_linear(near, near, weight))
