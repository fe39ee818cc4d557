"""Protenix weights (v0.5, v1, v2) into ours. Source: bytedance/Protenix, Apache-2.0.

`NAMES` is the table of module names; what it does not say is renamed by nothing. Deviations of
Protenix's network from AlphaFold 3's released code, all of them flags of our configuration:

- the pair representation starts from `s_init`; relative positions enter the diffusion conditioning
  encoded; every attention block has a LayerNorm of its pairs; keys of atom attention pass a second
  AdaLN on top of the queries';
- element classes count from hydrogen = 0; one linear embeds mask, element and name together;
- the last MSA block leaves the MSA alone; the triangle attention of the ending node reads its bias
  transposed; the distogram has a bias;
- the confidence head clamps and normalises `s`, also sees raw distances; the last noise level is 0.

Every tensor of the source is used once and every tensor of ours is filled once, else an error
names it.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seedfold.model import presets
from seedfold.model.atoms import N_CHAR, N_ELEMENT
from seedfold.model.confidence import DISTANCE_EDGES
from seedfold.model.seedfold import SeedFold
from seedfold.weights import protenix_trunk
from seedfold.weights.naming import Table, convert

_ADALN: Table = {
    "layernorm_s": "layer_norm_s",
    "linear_s": "linear_scale",
    "linear_nobias_s": "linear_offset",
}
_CONDITIONED_TRANSITION: Table = {
    "adaln": ("adaln", _ADALN),
    "linear_nobias_a1": "linear_a",
    "linear_nobias_a2": "linear_b",
    "linear_nobias_b": "linear_out",
    "linear_s": "linear_gate",
}
_ATTENTION: Table = {
    "linear_q": "linear_q",
    "linear_k": "linear_k",
    "linear_v": "linear_v",
    "linear_g": "linear_g",
    "linear_o": "linear_out",
}
_ATOM_BLOCK: Table = {
    "attention_pair_bias.layernorm_a": ("attention.adaln_query", _ADALN),
    "attention_pair_bias.layernorm_kv": ("attention.adaln_key", _ADALN),
    "attention_pair_bias.layernorm_z": "attention.layer_norm_p",
    "attention_pair_bias.linear_nobias_z": "attention.linear_p",
    "attention_pair_bias.linear_a_last": "attention.linear_gate",
    "attention_pair_bias.attention": ("attention", _ATTENTION),
    "conditioned_transition_block": ("transition", _CONDITIONED_TRANSITION),
}
_ATOM_TRANSFORMER: Table = {"diffusion_transformer.blocks.*": ("blocks.*", _ATOM_BLOCK)}
_ATOM_ENCODER: Table = {
    "linear_no_bias_ref_pos": "atom_features.linear_pos",
    "linear_no_bias_ref_charge": "atom_features.linear_charge",
    "linear_no_bias_mask": "atom_features.linear_mask",
    "linear_no_bias_element": "atom_features.linear_element",
    "linear_no_bias_name": "atom_features.linear_name",
    "linear_no_bias_d": "atom_mixer.pair_embedding.linear_d",
    "linear_no_bias_invd": "atom_mixer.pair_embedding.linear_d_inverse",
    "linear_no_bias_v": "atom_mixer.pair_embedding.linear_same_space",
    "linear_no_bias_cl": "atom_mixer.pair_embedding.linear_query",
    "linear_no_bias_cm": "atom_mixer.pair_embedding.linear_key",
    "layernorm_z": "atom_mixer.pair_embedding.layer_norm_z",
    "linear_no_bias_z": "atom_mixer.pair_embedding.linear_z",
    "small_mlp.*": "atom_mixer.pair_embedding.mlp.*",
    "layernorm_s": "layer_norm_s",
    "linear_no_bias_s": "linear_s",
    "linear_no_bias_r": "linear_r",
    "linear_no_bias_q": "linear_token",
    "atom_transformer": ("atom_mixer", _ATOM_TRANSFORMER),
}
_ATOM_DECODER: Table = {
    "linear_no_bias_a": "linear_a",
    "layernorm_q": "layer_norm_q",
    "linear_no_bias_out": "linear_r_update",
    "atom_transformer": ("atom_mixer", _ATOM_TRANSFORMER),
}
_TOKEN_BLOCK: Table = {
    "attention_pair_bias.layernorm_a": ("attention_pair_bias.norm_a", _ADALN),
    "attention_pair_bias.layernorm_z": "attention_pair_bias.layer_norm_z",
    "attention_pair_bias.linear_nobias_z": "attention_pair_bias.linear_z",
    "attention_pair_bias.linear_a_last": "attention_pair_bias.linear_s",
    "attention_pair_bias.attention": ("attention_pair_bias", _ATTENTION),
    "conditioned_transition_block": ("transition", _CONDITIONED_TRANSITION),
}
_TRANSITION: Table = {
    "layernorm1": "layer_norm",
    "linear_no_bias_a": "linear_a",
    "linear_no_bias_b": "linear_b",
    "linear_no_bias": "linear_out",
}
_CONDITIONING: Table = {
    "relpe.linear_no_bias": "relative_position_encoding.linear",
    "layernorm_z": "layer_norm_z",
    "linear_no_bias_z": "linear_z",
    "transition_z1": ("pair_transitions.0", _TRANSITION),
    "transition_z2": ("pair_transitions.1", _TRANSITION),
    "layernorm_s": "layer_norm_s",
    "linear_no_bias_s": "linear_s",
    "fourier_embedding": "fourier_embedding",
    "layernorm_n": "layer_norm_noise",
    "linear_no_bias_n": "linear_noise",
    "transition_s1": ("single_transitions.0", _TRANSITION),
    "transition_s2": ("single_transitions.1", _TRANSITION),
}
_DIFFUSION: Table = {
    "diffusion_conditioning": ("diffusion_conditioning", _CONDITIONING),
    "atom_attention_encoder": ("atom_attention_encoder", _ATOM_ENCODER),
    "layernorm_s": "layer_norm_s",
    "linear_no_bias_s": "linear_s",
    "diffusion_transformer.blocks.*": ("diffusion_transformer.blocks.*", _TOKEN_BLOCK),
    "layernorm_a": "layer_norm_a",
    "atom_attention_decoder": ("atom_attention_decoder", _ATOM_DECODER),
}
_CONFIDENCE: Table = {
    "input_strunk_ln": "layer_norm_s",
    "linear_no_bias_s1": "linear_s_inputs_j",
    "linear_no_bias_s2": "linear_s_inputs_i",
    "linear_no_bias_d": "linear_distance_bin",
    "linear_no_bias_d_wo_onehot": "linear_distance",
    "pairformer_stack": ("pairformer", protenix_trunk.PAIRFORMER_STACK),
    "linear_no_bias_pae": "linear_pae",
    "linear_no_bias_pde": "linear_pde",
    "plddt_weight": "weight_plddt",
    "resolved_weight": "weight_resolved",
    "pae_ln": "layer_norm_pae",
    "pde_ln": "layer_norm_pde",
    "plddt_ln": "layer_norm_plddt",
    "resolved_ln": "layer_norm_resolved",
}


def _in_trunk(ours: str | tuple[str, Table]) -> str | tuple[str, Table]:
    return f"trunk.{ours}" if isinstance(ours, str) else (f"trunk.{ours[0]}", ours[1])


NAMES: Table = {
    "input_embedder.atom_attention_encoder": (
        "input_embedder.atom_attention_encoder",
        _ATOM_ENCODER,
    ),
    **{theirs: _in_trunk(ours) for theirs, ours in protenix_trunk.TRUNK.items()},
    "diffusion_module": ("diffusion_module", _DIFFUSION),
    "distogram_head": "distogram_head",
    "confidence_head": ("confidence_head", _CONFIDENCE),
}


def convert_protenix(source: Mapping[str, Tensor], model: SeedFold) -> dict[str, Tensor]:
    """A state dict for `model` from Protenix's; ``module.`` before every name is dropped.

    Raises:
        ValueError: naming the tensor that is unknown, missing, or of another shape or value.
    """
    source = {name.removeprefix("module."): tensor for name, tensor in source.items()}
    _drop_constants(source)
    for prefix in ("input_embedder", "diffusion_module"):
        _split_atom_features(source, f"{prefix}.atom_attention_encoder.")
    return convert(source, NAMES, model.state_dict(), "Protenix")


def _drop_constants(source: dict[str, Tensor]) -> None:
    """Takes out the edges of the confidence head's distance bins, if they are ours."""
    lower = torch.linspace(*DISTANCE_EDGES)
    upper = torch.cat([lower[1:], lower.new_tensor([1e6])])
    for name, expected in (("lower_bins", lower), ("upper_bins", upper)):
        found = source.pop(f"confidence_head.{name}", expected)
        if found.shape != expected.shape or not torch.allclose(found.float(), expected):
            raise ValueError(
                f"Protenix: 'confidence_head.{name}' holds other distance bins than ours"
            )


