import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from seedfold.data_pipeline.chemistry import RESTYPE_INDEX
from seedfold.model.atom_mixer import LocalWindow
from seedfold.model.sampler import Draws, SamplerConfig, sample_diffusion
from seedfold.model.seedfold import SeedFold
from seedfold.model.trunk import Trunk
from seedfold.weights.intellifold import ALPHABET, convert_intellifold, intellifold_config

# The stored numbers are a float64 run's; what is left is their 1e-6 in a mean's denominator.
TOLERANCE = 1e-5
TRUNK = "backbone_trunk."
BLOCK = TRUNK + "pairformer.blocks.0.pair_stack."
TEMPLATE = TRUNK + "template_embedder."
CONDITIONING = "diffusion_module.diffusion_conditioning."


@pytest.fixture(scope="module")
def folder(request):
    found = request.config.rootpath.parent / "shared" / "golden" / "intellifold_a"
    if not found.is_dir():
        pytest.skip("no ../shared/golden/intellifold_a beside this checkout")
    return found


@pytest.fixture(scope="module")
def donor(folder, check_golden):
    """Their weights, features and outputs, our network as imported, its trunk and its errors."""
    weights = load_file(folder / "reference_state_dict.safetensors")
    stored = load_file(folder / "outputs.safetensors")
    config = json.loads((folder / "config.json").read_text())
    f, templates = check_golden.intellifold_inputs(
        load_file(folder / "features.safetensors"), config["restype_alphabet"]
    )
    found = SimpleNamespace(
        weights=weights,
        stored=stored,
        config=intellifold_config(weights),
        f=f.to(torch.float64),
        templates=templates,
    )
    found.model = build(found)

    def keep(module, _arguments, output):
        if isinstance(module, Trunk):
            found.state = output

    hook = torch.nn.modules.module.register_module_forward_hook(keep)
    try:
        found.errors = check_golden.largest_errors(folder)
    finally:
        hook.remove()
    return found


def build(donor, weights=None, config=None):
    model = SeedFold(config or donor.config).double().eval()
    model.load_state_dict(convert_intellifold(weights or donor.weights, model))
    return model


def test_every_stage_is_intellifold(donor):
    assert len(donor.errors) == 30
    assert {key: e for key, e in donor.errors.items() if not e < TOLERANCE} == {}


def first_pass(donor, model):
    """Stage after stage, so that nobody need wait for those after the one they look at."""
    f, s_inputs = donor.f, model.input_embedder(donor.f)
    yield "mid_input_atom_a", s_inputs[0, :, : donor.config.c_token_input]
    s_init, z_init = model.trunk.initial(f, s_inputs)
    yield "mid_s_init", s_init[0]
    yield "mid_z_init", z_init[0, ::16]
    s = s_init + model.trunk.linear_s(model.trunk.layer_norm_s(torch.zeros_like(s_init)))
    z = z_init + model.trunk.linear_z(model.trunk.layer_norm_z(torch.zeros_like(z_init)))
    mask = f.token_mask[:, :, None] & f.token_mask[:, None, :]
    template = model.trunk.template_embedder(donor.templates, z, mask)
    yield "mid_template_pass1", template[0, ::16]
    z = model.trunk.msa_module(f, s_inputs, z + template)
    yield "mid_msa_z_pass1", z[0, ::16]
    s, z = model.trunk.pairformer(s, z, f.token_mask)
    yield "mid_s_pass1", s[0]
    yield "mid_z_pass1", z[0, ::16]


def diffusion(donor, model):
    state = donor.state
    prepared = model.diffusion_module.prepare(donor.f, state.s_inputs, state.s, state.z)
    x, t_hat = (donor.stored[key][None].double() for key in ("x_noisy", "t_hat"))
    single = model.diffusion_module.diffusion_conditioning(prepared.s_single, t_hat)
    yield "mid_diff_cond_s", single[0]
    yield "x_denoised", model.diffusion_module(x, t_hat, prepared)[0]


def confidence(donor, model):
    found = model.confidence_head(donor.f, donor.state, donor.stored["x_conf"][None].double())
    yield "pae_logits", found.pae[0, :, ::8]
    yield "pde_logits", found.pde[0, :, ::8]
    yield "plddt_logits", found.plddt[0]
    yield "resolved_logits", found.resolved[0]


def stages(donor, part, model, last=None):
    """The stages of `part`, up to `last`."""
    found = {}
    with torch.no_grad():
        for key, x in part(donor, model):
            assert x.shape == donor.stored[key].shape
            found[key] = x.clone()
            if key == last:
                break
    return found


