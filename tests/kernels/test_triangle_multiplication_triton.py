"""Triangle multiplication by Triton kernels, on the GPU or in Triton's interpreter."""

import pytest
import torch

from seedfold.kernels import triangle_multiplication, use

LARGE = torch.cuda.is_available()
SIZES = [(70, 64, 64), (129, 128, 96), (50, 384, 128), (35, 48, 512)] if LARGE else [(9, 40, 24)]


@pytest.fixture(params=["on chip", "from memory"])
def path(request, monkeypatch, device):
    """Both ways of the kernels, that of few channels and that of many, whatever their number."""
    from seedfold.kernels.triangle_multiplication import fused, triton_kernels

    if request.param == "from memory":
        monkeypatch.setattr(fused, "FUSED_CHANNELS", 8)
        monkeypatch.setattr(triton_kernels, "FUSED_CHANNELS", 8)


def arguments(random, n, c_z, c, batch=1):
    mask = random(batch, n, n) < 1
    mask[:, -1] = mask[:, :, -1] = False
    return {
        "z": random(batch, n, n, c_z),
        "pair_mask": mask,
        "norm_in_weight": random(c_z),
        "norm_in_bias": random(c_z),
        **{f"weight_{x}": random(c, c_z) / c_z**0.5 for x in ("a", "a_gate", "b", "b_gate")},
        "norm_out_weight": random(c),
        "norm_out_bias": random(c),
        "weight_out": random(c_z, c) / c**0.5,
        "weight_gate": random(c_z, c_z) / c_z**0.5,
    }


def on(device, tensors):
    return {
        name: x.to(device, torch.float32) if x.is_floating_point() else x.to(device)
        for name, x in tensors.items()
    }


@pytest.mark.parametrize("edges", ["outgoing", "incoming"])
@pytest.mark.parametrize(("n", "c_z", "c"), SIZES)
def test_is_accurate(n, c_z, c, edges, random, accurate, dtype, path):
    tensors = arguments(random, n, c_z, c)
    accurate(triangle_multiplication, tensors, {"edges": edges}, dtype=dtype, budget=n * n * 20 * c)


@pytest.mark.parametrize("edges", ["outgoing", "incoming"])
def test_a_transposed_batch(edges, random, accurate, main_dtype, path):
    tensors = arguments(random, 33 if LARGE else 5, 16, 16, batch=2)
    tensors["z"], tensors["pair_mask"] = tensors["z"].transpose(1, 2), tensors["pair_mask"].mT
    accurate(triangle_multiplication, tensors, {"edges": edges}, dtype=main_dtype, budget=2**12)


def test_a_slice_of_a_larger_tensor(random, accurate):
    tensors = arguments(random, 5, 16, 16)
    tensors["z"] = random(1, 7, 8, 20)[:, 1:6, 2:7, 4:]
    accurate(triangle_multiplication, tensors, {"edges": "outgoing"}, dtype=torch.float32)


@pytest.mark.parametrize("kept", [False, True])
def test_one_token(kept, random, accurate):
    tensors = arguments(random, 1, 16, 16)
    tensors["pair_mask"][:] = kept
    settings = {"edges": "outgoing"}
    accurate(triangle_multiplication, tensors, settings, dtype=torch.float32, floor=1e-3)


def test_the_update_is_laid_out_as_the_input(random, device):
    tensors = on(device, arguments(random, 5, 16, 16))
    tensors["z"] = tensors["z"].transpose(1, 2)
    with use("triton"):
        assert (
            triangle_multiplication(**tensors, edges="incoming").stride() == tensors["z"].stride()
        )


def test_masked_operands_have_no_influence(random, device):
    """Not even where z is not finite; without kept pairs the projections have no gradient."""
    tensors = on(device, arguments(random, 5, 16, 16))
    mask = tensors["pair_mask"][..., None]
    with use("triton"):
        expected = triangle_multiplication(**tensors, edges="outgoing")
        tensors["z"] = torch.where(mask, tensors["z"], torch.nan)
        found = triangle_multiplication(**tensors, edges="outgoing")
        assert torch.equal(found[mask.expand_as(found)], expected[mask.expand_as(found)])
        tensors["z"] = tensors["z"].nan_to_num()
        tensors["pair_mask"][:] = False
        weights = [tensors[f"weight_{x}"].requires_grad_() for x in ("a", "b_gate")]
        out = triangle_multiplication(**tensors, edges="outgoing")
        for gradient in torch.autograd.grad(out.sum(), weights):
            assert not gradient.any()


def test_z_may_be_more_precise_than_the_products(random, device, dtype):
    """The residual stream in float32 under autocast."""
    tensors = on(device, arguments(random, 9, 16, 16))
    floating = {name: x.requires_grad_() for name, x in tensors.items() if x.is_floating_point()}

    def run(implementation):
        half = dtype != torch.float32
        with (
            use(implementation),
            torch.autocast(device.type, dtype if half else None, enabled=half),
        ):
            out = triangle_multiplication(**tensors, edges="outgoing")
        return out, torch.autograd.grad(out.float().square().sum(), list(floating.values()))

    (out, found), (expected_out, expected) = run("triton"), run("reference")
    assert out.dtype == expected_out.dtype == dtype
    assert (out - expected_out).norm() <= 0.02 * expected_out.norm()
    for name, a, b in zip(floating, found, expected, strict=True):
        assert a.dtype == torch.float32, name
        assert (a - b).norm() <= 0.02 * b.norm(), name


def test_obeys_the_rules_of_custom_operators(path, random, device):
    from seedfold.kernels.triangle_multiplication import fused

    n, c_z, c = 5, 40, 16
    t = on(device, arguments(random, n, c_z, c))
    names = ["weight_a", "weight_b", "weight_a_gate", "weight_b_gate", "weight_gate"]
    weight_in = torch.cat([t[name] for name in names])
    norms = [t[name] for name in ("norm_in_weight", "norm_in_bias")]
    weights = [*norms, weight_in, t["norm_out_weight"], t["norm_out_bias"], t["weight_out"]]
    inputs = [t["z"].transpose(1, 2), t["pair_mask"], *weights]
    out, *kept = fused._forward(*inputs, True)
    torch.library.opcheck(fused._backward, [torch.randn_like(out), *kept, *inputs, True])
    torch.library.opcheck(fused._lean_forward, [*inputs, True])
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    torch.library.opcheck(fused._forward, [*inputs, True])


def test_reads_nothing_that_it_has_not_written(path, random, device, monkeypatch):
    tensors = on(device, arguments(random, 9, 40, 24))
    floating = [x.requires_grad_() for x in tensors.values() if x.is_floating_point()]
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        with use("triton"):
            out = triangle_multiplication(**tensors, edges="outgoing")
            gradients = torch.autograd.grad(out.sum(), floating)
            with torch.no_grad():
                lean = triangle_multiplication(**tensors, edges="outgoing")
    finally:
        torch.use_deterministic_algorithms(False)
    for x in (out, lean, *gradients):
        assert x.isfinite().all()


def test_the_example_passes(device):
    from seedfold.kernels.triangle_multiplication import fused

    tensors, settings = fused.example(device, torch.float32)
    with use("triton"):
        found = triangle_multiplication(**tensors, **settings)
    with use("reference"):
        expected = triangle_multiplication(**tensors, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
