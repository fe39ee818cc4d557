"""Checks the network against stored outputs of Protenix's and IntelliFold's own classes.

    python scripts/check_golden.py FOLDER... [--features]

A FOLDER holds `config.json`, `features.safetensors`, `reference_state_dict.safetensors` and
`outputs.safetensors`, for any widths, depths and chemistry. The weights are imported, every stage
is run, and each stored output is compared. Exit status 1 if any is off by more than 1e-4, as
||found - stored|| / ||stored||. The names of the weights say whose they are. IntelliFold's stored
outputs are of a float64 run: so is ours then, and the limit is 1e-5, as max |found - stored| /
max |stored|.
"""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from seedfold.data_pipeline.chemistry import KINDS, RESTYPE_INDEX, RESTYPES
from seedfold.data_pipeline.features import Features
from seedfold.model.sampler import noise_schedule
from seedfold.model.seedfold import SeedFold
from seedfold.model.template import TemplatePairFeatures
from seedfold.scores import MAX_ERROR, bin_centres
from seedfold.weights.intellifold import convert_intellifold, intellifold_config
from seedfold.weights.protenix import convert_protenix, protenix_config

TOLERANCE, INTELLIFOLD_TOLERANCE = 1e-4, 1e-5
FILES = (
    "config.json",
    "features.safetensors",
    "reference_state_dict.safetensors",
    "outputs.safetensors",
)
PAIR_STRIDE, MID_PAIR_STRIDE, MID_ATOM_STRIDE = 8, 16, 8
INPUTS = ("x_noisy", "t_hat", "x_conf")
"""Stored among the outputs, but given to the network."""
INTELLIFOLD_KEYS = {
    "mid_diff_a_enc": "mid_diff_atom_enc_a",
    "mid_diff_q_skip": "mid_diff_atom_enc_q_skip",
    "mid_diff_a_trans": "mid_diff_token_transformer",
}
"""Its keys of stages that Protenix's folders have under another."""


def golden_features(stored: dict[str, Tensor]) -> Features:
    """Protenix's stored features as ours, a batch of one example; templates stay apart."""
    atom_to_token = stored["atom_to_token_idx"].long()
    n_atom, n_token = len(atom_to_token), len(stored["restype"])
    is_kind = torch.stack([stored[f"is_{kind}"] for kind in KINDS])
    first = torch.full((n_token,), n_atom).scatter_reduce(
        0, atom_to_token, torch.arange(n_atom), "amin"
    )
    representative = stored["distogram_rep_atom_mask"].bool().nonzero()[:, 0]
    msa, n_templ = stored["msa"].long(), 0
    true = torch.ones((), dtype=torch.bool)
    unbatched = Features(
        restype=stored["restype"].long(),
        residue_index=stored["residue_index"].long(),
        token_index=stored["token_index"].long(),
        asym_id=stored["asym_id"].long(),
        entity_id=stored["entity_id"].long(),
        sym_id=stored["sym_id"].long(),
        cyclic_period=torch.zeros(n_token, dtype=torch.long),
        kind=is_kind[:, first].int().argmax(0),
        token_mask=true.expand(n_token),
        token_bonds=stored["token_bonds"].bool(),
        msa=msa,
        msa_mask=true.expand(msa.shape),
        has_deletion=stored["has_deletion"].bool(),
        deletion_value=stored["deletion_value"],
        profile=stored["profile"],
        deletion_mean=stored["deletion_mean"],
        template_restype=torch.zeros(n_templ, n_token, dtype=torch.long),
        template_backbone_mask=torch.zeros(n_templ, n_token, dtype=torch.bool),
        template_pseudo_beta_mask=torch.zeros(n_templ, n_token, dtype=torch.bool),
        template_frame=torch.zeros(n_templ, n_token, 3, 3),
        template_origin=torch.zeros(n_templ, n_token, 3),
        template_pseudo_beta=torch.zeros(n_templ, n_token, 3),
        ref_pos=stored["ref_pos"],
        ref_mask=stored["ref_mask"].bool(),
        ref_element=stored["ref_element"].long() + 1,  # Protenix counts from hydrogen = 0
        ref_charge=stored["ref_charge"].long(),
        ref_atom_name_chars=stored["ref_atom_name_chars"].long(),
        ref_space_uid=stored["ref_space_uid"].long(),
        atom_to_token=atom_to_token,
        atom_slot=stored["atom_to_tokatom_idx"].long(),
        atom_mask=true.expand(n_atom),
        centre_atom=representative,
        representative_atom=representative,
        frame_atoms=stored["frame_atom_index"].long().clamp_min(0),
        frame_mask=stored["has_frame"].bool(),
    )
    return unbatched.map(lambda x: x[None])