def errors_of(donor, part, model, last=None):
    return {
        key: float((x - donor.stored[key]).abs().max() / donor.stored[key].abs().max())
        for key, x in stages(donor, part, model, last).items()
    }


@pytest.mark.parametrize("part", [first_pass, diffusion, confidence])
def test_the_parts_that_mistakes_are_looked_for_in(donor, part):
    assert max(errors_of(donor, part, donor.model).values()) < TOLERANCE


def swapped(a, b):
    return lambda w: {a: w[b], b: w[a]}


def changed(name, function):
    return lambda w: {name: function(w[name])}


def other_halves(x):
    return torch.cat(x.chunk(2)[::-1])


def other_rows(x):
    return x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def gap_last(x):
    """Their columns as if in our order: what stands at the gap's place is read as RNA's A."""
    return torch.cat([x[:, :21], x[:, 22:31], x[:, 21:22], x[:, 31:]], 1)


@pytest.mark.parametrize(
    ("mistake", "part", "key"),
    [
        (changed(TRUNK + "msa_embedder.linear_mf.weight", gap_last), first_pass, "mid_msa_z_pass1"),
        (
            changed(TRUNK + "input_embedder.linear_s_inputs.weight", gap_last),
            first_pass,
            "mid_s_init",
        ),
        (
            changed(TEMPLATE + "linear_aatype_col.weight", gap_last),
            first_pass,
            "mid_template_pass1",
        ),
        (
            swapped(TEMPLATE + "linear_aatype_col.weight", TEMPLATE + "linear_aatype_row.weight"),
            first_pass,
            "mid_template_pass1",
        ),
        (
            swapped(TEMPLATE + "linear_unit_vec_x.weight", TEMPLATE + "linear_unit_vec_y.weight"),
            first_pass,
            "mid_template_pass1",
        ),
        (
            swapped(
                TRUNK + "input_embedder.linear_z_i.weight",
                TRUNK + "input_embedder.linear_z_j.weight",
            ),
            first_pass,
            "mid_z_init",
        ),
        (
            changed(
                TRUNK + "msa_stack.blocks.0.outer_product_mean.output_w",
                lambda x: x.transpose(0, 1),
            ),
            first_pass,
            "mid_msa_z_pass1",
        ),
        (
            changed(BLOCK + "pair_transition.linear.weight", other_halves),
            first_pass,
            "mid_z_pass1",
        ),
        (
            lambda w: {
                name: other_rows(w[name])
                for name in (
                    f"{TEMPLATE}pairformer_stack.0.tri_mul_in.linear_ab_{x}.weight" for x in "pg"
                )
            },
            first_pass,
            "mid_template_pass1",
        ),
        (
            lambda w: {
                name: w[name].unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
                for name in (
                    f"{TEMPLATE}pairformer_stack.0.tri_mul_out.linear_ab_{x}.weight" for x in "pg"
                )
            },
            first_pass,
            "mid_template_pass1",
        ),
        (
            changed(
                "diffusion_module.diffusion_transformer.blocks.1.single_transition.linear_a.weight",
                other_halves,
            ),
            diffusion,
            "x_denoised",
        ),
        (
            changed(CONDITIONING + "linear_s.weight", lambda x: x.roll(-64, 1)),
            diffusion,
            "mid_diff_cond_s",
        ),
        (
            swapped(
                "confidence_head.linear_s_inputs_row.weight",
                "confidence_head.linear_s_inputs_col.weight",
            ),
            confidence,
            "pae_logits",
        ),
        (
            changed(
                "confidence_head.plddt_head.linear.weight",
                lambda x: x.unflatten(0, (50, 24)).transpose(0, 1).flatten(0, 1),
            ),
            confidence,
            "plddt_logits",
        ),
    ],
)
def test_a_mistake_in_the_layout_is_seen(donor, mistake, part, key):
    """Each one leaves all shapes as they are."""
    wrong = {**donor.weights, **mistake(donor.weights)}
    assert errors_of(donor, part, build(donor, wrong), key)[key] > 10 * TOLERANCE


def with_option(config, path, value):
    name, *rest = path.split(".")
    if rest:
        value = with_option(getattr(config, name), ".".join(rest), value)
    return dataclasses.replace(config, **{name: value})