def _split_atom_features(source: dict[str, Tensor], prefix: str) -> None:
    """One linear of mask, element and name is three of ours."""
    fused = source.get(prefix + "linear_no_bias_f.weight")
    widths = (1, N_ELEMENT, 4 * N_CHAR)
    if fused is None or fused.shape[1] != sum(widths):
        return
    del source[prefix + "linear_no_bias_f.weight"]
    for name, part in zip(("mask", "element", "name"), fused.split(widths, 1), strict=True):
        source[f"{prefix}linear_no_bias_{name}.weight"] = part


_HEADS = {
    "pairformer_heads": "pairformer_stack.blocks.0.",
    "confidence_heads": "confidence_head.pairformer_stack.blocks.0.",
    "input_atom_heads": "input_embedder.atom_attention_encoder.atom_transformer."
    "diffusion_transformer.blocks.0.",
    "atom_heads": "diffusion_module.atom_attention_encoder.atom_transformer."
    "diffusion_transformer.blocks.0.",
    "diffusion_transformer_heads": "diffusion_module.diffusion_transformer.blocks.0.",
}
"""Options of `presets.protenix` that the projection of a pair bias gives away."""


def protenix_config(
    config: Mapping[str, Any], source: Mapping[str, Tensor] | None = None
) -> SeedFold.Config:
    """The configuration of a Protenix network from its widths and depths.

    Args:
        config: arguments of `presets.protenix`, all optional; other keys are ignored.
        source: its weights; the numbers of heads are then read off them.
    """
    known = inspect.signature(presets.protenix).parameters
    options = {key: value for key, value in config.items() if key in known}
    for option, prefix in _HEADS.items():
        bias = (source or {}).get(f"{prefix}attention_pair_bias.linear_nobias_z.weight")
        if bias is not None:
            options[option] = len(bias)
    return presets.protenix(**options)
