import copy
import dataclasses

import pytest
import torch

from seedfold.config import from_dict
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.features import collate
from seedfold.model.presets import PRESETS, protenix
from seedfold.model.seedfold import SeedFold
from seedfold.weights.grow import describe, grow

PAIR_STACKS = (("trunk", "template"), ("trunk", "msa"), ("trunk", "pairformer"), ("confidence",))
WIDER, DEEPER = {"c_z": 32, "c_m": 16}, {"pairformer": 3, "msa": 3, "template": 2, "token": 5}


@pytest.fixture(scope="module")
def configure(reference):
    """Builds configurations of the reference's network, whose narrow form is the source."""

    def build(kind="softmax", positions="encoded", c_z=16, c_m=8, template=1, **options):
        d = copy.deepcopy(reference.CONFIG)
        d.update(c_z=c_z, c_m=c_m)
        for path in PAIR_STACKS:
            part = d
            for key in path:
                part = part[key]
            part = part.get("pairformer", part)
            heads = {"kind": kind, "c_head": 4, "n_heads": options.get("n_heads")}
            part["pair"] = {
                "triangle_attention": heads,
                "c_hidden_mul": options.get("c_hidden_mul"),
                "transition_n": 2,
            }
        d["trunk"]["template"].update(c=options.get("c_template", 8), n_blocks=template)
        d["trunk"]["msa"].update(n_blocks=options.get("msa", 2), **options.get("averaging", {}))
        d["trunk"]["pairformer"]["n_blocks"] = options.get("pairformer", 2)
        d["diffusion"]["transformer"]["n_blocks"] = options.get("token", 2)
        d["diffusion"]["conditioning"]["relative_positions"] = positions
        return from_dict(SeedFold.Config, d)

    return build


@pytest.fixture(scope="module")
def weights(reference):
    """Weights of a configuration, none of them zero."""

    def build(config, dtype=torch.float64):
        shapes = {name: tuple(t.shape) for name, t in SeedFold(config).state_dict().items()}
        return {name: t.to(dtype) for name, t in reference.weights(shapes).items()}

    return build


@pytest.fixture(scope="module")
def outputs(reference, small_example):
    """Everything a network says about the example, of two recycling passes and one denoising."""

    def run(config, state):
        network = config if isinstance(config, SeedFold) else load(config, state)
        f, tensors, dtype = collate([small_example]), reference.example(), network.dtype
        trunk = network.embed(f, 2)
        diffusion = network.diffusion_module
        prepared = diffusion.prepare(f.to(dtype), trunk.s_inputs, trunk.s, trunk.z)
        noisy, t_hat = tensors["x_noisy"][None].to(dtype), torch.tensor([reference.T_HAT])
        confidence = network.confidence_head(f, trunk, tensors["x_conf"][None, None].to(dtype))
        return {
            "s": trunk.s,
            "z": trunk.z,
            "x": diffusion(noisy, t_hat.to(dtype), prepared),
            "distogram": network.distogram_head(trunk.z),
            **vars(confidence),
        }

    return run


def load(config, state):
    network = SeedFold(config).to(next(iter(state.values())).dtype).eval()
    network.load_state_dict(state)
    return network


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def assert_same(outputs, source, state, target, tolerance, **options):
    small = outputs(source, state)
    large = outputs(target, grow(state, source, target, generator(), **options))
    small["z"] = small["z"].repeat(1, 1, 1, target.c_z // source.c_z)
    for name, expected in small.items():
        error = (large[name] - expected).norm() / expected.norm()
        assert error < tolerance, (name, error)


CASES = {
    "wider": ("softmax", WIDER),
    "three times": ("linear_gated", {"c_z": 48}),
    "four times": ("linear_additive", {"c_z": 64, "c_m": 32, "c_template": 16}),
    "deeper": ("softmax", {**DEEPER, "positions": "raw"}),
    "both": ("linear_gated", {**WIDER, **DEEPER}),
    "hidden": ("softmax", {"c_hidden_mul": 48, "n_heads": 8, "averaging": {"n_heads": 4}}),
    "hidden, linear": ("linear_gated", {"c_hidden_mul": 32, "n_heads": 16}),
}


@pytest.mark.parametrize(("kind", "changes"), CASES.values(), ids=CASES)
def test_grown_network_is_the_same_function(configure, weights, outputs, kind, changes):
    hidden = {"c_hidden_mul": 16, "n_heads": 4} if "n_heads" in changes else {}
    averaging = {"averaging": {"c_head": 4}} if "averaging" in changes else {}
    positions = changes.get("positions", "encoded")
    source = configure(kind, positions, **hidden, **averaging)
    if averaging:
        changes = {**changes, "averaging": {"n_heads": 4, "c_head": 8}}
    target = configure(kind, **changes)
    assert target != source
    assert_same(outputs, source, weights(source), target, 1e-12)


def test_single_precision(configure, weights, outputs):
    kind = "linear_gated"
    source, target = configure(kind), configure(kind, c_z=64, c_m=32, c_template=16, pairformer=3)
    assert_same(outputs, source, weights(source, torch.float32), target, 1e-5)


def test_public_networks(outputs, weights):
    """Protenix's flags, widened as from its v1 to v2, which lets the template stack be."""
    sizes = {"c_s": 16, "c_token_input": 8, "c_token_diffusion": 16, "c_atom": 8, "c_atompair": 4}
    blocks = ("pairformer", "msa", "template", "input_atom_encoder", "atom_encoder")
    blocks += ("atom_decoder", "diffusion_transformer", "confidence")
    heads = ("pairformer", "input_atom", "atom", "diffusion_transformer", "confidence")
    sizes |= {f"{name}_blocks": 1 for name in blocks} | {f"{name}_heads": 2 for name in heads}
    sizes |= {"hidden_scale_up": True, "msa_blocks": 2, "template_c": 32}
    source = protenix(c_z=32, c_m=8, **sizes)
    target = protenix(c_z=64, c_m=16, **sizes)
    assert_same(outputs, source, weights(source), target, 1e-11)


def loss(outputs, network):
    """A random projection of every output."""
    wave = {name: torch.sin(torch.arange(t.numel()) * 1.9) for name, t in outputs.items()}
    return sum((wave[n].to(t).view_as(t) * t).mean() for n, t in outputs.items() if n != "z")


def gradients(outputs, network):
    network.zero_grad()
    loss(outputs(network, None), network).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters()}