@pytest.mark.parametrize(
    ("path", "value", "part", "key"),
    [
        ("element_offset", -1, first_pass, "mid_input_atom_a"),
        ("embedding.atom_mixer.ends", "masked", first_pass, "mid_input_atom_a"),
        ("trunk.template.mean_eps", 0.0, first_pass, "mid_template_pass1"),
        (
            "trunk.pairformer.pair.triangle_attention.ending_bias",
            "transposed",
            first_pass,
            "mid_z_pass1",
        ),
        ("diffusion.atom_mixer.ends", "masked", diffusion, "x_denoised"),
        ("confidence.symmetric_pde", "pairs", confidence, "pde_logits"),
    ],
)
def test_every_flag_is_needed(donor, path, value, part, key):
    model = build(donor, config=with_option(donor.config, path, value))
    assert errors_of(donor, part, model, key)[key] > 2 * TOLERANCE


def test_every_number_arrives(donor):
    """Numbered through, all numbers are found again; only N's columns twice, and no unused ones."""
    weights, start = {}, 0
    for name, tensor in donor.weights.items():
        weights[name] = torch.arange(start, start + tensor.numel()).double().view(tensor.shape)
        start += tensor.numel()
    ours = convert_intellifold(weights, donor.model)
    arrived = torch.cat([t.flatten() for t in ours.values()])
    features = weights[TRUNK + "msa_embedder.linear_mf.weight"]
    templates = [weights[f"{TEMPLATE}linear_aatype_{x}.weight"] for x in ("col", "row")]
    unused, twice = features[:, 31], torch.cat([x[:, 30] for x in (features, *templates)])
    count = torch.bincount(arrived.long(), minlength=start)
    assert count[unused.long()].eq(0).all() and count[twice.long()].eq(2).all()
    count[unused.long()], count[twice.long()] = 1, 1
    assert count.eq(1).all()


def test_the_unknown_base_is_one_class(donor):
    """Whatever holds N gives the same network output when it holds DN."""
    n, dn = RESTYPE_INDEX["N"], RESTYPE_INDEX["DN"]
    found = []
    for one, other in ((n, dn), (dn, n)):
        profile = donor.f.profile.clone()
        profile[..., one] += 0.5
        f = dataclasses.replace(
            donor.f,
            restype=torch.full_like(donor.f.restype, one),
            msa=donor.f.msa.masked_fill(donor.f.msa == other, one).index_fill(1, index(0), one),
            profile=profile,
        )
        templates = dataclasses.replace(
            donor.templates, restype=torch.full_like(donor.templates.restype, one)
        )
        changed_donor = SimpleNamespace(**{**vars(donor), "f": f, "templates": templates})
        found.append(stages(changed_donor, first_pass, donor.model, "mid_msa_z_pass1"))
    for key, x in found[0].items():
        torch.testing.assert_close(found[1][key], x, rtol=1e-9, atol=1e-9, msg=key)
    assert not torch.equal(found[0]["mid_s_init"].float(), donor.stored["mid_s_init"])


def index(i):
    return torch.tensor([i])


def test_alphabet(folder):
    theirs = json.loads((folder / "config.json").read_text())["restype_alphabet"]
    assert [name.split("/")[0] for name in theirs] == list(ALPHABET)


