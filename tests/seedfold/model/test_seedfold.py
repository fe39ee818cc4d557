import dataclasses

import pytest
import torch

from seedfold.data_pipeline.features import collate
from seedfold.kernels import use
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.model.triangle import TRIANGLE_ATTENTIONS

STEPS = {"n_steps": 4, "n_cycles": 1}


def fold(network, f, **options):
    return list(network.predict(f, **{**STEPS, "seed": 5, "n_samples": 3, **options}))


@pytest.fixture(scope="module")
def network(small_network):
    return small_network()


@pytest.fixture(scope="module")
def expected(network, small_example):
    return fold(network, collate([small_example]))


def assert_same(found, expected, n_token, n_atom):
    options = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(found.x[:, :, :n_atom], expected.x, **options)
    torch.testing.assert_close(
        found.confidence.plddt[:, :, :n_atom], expected.confidence.plddt, **options
    )
    torch.testing.assert_close(
        found.confidence.pae[:, :, :n_token, :n_token], expected.confidence.pae, **options
    )
    torch.testing.assert_close(
        found.contact_probs[:, :n_token, :n_token], expected.contact_probs, **options
    )


def test_a_sample_does_not_depend_on_the_others(network, small_example, expected):
    f = collate([small_example])
    n = f.n_token, f.n_atom
    for options in ({"n_samples": 1}, {"n_samples": 4}, {"max_parallel_samples": 2}):
        for found, e in zip(fold(network, f, **options), expected, strict=False):
            assert found.index == e.index
            assert_same(found, e, *n)
    assert not torch.allclose(expected[0].x, expected[1].x)
    assert not torch.allclose(fold(network, f, seed=6)[0].x, expected[0].x)


def test_padding_changes_nothing(network, padded_example, small_example, expected):
    """Padded tokens, atoms and MSA rows, full of rubbish."""
    n = small_example.n_token, small_example.n_atom
    for found, e in zip(fold(network, padded_example), expected, strict=True):
        assert_same(found, e, *n)
        assert not found.x[:, :, n[1] :].any()


def test_padded_atoms_that_count_as_real_are_seen(network, padded_example, small_example, expected):
    """The reference space of padding is that of real atoms: only the mask keeps them apart."""
    n_atom = small_example.n_atom
    shared = padded_example.ref_space_uid[:, n_atom:].unique()
    assert torch.isin(shared, padded_example.ref_space_uid[:, :n_atom]).all()
    unmasked = dataclasses.replace(
        padded_example, atom_mask=torch.ones_like(padded_example.atom_mask)
    )
    (found,) = fold(network, unmasked, n_samples=1)
    assert not torch.allclose(found.x[:, :, :n_atom], expected[0].x, rtol=1e-3, atol=1e-3)


def test_a_batch_is_its_examples(network, small_example, expected):
    """Beside a second, shorter example, which has lost its last token."""
    cut = {}
    sizes = {"N_token": small_example.n_token - 1, "N_atom": small_example.n_atom - 1}
    for name, axes in small_example.axes().items():
        index = tuple(slice(sizes.get(axis)) for axis in axes)
        cut[name] = getattr(small_example, name)[index]
    short = dataclasses.replace(small_example, **cut)
    both = fold(network, collate([small_example, short]))
    alone = fold(network, collate([short]))
    for found, e, s in zip(both, expected, alone, strict=True):
        torch.testing.assert_close(found.x[:1], e.x, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.x[1:, :, :-1], s.x, rtol=1e-6, atol=1e-6)


def test_float32_and_bfloat16_follow(small_network, small_example, expected):
    """The same draws in float32 give the same structure; bf16 stays finite, logits in float32."""
    network, f = small_network().float(), collate([small_example])
    for found, e in zip(fold(network, f), expected, strict=True):
        assert found.x.dtype == torch.float32
        torch.testing.assert_close(found.x.double(), e.x, rtol=1e-3, atol=2e-2)
    for found in fold(network, f, precision="bf16"):
        assert found.x.dtype == found.confidence.pae.dtype == torch.float32
        assert found.x.isfinite().all() and found.confidence.pae.isfinite().all()


def test_narrow_integers_serve(network, small_example, expected):
    narrow = small_example.map(lambda t: t.int() if t.dtype == torch.int64 else t)
    for found, e in zip(fold(network, collate([narrow])), expected, strict=True):
        torch.testing.assert_close(found.x, e.x)


def test_progress(network, small_example):
    told = []
    fold(
        network,
        collate([small_example]),
        n_cycles=2,
        max_parallel_samples=2,
        on_progress=lambda *step: told.append(step),
    )
    trunk = [("trunk", i, 4) for i in range(1, 5)]
    diffusion = [("diffusion", i, 8) for i in range(1, 9)]
    assert told == trunk + diffusion + [("confidence", i, 3) for i in range(1, 4)]


def test_predicting_leaves_no_trace(network, small_example):
    """Neither hooks nor gradients nor the caller's grad mode, even if stopped half way."""
    samples = network.predict(collate([small_example]), **STEPS)
    first = next(samples)
    assert torch.is_grad_enabled() and not first.x.requires_grad
    samples.close()
    assert not any(block._forward_hooks for block in network.trunk.pairformer.blocks)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", ["softmax", "linear_gated", "linear_additive"])
def test_kernels_serve_the_whole_network_on_a_gpu(kind, small_example, caplog):
    """In bf16 the trunk with Triton kernels is as close to float64 as with plain PyTorch.

    Structures and confidences made from it are finite. No operation fell back to PyTorch.
    """
    torch.manual_seed(0)
    network, f = pico(kind).double().eval().cuda(), collate([small_example]).to("cuda")
    with torch.no_grad(), use("reference"):
        exact = network.embed(f, 1).z
    network = network.float()

    def error(implementation):
        autocast = torch.autocast("cuda", dtype=torch.bfloat16)
        with torch.no_grad(), use(implementation), autocast:
            found = network.embed(f, 1).z
        return ((found.double() - exact).norm() / exact.norm()).item()

    assert error("auto") <= max(1.5 * error("reference"), 0.03)
    for found in fold(network, f, precision="bf16"):
        assert found.x.isfinite().all() and found.confidence.pae.isfinite().all()
    assert not [r.message for r in caplog.records if r.name == "seedfold.kernels"]


def pico(kind):
    """The smallest preset with another triangle attention and no weight left at zero."""
    config = PRESETS["pico"]()
    blocks = config.trunk.pairformer
    pair = dataclasses.replace(blocks.pair, triangle_attention=TRIANGLE_ATTENTIONS[kind].Config())
    trunk = dataclasses.replace(config.trunk, pairformer=dataclasses.replace(blocks, pair=pair))
    network = SeedFold(dataclasses.replace(config, trunk=trunk))
    for parameter in network.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.5 * parameter.shape[1] ** -0.5)
    return network
