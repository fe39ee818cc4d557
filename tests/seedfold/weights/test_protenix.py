import json

import pytest
import torch
from safetensors.torch import load_file

from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.weights.protenix import convert_protenix, protenix_config


@pytest.fixture(scope="module")
def donor(golden_folders):
    folder = golden_folders[0]
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "reference_state_dict.safetensors")
    return SeedFold(protenix_config(config)), weights


def test_ddp_prefix_makes_no_difference(donor):
    model, weights = donor
    plain = convert_protenix(weights, model)
    wrapped = convert_protenix({f"module.{k}": v for k, v in weights.items()}, model)
    assert all(torch.equal(plain[k], wrapped[k]) for k in model.state_dict())


def test_no_number_is_lost(donor):
    """Sum of all tensors, the bin edges aside: splitting and renaming keep every number."""
    model, weights = donor
    ours = convert_protenix(weights, model)
    edges = ("confidence_head.lower_bins", "confidence_head.upper_bins")
    theirs = [v for k, v in weights.items() if k not in edges]
    for power in (1, 2):
        total = sum((t.double() ** power).sum() for t in theirs)
        torch.testing.assert_close(sum((t.double() ** power).sum() for t in ours.values()), total)


def change(weights, name, tensor):
    return {k: v for k, v in {**weights, name: tensor}.items() if v is not None}


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("layernorm_s.bias", None, r"nothing fills 'trunk.layer_norm_s.bias' \(64,\)"),
        ("extra_head.weight", torch.ones(3), r"tensor 'extra_head.weight' \(3,\) has no place"),
        (
            "layernorm_s.bias",
            torch.ones(65),
            r"'layernorm_s.bias' has shape \(65,\); expected \(64,\) for 'trunk.layer_norm_s.bias'",
        ),
        (
            "diffusion_module.atom_attention_encoder.linear_no_bias_f.weight",
            torch.ones(32, 384),
            "linear_no_bias_f.weight",
        ),
        ("confidence_head.lower_bins", torch.ones(39), "'confidence_head.lower_bins' holds other"),
    ],
)
def test_a_wrong_tensor_is_named(donor, name, tensor, message):
    model, weights = donor
    with pytest.raises(ValueError, match=message):
        convert_protenix(change(weights, name, tensor), model)


def test_weights_of_another_depth_are_refused(donor):
    _, weights = donor
    with pytest.raises(ValueError, match="Protenix: tensor '"):
        convert_protenix(weights, SeedFold(PRESETS["pico"]()))


def test_configuration_by_name():
    """Published sizes: v2 is c_z 256, c_m 128, scaled hidden widths (docs/weights.md)."""
    assert protenix_config({}) == PRESETS["protenix_v1"]()
    scaled = protenix_config({"c_z": 256, "c_m": 128, "hidden_scale_up": True, "input_json": {}})
    assert scaled == PRESETS["protenix_v2"]()