def test_gradients_obey_the_chain_rule(configure, weights, outputs):
    """L(theta) = L'(G theta) with a linear G: its gradient is G^T times that of the large net."""
    source, target = configure(), configure(**WIDER, c_template=16)
    small = load(source, weights(source))
    large = load(target, grow(small.state_dict(), source, target, generator()))
    found, expected = gradients(outputs, large), gradients(outputs, small)
    old = small.state_dict()
    grown = 0
    for name, p in large.named_parameters():
        maps = [copies(name, i, n, p.shape[i]) for i, n in enumerate(old[name].shape)]
        index = torch.meshgrid(*maps, indexing="ij")
        share = p / old[name][index] if p.shape != old[name].shape else torch.ones_like(p)
        collected = torch.zeros_like(old[name]).index_put(index, share * found[name], True)
        torch.testing.assert_close(
            collected, expected[name], rtol=1e-6, atol=1e-12, msg=lambda m, name=name: f"{name} {m}"
        )
        grown += p.shape != old[name].shape
    assert grown > 100


def copies(name, axis, old, new):
    """Where the channels come from; written out for the averaging's two heads of four."""
    _, _, averaging = name.partition("pair_weighted_averaging.linear_")
    if {"v.weight": 0, "gate.weight": 0, "out.weight": 1}.get(averaging) == axis:
        return torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7])
    if "diffusion_conditioning" in name and (old, new) == (32, 64) and "transitions" not in name:
        return torch.tensor([*range(16), *range(16), *range(16, 32), *range(16, 32)])
    return torch.arange(new) % old


SOFTMAX_CONSTANTS = ("attention_pair_bias.layer_norm_z.bias", "averaging.layer_norm_z.bias")
"""Offsets that are the same for all keys of a softmax: no network gives them a gradient."""


def test_every_new_unit_learns(configure, weights, outputs, small_example):
    """After one step of plain descent all of them have gradients, and no copy is a copy."""
    source, target = configure(), configure(**WIDER, **DEEPER, c_template=16)
    state = weights(source)
    # A ReLU follows, behind which a unit may be dead before it is grown.
    state["trunk.template_embedder.layer_norm_v.bias"] += 3
    network = load(target, grow(state, source, target, generator()))
    first = gradients(outputs, network)
    assert not torch.allclose(*first["trunk.linear_token_bonds.weight"].split(16), rtol=0.1)
    with torch.no_grad():
        for name, p in network.named_parameters():
            p -= 1e-2 * first[name]
    checked = 0
    for name, gradient in gradients(outputs, network).items():
        is_new = name not in state or gradient.shape != state[name].shape
        if is_new and not name.endswith(SOFTMAX_CONSTANTS):
            assert (gradient.reshape(len(gradient), -1).abs().amax(1) > 1e-12).all(), name
            checked += 1
    assert checked > 200
    z = network.embed(collate([small_example]), 2).z
    assert (z[..., :16] - z[..., 16:]).norm() > 1e-3 * z.norm()


def test_new_blocks_wait_with_their_outputs_only(configure, weights):
    source, target = configure(), configure(**DEEPER)
    grown = grow(weights(source), source, target, generator())
    block = {k: t for k, t in grown.items() if k.startswith("trunk.pairformer.blocks.1.")}
    assert not (grown.keys() - weights(target).keys())
    # Two blocks over three places: the first and the last are the old ones.
    for new, old in ((0, 0), (2, 1)):
        name = "trunk.pairformer.blocks.{}.pair_block.pair_transition.linear_a.weight"
        assert torch.equal(grown[name.format(new)], weights(source)[name.format(old)])
    for name, tensor in block.items():
        closed = "linear_out" in name
        assert tensor.any() != closed or name.endswith("bias"), name