def golden_templates(stored: dict[str, Tensor]) -> TemplatePairFeatures:
    """The stored template pair features, a batch of one example, masked to pairs in a chain."""
    bins = stored["template_distogram"].long()[None]
    same_chain = stored["asym_id"][:, None] == stored["asym_id"][None, :]
    return TemplatePairFeatures(
        restype=stored["template_aatype"].long()[None],
        distogram=bins.clamp_min(0),
        distogram_mask=(bins >= 0) & same_chain,
        pseudo_beta_mask=stored["template_pseudo_beta_mask"].bool()[None] & same_chain,
        unit_vector=stored["template_unit_vector"][None] * same_chain[..., None],
        backbone_mask=stored["template_backbone_frame_mask"].bool()[None] & same_chain,
    )


class Recorder:
    """Collects the outputs of submodules during a forward pass, without touching their code."""

    def __init__(self, stack: ExitStack):
        self.stack = stack
        self.found: dict[str, Tensor] = {}

    def __call__(
        self, name: str, module: nn.Module, pick: Callable[[Any], Tensor], call: int = 0
    ) -> None:
        """Stores ``pick(output)`` of the `call`-th call of `module` under `name`."""
        count = 0

        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            nonlocal count
            if count == call:
                self.found[name] = pick(output).clone()  # the network may reuse the memory
            count += 1

        self.stack.callback(module.register_forward_hook(hook).remove)


def run(
    model: SeedFold, f: Features, templates: TemplatePairFeatures, stored: dict[str, Tensor], n: int
) -> dict[str, Tensor]:
    """Every stage of `model`, keyed and strided as the stored outputs are."""
    with torch.no_grad(), ExitStack() as stack:
        record = Recorder(stack)
        _record_trunk(record, model)
        for i in range(n):
            record(f"mid_s_pass{i + 1}", model.trunk.pairformer, lambda o: o[0][0], call=i)
            record(f"mid_z_pass{i + 1}", model.trunk.pairformer, lambda o: _pair(o[1]), call=i)
        _record_heads(record, model)
        s_inputs = model.input_embedder(f)
        state = model.trunk(f, s_inputs, n, templates=templates)
        out = {
            "s_inputs": s_inputs[0],
            "s": state.s[0],
            "z": state.z[0, ::PAIR_STRIDE],
            "distogram_logits": model.distogram_head(state.z)[0, ::PAIR_STRIDE],
        }
        prepared = model.diffusion_module.prepare(f, s_inputs, state.s, state.z)
        x_denoised = model.diffusion_module(
            stored["x_noisy"][None].to(s_inputs), stored["t_hat"][None].to(s_inputs), prepared
        )
        out["x_denoised"] = x_denoised[0]
        confidence = model.confidence_head(f, state, stored["x_conf"][None].to(s_inputs))
        out["plddt_logits"] = confidence.plddt[0]
        out["resolved_logits"] = confidence.resolved[0]
        out["pae_logits"] = confidence.pae[0, :, ::PAIR_STRIDE]
        out["pde_logits"] = confidence.pde[0, :, ::PAIR_STRIDE]
        # The pair conditioning is made in `prepare`, where no submodule is called for it.
        out["mid_diff_cond_z"] = model.diffusion_module.diffusion_conditioning.pair(f, state.z)[
            0, ::MID_PAIR_STRIDE
        ]
        s_init, z_init = model.trunk.initial(f, s_inputs)
        out["mid_s_init"], out["mid_z_init"] = s_init[0], _pair(z_init)
    return {**record.found, **out, **_expectations(model, out)}


