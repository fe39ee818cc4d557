import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from seedfold.data_pipeline.features import Features, collate
from seedfold.model.msa import MSAModule
from seedfold.model.pairformer import PairBlock, PairformerStack
from seedfold.model.template import TemplateEmbedder, template_pair_features
from seedfold.model.triangle import TriangleAttention
from seedfold.model.trunk import Trunk
from seedfold.weights.naming import convert, translate
from seedfold.weights.protenix_trunk import TRUNK


def protenix_trunk(c) -> Trunk:
    """The trunk of a Protenix network with these widths and depths."""
    attention = TriangleAttention.Config(n_heads=None if c["hidden_scale_up"] else 4)

    def pair(n: int) -> PairBlock.Config:
        hidden = None if c["hidden_scale_up"] else 128
        return PairBlock.Config(triangle_attention=attention, c_hidden_mul=hidden, transition_n=n)

    config = Trunk.Config(
        z_init_from="s_init",
        template=TemplateEmbedder.Config(
            n_blocks=c["template_blocks"], c=c["template_c"], pair=pair(2)
        ),
        msa=MSAModule.Config(n_blocks=c["msa_blocks"], c_head=8, pair=pair(4)),
        pairformer=PairformerStack.Config(
            n_blocks=c["pairformer_blocks"], n_heads=c["pairformer_heads"], pair=pair(4)
        ),
    )
    return Trunk(config, c["c_s_inputs"], c["c_s"], c["c_z"], c["c_m"]).eval()


@pytest.mark.parametrize("name", ["protenix_a", "protenix_b"])
def test_is_protenix_s(name, golden_folders, check_golden):
    """The trunk alone, from stored inputs: every number of s and of the stored rows of z."""
    folder = golden_folders[0].parent / name
    c = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "features.safetensors")
    outputs = load_file(folder / "outputs.safetensors")
    trunk = protenix_trunk(c)
    theirs = load_file(folder / "reference_state_dict.safetensors")
    theirs = {name: tensor for name, tensor in theirs.items() if translate(name, TRUNK)}
    trunk.load_state_dict(convert(theirs, TRUNK, trunk.state_dict(), "Protenix"))
    with torch.no_grad():
        state = trunk(
            check_golden.golden_features(stored),
            outputs["s_inputs"][None],
            c["n_cycles"],
            templates=check_golden.golden_templates(stored),
        )
    for found, expected in ((state.s[0], outputs["s"]), (state.z[0, ::8], outputs["z"])):
        assert (found - expected).norm() / expected.norm() < 1e-5


@pytest.fixture
def f(small_example) -> Features:
    return collate([small_example])


@pytest.fixture
def s_inputs(reference) -> torch.Tensor:
    width = reference.CONFIG["c_token_input"] + 65
    generator = torch.Generator().manual_seed(4)
    return torch.randn(1, reference.N_TOKEN, width, generator=generator, dtype=torch.float64)


def without_templates(f: Features) -> Features:
    empty = {n: getattr(f, n)[:, :0] for n in Features.axes() if n.startswith("template_")}
    return dataclasses.replace(f, **empty)


def test_without_templates_the_embedder_is_not_asked(small_network, f, s_inputs):
    trunk = small_network().trunk
    calls = []
    trunk.template_embedder.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        none = trunk(without_templates(f), s_inputs, 1)
        assert not calls
        some = trunk(f, s_inputs, 1)
    assert calls and not torch.allclose(none.z, some.z)


def test_gradients_flow_through_the_last_pass_only(small_network, f, s_inputs):
    """They equal those of one pass that starts from the numbers of the first."""
    trunk = small_network().trunk
    state = trunk(f, s_inputs, 2)
    names, parameters = zip(*trunk.named_parameters(), strict=True)
    found = torch.autograd.grad(state.z.square().sum() + state.s.square().sum(), parameters)

    with torch.no_grad():
        first = trunk(f, s_inputs, 1)
    s_init, z_init = trunk.initial(f, s_inputs)
    s = s_init + trunk.linear_s(trunk.layer_norm_s(first.s))
    z = z_init + trunk.linear_z(trunk.layer_norm_z(first.z))
    s, z = trunk.one_pass(f, template_pair_features(f), s_inputs, s, z)
    torch.testing.assert_close(z, state.z)
    expected = torch.autograd.grad(z.square().sum() + s.square().sum(), parameters)
    for name, a, b in zip(names, found, expected, strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_padding_changes_nothing(small_network, f, padded_example, s_inputs):
    trunk, n = small_network().trunk, f.n_token
    padded = torch.ones(1, padded_example.n_token, s_inputs.shape[-1], dtype=torch.float64)
    padded[:, :n] = s_inputs
    with torch.no_grad():
        expected, found = trunk(f, s_inputs, 2), trunk(padded_example, padded, 2)
    torch.testing.assert_close(found.s[:, :n], expected.s)
    torch.testing.assert_close(found.z[:, :n, :n], expected.z)


def test_each_pass_draws_msa_rows_anew(small_network, reference, f, s_inputs):
    config = reference.CONFIG["trunk"]
    trunk = small_network(trunk={**config, "msa": {**config["msa"], "n_msa": 2}}).trunk
    drawn = []
    trunk.msa_module.blocks[0].outer_product_mean.register_forward_pre_hook(
        lambda _, args: drawn.append(args[0].clone())
    )
    with torch.no_grad():
        states = [
            trunk(f, s_inputs, 4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1, 2)
        ]
    assert torch.equal(states[0].z, states[1].z)
    assert all(m.shape[1] == 2 for m in drawn)
    assert len({m[0, 1].sum().item() for m in drawn[:4]}) > 1
    assert len({m[0, 0].sum().item() for m in drawn}) == 1
    assert not all(torch.equal(states[0].z, other.z) for other in states[2:])
