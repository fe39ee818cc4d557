"""The network against outputs computed by other code."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from seedfold.data_pipeline.features import collate

# Two float32 programs differ by about 1e-6; every swapped index is far above 1e-5.
TOLERANCE = 1e-5


@pytest.mark.parametrize("name", ["protenix_a", "protenix_b"])
def test_every_stage_is_protenix(name, check_golden, golden_folders):
    """All stored stages of Protenix's own classes, from its weights and features."""
    folder = next((f for f in golden_folders if f.name == name), None)
    if folder is None:
        pytest.skip(f"no golden folder {name}")
    errors = check_golden.relative_errors(folder)
    assert len(errors) == 32
    assert {key: e for key, e in errors.items() if not e < TOLERANCE} == {}


def swapped(a, b):
    return lambda w: {a: w[b], b: w[a]}


def changed(name, function):
    return lambda w: {name: function(w[name])}


def with_columns_exchanged(x, first, second, n):
    """Columns first ... first + n in the place of second ... second + n and the reverse."""
    order = torch.arange(x.shape[1])
    order[first : first + n] = torch.arange(second, second + n)
    order[second : second + n] = torch.arange(first, first + n)
    return x[:, order]


BLOCK = "pairformer_stack.blocks.0"
MISTAKES = {
    "gap first in the alphabet of the MSA": changed(
        "msa_module.linear_no_bias_m.weight",
        lambda x: torch.cat([x[:, 31:32], x[:, :31], x[:, 32:]], 1),
    ),
    "gate and value of the SwiGLU": swapped(
        f"{BLOCK}.pair_transition.linear_no_bias_a.weight",
        f"{BLOCK}.pair_transition.linear_no_bias_b.weight",
    ),
    "a and b of the triangle multiplication": swapped(
        f"{BLOCK}.tri_mul_in.linear_a_p.weight", f"{BLOCK}.tri_mul_in.linear_b_p.weight"
    ),
    "i and j of the pairs": swapped("linear_no_bias_zinit1.weight", "linear_no_bias_zinit2.weight"),
    "i and j of the confidence": swapped(
        "confidence_head.linear_no_bias_s1.weight", "confidence_head.linear_no_bias_s2.weight"
    ),
    "row and column of the template": changed(
        "template_embedder.linear_no_bias_a.weight", lambda x: with_columns_exchanged(x, 40, 72, 32)
    ),
    "a square matrix transposed": changed(f"{BLOCK}.tri_mul_out.linear_g.weight", lambda x: x.T),
}
"""Mistakes of an importer that leave every shape as it is."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_importer_is_seen(mistake, check_golden, golden_folders, tmp_path):
    folder = next((f for f in golden_folders if f.name == "protenix_a"), None)
    if folder is None:
        pytest.skip("no golden folder protenix_a")
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    weights = load_file(folder / "reference_state_dict.safetensors")
    changes = {name: x.contiguous() for name, x in MISTAKES[mistake](weights).items()}
    (tmp_path / "reference_state_dict.safetensors").unlink()
    save_file({**weights, **changes}, tmp_path / "reference_state_dict.safetensors")
    assert max(check_golden.relative_errors(tmp_path).values()) > 100 * TOLERANCE


def outputs(network, reference, example):
    tensors, f = reference.example(), collate([example])
    with torch.no_grad():
        state = network.embed(f, reference.N_CYCLES)
        prepared = network.diffusion_module.prepare(f, state.s_inputs, state.s, state.z)
        t_hat = torch.tensor([reference.T_HAT], dtype=network.dtype)
        x_noisy = tensors["x_noisy"][None].to(network.dtype)
        x_conf = tensors["x_conf"][None, None].to(network.dtype)
        confidence = network.confidence_head(f, state, x_conf)
        return {
            "s_inputs": state.s_inputs[0],
            "s": state.s[0],
            "z": state.z[0],
            "distogram_logits": network.distogram_head(state.z)[0],
            "x_denoised": network.diffusion_module(x_noisy, t_hat, prepared)[0],
            "pae_logits": confidence.pae[0, 0],
            "pde_logits": confidence.pde[0, 0],
            "plddt_logits": confidence.plddt[0, 0],
            "resolved_logits": confidence.resolved[0, 0],
        }


def test_small_network_is_the_reference(small_network, small_example, reference):
    """Float64 against the second implementation: nothing but rounding may differ."""
    network = small_network()
    expected = reference.run(network.state_dict(), reference.example())
    found = outputs(network, reference, small_example)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-10, msg=name)


def test_small_network_stays_as_it_was(small_network, small_example, reference, request):
    """The numbers kept in the repository; a change of the network shows here."""
    kept = load_file(request.config.rootpath / "tests" / "data" / "own_golden.safetensors")
    found = reference.stored(outputs(small_network(), reference, small_example))
    assert set(found) == set(kept)
    for name, tensor in kept.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


def test_every_weight_moves_an_output(small_network, small_example, reference):
    """The comparisons above see all of the network: no tensor has a gradient of zero.

    Except the offsets of norms of pairs that become attention logits: the same for all keys, they
    cancel in the softmax.
    """
    network = small_network()
    f, tensors = collate([small_example]), reference.example()
    state = network.embed(f, reference.N_CYCLES)
    prepared = network.diffusion_module.prepare(f, state.s_inputs, state.s, state.z)
    t_hat = torch.tensor([reference.T_HAT], dtype=network.dtype)
    x = network.diffusion_module(tensors["x_noisy"][None], t_hat, prepared)
    confidence = network.confidence_head(f, state, tensors["x_conf"][None, None])
    found = [network.distogram_head(state.z), x, *vars(confidence).values()]
    wave = [torch.sin(torch.arange(t.numel()) * 1.1).reshape(t.shape) for t in found]
    sum((t * w).sum() for t, w in zip(found, wave, strict=True)).backward()
    unmoved = {
        name
        for name, p in network.named_parameters()
        if p.grad is None or p.grad.abs().max() < 1e-9
    }
    assert all(name.endswith("layer_norm_z.bias") for name in unmoved), unmoved