def _expectations(model: SeedFold, out: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the logits say, pLDDT as a fraction and errors in Angstrom, and the noise levels."""

    def mean(logits: Tensor, end: float) -> Tensor:
        return logits.softmax(-1) @ bin_centres(logits.shape[-1], end).to(logits)

    return {
        "plddt": mean(out["plddt_logits"], 1.0),
        "pae": mean(out["pae_logits"], MAX_ERROR),
        "pde": mean(out["pde_logits"], MAX_ERROR),
        "noise_schedule_200": torch.tensor(
            noise_schedule(model.config.sampler, 200), dtype=torch.float64
        ),
    }


def _pair(output: Tensor) -> Tensor:
    return output[0, ::MID_PAIR_STRIDE]


def _record_trunk(record: Recorder, model: SeedFold) -> None:
    encoder, trunk = model.input_embedder.atom_attention_encoder, model.trunk
    record("mid_input_atom_a", encoder, lambda o: o[0][0])
    record("mid_input_atom_q", encoder, lambda o: o[1][0, ::MID_ATOM_STRIDE])
    record("mid_relpos", trunk.relative_position_encoding, _pair)
    record("mid_template_pass1", trunk.template_embedder, _pair)
    blocks: Any = trunk.msa_module.blocks
    record("mid_msa0_opm_pass1", blocks[0].outer_product_mean, _pair)
    record("mid_msa_z_pass1", trunk.msa_module, _pair)
    stack: Any = trunk.pairformer.blocks
    for i in range(min(2, len(stack))):
        record(f"mid_pairformer{i}_pass1_s", stack[i], lambda o: o[0][0])
        record(f"mid_pairformer{i}_pass1_z", stack[i], lambda o: _pair(o[1]))
    block = stack[0].pair_block
    for key, module in (
        ("tri_mul_out_update", block.triangle_multiplication_outgoing),
        ("tri_mul_in_update", block.triangle_multiplication_incoming),
        ("tri_att_start_update", block.triangle_attention_starting),
        ("tri_att_end_update_transposed", block.triangle_attention_ending),
        ("pair_transition_update", block.pair_transition),
    ):
        record(f"mid_block0_{key}_pass1", module, _pair)


def _record_heads(record: Recorder, model: SeedFold) -> None:
    diffusion = model.diffusion_module
    record("mid_diff_cond_s", diffusion.diffusion_conditioning, lambda o: o[0])
    record("mid_diff_atom_enc_a", diffusion.atom_attention_encoder, lambda o: o[0][0])
    record(
        "mid_diff_atom_enc_q_skip",
        diffusion.atom_attention_encoder,
        lambda o: o[1][0, :, ::MID_ATOM_STRIDE],
    )
    record("mid_diff_token_transformer", diffusion.diffusion_transformer, lambda o: o[0])
    record("mid_diff_r_update", diffusion.atom_attention_decoder, lambda o: o[0])
    record("mid_conf_s", model.confidence_head.pairformer, lambda o: o[0][0])
    record("mid_conf_z", model.confidence_head.pairformer, lambda o: _pair(o[1]))


def relative_errors(folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Deviation of each stored output, ||found - stored|| / ||stored||."""
    config = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "outputs.safetensors")
    features = load_file(folder / "features.safetensors")
    weights = load_file(folder / "reference_state_dict.safetensors")
    model = SeedFold(protenix_config(config, weights)).to(dtype).eval()
    model.load_state_dict(convert_protenix(weights, model))
    f = golden_features(features).to(dtype)
    templates = golden_templates(features)
    found = run(model, f, templates, stored, config["n_cycles"])
    return _compare(found, stored, torch.linalg.vector_norm)


