"""The transition by Triton kernels, on the GPU or in Triton's interpreter."""

import pytest
import torch

from seedfold.kernels import transition, use

LARGE = torch.cuda.is_available()
WIDTHS = [(64, 256), (96, 200), (512, 1024)] if LARGE else [(16, 48), (40, 72)]


@pytest.fixture(params=["on chip", "from memory"])
def path(request, monkeypatch, device):
    """Both ways of the kernels, that of few channels and that of many, whatever their number."""
    from seedfold.kernels.transition import fused

    if request.param == "from memory":
        monkeypatch.setattr(fused, "FUSED_CHANNELS", 8)


def arguments(random, shape, c_hidden):
    c = shape[-1]
    return {
        "x": random(*shape),
        "norm_weight": random(c),
        "norm_bias": random(c),
        "weight_a": random(c_hidden, c) / c**0.5,
        "weight_b": random(c_hidden, c) / c**0.5,
        "weight_out": random(c, c_hidden) / c_hidden**0.5,
    }


@pytest.mark.parametrize(("c", "c_hidden"), WIDTHS)
def test_is_accurate(c, c_hidden, random, accurate, dtype, path):
    rows = 1037 if LARGE else 37
    accurate(transition, arguments(random, (rows, c), c_hidden), dtype=dtype, budget=2**18)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_transposed_input(batch, random, accurate, main_dtype, path):
    n = 67 if LARGE else 5
    tensors = arguments(random, (batch, n, n + 2, 40), 64)
    tensors["x"] = tensors["x"].transpose(1, 2)
    accurate(transition, tensors, dtype=main_dtype, budget=2**16)


@pytest.mark.parametrize("shape", [(16,), (1, 16), (1, 1, 1, 16), (2, 2, 1, 2, 2, 16), (0, 16)])
def test_any_rank(shape, random, accurate):
    accurate(transition, arguments(random, shape, 32), dtype=torch.float32)


def test_rows_apart_in_memory(random, accurate):
    tensors = arguments(random, (6, 5, 16), 32)
    for x in (tensors["x"][::2], tensors["x"][:, 1:3], tensors["x"][0, ::2]):
        accurate(transition, {**tensors, "x": x}, dtype=torch.float32)


def test_the_update_is_laid_out_as_the_input(random, device):
    tensors = {name: x.float().to(device) for name, x in arguments(random, (3, 5, 16), 32).items()}
    tensors["x"] = tensors["x"].transpose(0, 1)
    with use("triton"):
        assert transition(**tensors).stride() == tensors["x"].stride()


def test_x_may_be_more_precise_than_the_products(random, device, dtype):
    """The residual stream in float32 under autocast."""
    tensors = {name: x.float().to(device) for name, x in arguments(random, (9, 5, 16), 32).items()}
    for x in tensors.values():
        x.requires_grad_()

    def run(implementation):
        half = dtype if dtype != torch.float32 else torch.bfloat16
        on = dtype != torch.float32
        with use(implementation), torch.autocast(device.type, half, enabled=on):
            out = transition(**tensors)
        return out, torch.autograd.grad(out.float().square().sum(), list(tensors.values()))

    (out, found), (expected_out, expected) = run("triton"), run("reference")
    assert out.dtype == expected_out.dtype == dtype
    torch.testing.assert_close(out.float(), expected_out.float(), rtol=0.02, atol=0.02)
    for name, a, b in zip(tensors, found, expected, strict=True):
        assert a.dtype == torch.float32, name
        assert (a - b).norm() <= 0.02 * b.norm(), name


def test_obeys_the_rules_of_custom_operators(path, random, device):
    from seedfold.kernels.transition import fused

    tensors = arguments(random, (3, 5, 24), 32)
    inputs = [x.float().to(device) for x in tensors.values()]
    inputs[0] = inputs[0].transpose(0, 1)
    torch.library.opcheck(fused._backward, [torch.randn_like(inputs[0]), *inputs])
    torch.library.opcheck(fused._forward, [x.requires_grad_() for x in inputs])


def test_reads_nothing_that_it_has_not_written(path, random, device, monkeypatch):
    tensors = {name: x.float().to(device) for name, x in arguments(random, (37, 24), 40).items()}
    for x in tensors.values():
        x.requires_grad_()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        with use("triton"):
            out = transition(**tensors)
            gradients = torch.autograd.grad(out.sum(), list(tensors.values()))
    finally:
        torch.use_deterministic_algorithms(False)
    for x in (out, *gradients):
        assert x.isfinite().all()


def test_the_example_passes(device):
    from seedfold.kernels.transition import fused

    tensors, settings = fused.example(device, torch.float32)
    with use("triton"):
        found = transition(**tensors, **settings)
    with use("reference"):
        torch.testing.assert_close(found, transition(**tensors, **settings), rtol=1e-4, atol=1e-4)