def test_rows_keep_their_size(configure, weights):
    """Shares sum to 1, and their mean square is 1 / k: the length of a row stays what it was."""
    source, target = configure(), configure(c_z=64)
    state = weights(source)
    grown = grow(state, source, target, generator())
    name = "trunk.pairformer.blocks.0.pair_block.pair_transition.linear_a.weight"
    old, new = state[name], grown[name]
    torch.testing.assert_close(new.view(-1, 4, 16).sum(1), old.repeat(4, 1))
    lengths = new.square().sum(1).view(4, -1) / old.square().sum(1)
    assert abs(float(lengths.mean()) - 1) < 0.1
    assert lengths.std(0).min() > 0.01


def test_generator_decides(configure, weights):
    source, target = configure(), configure(c_z=32, pairformer=3)
    state = weights(source)
    a, b, c = (grow(state, source, target, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a[k], b[k]) for k in a)
    for name in (
        "trunk.linear_z.weight",
        "trunk.pairformer.blocks.1.pair_block.pair_transition.linear_a.weight",
    ):
        assert not torch.equal(a[name], c[name])


def test_raw_positions(configure, weights, outputs):
    """Refused unless a variance is given; then close, and closest at the right variance."""
    source, target = configure(positions="raw"), configure(positions="raw", c_z=32)
    state = weights(source)
    with pytest.raises(InputError, match=r"relative_positions: 'raw'.*z_variance"):
        grow(state, source, target, generator())
    with torch.no_grad():
        expected = outputs(source, state)
        variance = float(expected["z"].var(-1, unbiased=False).median())
        errors = []
        for v in (variance, variance / 10):
            grown = grow(state, source, target, generator(), z_variance=v)
            found = outputs(target, grown)
            errors.append(float((found["x"] - expected["x"]).norm() / expected["x"].norm()))
            assert (found["pae"] - expected["pae"]).norm() < 1e-12 * expected["pae"].norm()
    assert errors == sorted(errors)
    assert errors[0] < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c_z": 24}, r"model.c_z: 16 in the source and 24 in the target; expected a whole mult"),
        ({"c_z": 8}, "model.c_z: 16 .* whole multiple"),
        ({"c_m": 12}, "model.c_m"),
        ({"c_template": 12}, "model.trunk.template.c:"),
        ({"kind": "linear_gated"}, "triangle_attention.kind: .* cannot grow"),
        ({"pairformer": 1}, "model.trunk.pairformer.n_blocks: 2 .* 1 .* no fewer"),
        ({"positions": "raw"}, "relative_positions: .* cannot grow"),
        ({"n_heads": 6}, r"msa_module.*linear_q.weight' would go from 16 to 24"),
        ({"c_hidden_mul": 20}, r"tensor '.*triangle_multiplication.* would go from 8 to 20"),
        ({"averaging": {"n_heads": 4, "c_head": 2}}, "averaging.linear_v.weight' would go from 4"),
    ],
)
def test_what_cannot_grow(configure, weights, changes, message):
    source = configure()
    with pytest.raises(InputError, match=message):
        grow(weights(source), source, configure(**changes), generator())


@dataclasses.dataclass(frozen=True)
class Stranger:
    kind: str


def test_other_widths_and_parts_cannot_grow(configure, weights):
    source = configure()
    wider = dataclasses.replace(source, c_token=48)
    with pytest.raises(InputError, match=r"model.c_token: 24 .* cannot grow"):
        grow(weights(source), source, wider, generator())
    pair = source.confidence.pairformer.pair
    strange = Stranger(kind="mine:Attention")
    stack = dataclasses.replace(
        source.confidence.pairformer, pair=dataclasses.replace(pair, triangle_attention=strange)
    )
    target = dataclasses.replace(
        source, confidence=dataclasses.replace(source.confidence, pairformer=stack)
    )
    with pytest.raises(InputError, match=r"confidence.*kind: 'mine:Attention' cannot be grown"):
        grow(weights(source), source, target, generator())


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("trunk.layer_norm_z.bias", None, "'trunk.layer_norm_z.bias' is missing"),
        ("trunk.extra.weight", torch.ones(2), "'trunk.extra.weight' is too many"),
        ("trunk.layer_norm_z.bias", torch.ones(15), r"'trunk.layer_norm_z.bias' has shape \(15,\)"),
    ],
)
def test_a_wrong_tensor_is_named(configure, weights, name, tensor, message):
    source = configure()
    state = {k: t for k, t in {**weights(source), name: tensor}.items() if t is not None}
    with pytest.raises(InputError, match=message):
        grow(state, source, configure(c_z=32), generator())


def test_description_of_the_papers_rows():
    lines = describe(PRESETS["seedfold_128"](), PRESETS["seedfold_256"]())
    assert lines[:3] == ["c_z: 128 -> 256", "c_m: 64 -> 128", "trunk.template.c: 64 -> 128"]
    # The counts of docs/model.md.
    assert lines[3:] == ["numbers in the file: 445,137,564 -> 542,029,404 (1.22 times)"]
    with pytest.raises(InputError, match="n_blocks"):
        describe(PRESETS["seedfold_deep_pairformer"](), PRESETS["seedfold_128"]())