def _compare(
    found: dict[str, Tensor], stored: dict[str, Tensor], size: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """size(found - stored) / size(stored) of each stored output; infinite if there is none."""
    errors = {}
    for key, expected in stored.items():
        if key in INPUTS:
            continue
        if key not in found or found[key].shape != expected.shape:
            errors[key] = float("inf")
            continue
        difference = found[key].double() - expected.double()
        errors[key] = float(size(difference) / size(expected.double()))
    return errors


def is_intellifold(folder: Path) -> bool:
    """Whether the weights of `folder` have IntelliFold's names."""
    with safe_open(folder / "reference_state_dict.safetensors", "pt") as file:
        return any(name.startswith("backbone_trunk.") for name in file.keys())  # noqa: SIM118


def intellifold_inputs(
    stored: dict[str, Tensor], alphabet: list[str]
) -> tuple[Features, TemplatePairFeatures]:
    """IntelliFold's stored features as ours, a batch of one example."""
    token_kinds = stored["is_dna"][stored["distogram_rep_atom_index"].long()].bool()
    ours = torch.tensor([RESTYPE_INDEX.get(name, RESTYPE_INDEX["N"]) for name in alphabet])
    ours = torch.cat([ours, ours.new_tensor([-1])])  # Class 31 of the MSA is never used.

    def classes(indices: Tensor) -> Tensor:
        unknown_dna = (indices == alphabet.index("N/DN")) & token_kinds
        return ours[indices.long()].masked_fill(unknown_dna, RESTYPE_INDEX["DN"])

    profile = torch.zeros(len(stored["profile"]), len(RESTYPES))
    profile[:, ours[:-1]] = stored["profile"]
    in_protenix_form = {
        **stored,
        **{key: classes(stored[key]) for key in ("restype", "msa", "template_aatype")},
        "profile": profile,
        "ref_element": stored["ref_element"] - 1,
        "frame_atom_index": torch.zeros(len(stored["restype"]), 3),
    }
    return golden_features(in_protenix_form), golden_templates(in_protenix_form)


def intellifold_stages(
    model: SeedFold, folder: Path, stored: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Every stage of `model` on the features of an IntelliFold folder, keyed as stored."""
    config = json.loads((folder / "config.json").read_text())
    alphabet = config["restype_alphabet"]
    f, templates = intellifold_inputs(load_file(folder / "features.safetensors"), alphabet)
    found = run(model, f.to(model.dtype), templates, stored, config["n_cycles"])
    found.update({theirs: found[ours] for theirs, ours in INTELLIFOLD_KEYS.items()})
    # Its s_inputs are classes, profile, deletion mean, atoms; in ours the atoms come first.
    without_dn = [name for name in RESTYPES if name != "DN"]
    order = [without_dn.index(name.split("/")[0]) for name in alphabet]
    n, s_inputs = len(order), found["s_inputs"]
    widths = [s_inputs.shape[-1] - 2 * n - 1, n, n, 1]
    atoms, restype, profile, deletion = s_inputs.split(widths, -1)
    found["s_inputs"] = torch.cat([restype[:, order], profile[:, order], deletion, atoms], -1)
    return found


def largest_errors(folder: Path, dtype: torch.dtype = torch.float64) -> dict[str, float]:
    """Deviation of each stored output of IntelliFold, max |found - stored| / max |stored|."""
    stored = load_file(folder / "outputs.safetensors")
    weights = load_file(folder / "reference_state_dict.safetensors")
    model = SeedFold(intellifold_config(weights)).to(dtype).eval()
    model.load_state_dict(convert_intellifold(weights, model))
    return _compare(intellifold_stages(model, folder, stored), stored, lambda x: x.abs().amax())


def check_features(folder: Path) -> bool:
    """Compares our featuriser with the stored features and prints what was found."""
    # Imports the chemistry, which the rest of this script does without.
    from golden_features import compare_features

    checks = compare_features(folder)
    for name, ok, detail in checks:
        print(f"  feature {name:<38} {detail}{'' if ok else '  FAIL'}")
    return all(ok for _, ok, _ in checks)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--features", action="store_true", help="check our featuriser too")
    options = parser.parse_args(arguments)
    failed = False
    for folder in options.folders:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            parser.error(f"{folder}: found no {', '.join(missing)}; expected {', '.join(FILES)}")
        if options.features and is_intellifold(folder):
            parser.error(f"{folder}: --features compares inputs of Protenix; leave it out here")
    for folder in options.folders:
        print(folder)
        if is_intellifold(folder):
            errors, tolerance = largest_errors(folder), INTELLIFOLD_TOLERANCE
        else:
            errors, tolerance = relative_errors(folder), TOLERANCE
        for key, error in errors.items():
            bad = not error <= tolerance
            failed |= bad
            print(f"  {key:<46} {error:9.2e}{'  FAIL' if bad else ''}")
        if options.features:
            failed |= not check_features(folder)
    print("FAILED" if failed else "ok")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