def test_published_size(donor):
    """IntelliFold-2 has 850,000,858 numbers; DN adds 2 columns of 256 to ours."""
    c = donor.config
    for path, value in {
        **{"c_s": 384, "c_z": 512, "c_m": 256, "c_token": 768},
        **{"c_token_input": 384, "c_atom": 128},
        "trunk.template.c": 256,
        "trunk.template.n_blocks": 2,
        "trunk.template.pair.c_hidden_mul": 256,
        "trunk.template.pair.triangle_attention.c_head": 32,
        "trunk.msa.n_blocks": 4,
        "trunk.msa.c_head": 32,
        "trunk.msa.pair.c_hidden_mul": 512,
        "trunk.msa.pair.triangle_attention.c_head": 64,
        "trunk.pairformer.n_blocks": 48,
        "trunk.pairformer.pair.c_hidden_mul": 512,
        "trunk.pairformer.pair.triangle_attention.c_head": 64,
        "diffusion.conditioning.c_cond": 384,
        "diffusion.transformer.n_blocks": 24,
        "diffusion.n_encoder_blocks": 3,
        "diffusion.n_decoder_blocks": 3,
        "confidence.pairformer.n_blocks": 4,
        "confidence.pairformer.pair.c_hidden_mul": 512,
        "confidence.pairformer.pair.triangle_attention.c_head": 64,
    }.items():
        c = with_option(c, path, value)
    with torch.device("meta"):
        tensors = SeedFold(c).state_dict().values()
    assert sum(t.numel() for t in tensors) == 850_000_858 + 2 * 256


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (TRUNK + "recycling_embedder.linear_s.weight", None, "nothing fills 'trunk.linear_s.weig"),
        ("extra.weight", torch.ones(3), r"tensor 'extra.weight' \(3,\) has no place"),
        (
            BLOCK + "tri_mul_out.linear_ab_p.weight",
            torch.ones(95, 48),
            r"tensor '.*tri_mul_out.linear_ab_p.weight' \(95, 48\) has no place",
        ),
        (
            BLOCK + "pair_transition.linear.silu.weight",
            torch.ones(192, 48),
            r"'.*pair_transition.linear.*weight' and another tensor are both",
        ),
        (
            TRUNK + "input_embedder.linear_z_j.weight",
            torch.ones(48, 121),
            r"linear_z_j.weight' has shape \(48, 121\); expected \(48, 119\)",
        ),
        (TEMPLATE + "linear_unit_vec_y.weight", None, "found no tensor '.*linear_unit_vec_y"),
        (
            TEMPLATE + "linear_aatype_row.weight",
            torch.ones(32, 32),
            r"linear_aatype_row.weight' has shape \(32, 32\); expected \(32, 31\)",
        ),
    ],
)
def test_a_wrong_tensor_is_named(donor, name, tensor, message):
    wrong = {k: v for k, v in {**donor.weights, name: tensor}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        convert_intellifold(wrong, donor.model)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (TRUNK + "input_embedder.linear_z_i.weight", None, "found no tensor '.*linear_z_i.weight'"),
        (CONDITIONING + "linear_s.weight", torch.ones(64), r"has shape \(64,\); expected 2 axes"),
        (
            TRUNK + "input_embedder.linear_s_inputs.weight",
            torch.ones(64, 121),
            "65 columns of '.*linear_s_inputs.weight' are not of atoms; expected 63",
        ),
        (
            TRUNK + "msa_stack.blocks.1.msa_transition.linear.weight",
            torch.ones(320, 40),
            "belongs to IntelliFold v1",
        ),
        (
            CONDITIONING + "linear_s_inputs.weight",
            torch.ones(64, 119),
            "belongs to IntelliFold v2-flash",
        ),
    ],
)
def test_another_network_is_refused(donor, name, tensor, message):
    wrong = {k: v for k, v in {**donor.weights, name: tensor}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        intellifold_config(wrong)


@pytest.mark.parametrize("n_atom", [20, 128, 150, 904])
@pytest.mark.parametrize("padding", [0, 200])
def test_windows_are_shifted_inwards(n_atom, padding):
    """Block b of P atoms, a multiple of 32, reads 128 keys from clip(32 b - 48, 0, P - 128)."""
    mask = torch.arange(n_atom + padding)[None] < n_atom
    mixer = LocalWindow(LocalWindow.Config(ends="shifted"), 8, 4, None, 1)
    keys, real = mixer._windows(mask)
    padded = 32 * (-(-n_atom // 32))
    for block in range(padded // 32):
        start = max(0, min(32 * block - 48, padded - 128))
        expected = [atom for atom in range(start, start + 128) if atom < n_atom]
        assert keys[block][real[0, block]].tolist() == expected


def test_sampler_goes_on_to_zero_from_one_start():
    """201 calls for 200 steps, and samples that differ by a rotation until noise is added."""
    levels, first = [], []

    def denoise(x_noisy, t_hat):
        levels.append(float(t_hat))
        first.append(x_noisy)
        return torch.zeros_like(x_noisy)

    def sample(**options):
        levels.clear(), first.clear()
        config = SamplerConfig(gamma_0=0.0, translation_scale=0.0, step_scale=1.0, **options)
        draws = [[Draws(3, 0), Draws(3, 1)]]
        mask = torch.ones(1, 7, dtype=torch.bool)
        x = sample_diffusion(denoise, mask, draws, config, 200, torch.float64)
        a, b = first[0][0]
        return x, (torch.cdist(a, a) - torch.cdist(b, b)).abs().max() / 2560

    x, difference = sample(go_on_to_zero=True, shared_start=True)
    assert len(levels) == 201 and levels[-1] == pytest.approx(16 * 4e-4)
    # From the lowest level to zero, the last step lands on what the denoiser says.
    assert x.abs().max() < 1e-12
    assert difference < 1e-6
    x, difference = sample()
    assert len(levels) == 200 and x.abs().max() > 1e-6 and difference > 0.1
