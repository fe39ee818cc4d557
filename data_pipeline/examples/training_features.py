"""training_features: an example, or a crop of it, becomes Features with Labels.

The same features that `featurize` makes of a structure, from prepared arrays alone; equal to the
last bit where the conformers are the same. Source: AF3 SI Table 5, 2.7 and 2.8.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from seedfold.data_pipeline.conformer_motion import placed
from seedfold.data_pipeline.examples.example import Example, ReferenceComponent
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.features import Features, Labels
from seedfold.data_pipeline.msa import ChainMsa, msa_features
from seedfold.data_pipeline.template_features import Template, template_features
from seedfold.data_pipeline.token_table import Tokens


def training_features(
    example: Example,
    components: Mapping[str, ReferenceComponent],
    *,
    tokens: Int[np.ndarray, " N_crop"] | None = None,
    msas: Mapping[int, ChainMsa] | None = None,
    templates: Mapping[int, Sequence[Template]] | None = None,
    seed: int,
    options: FeatureOptions | None = None,
) -> Features:
    """Makes the features and labels of one example, without batch axis.

    Args:
        example: The complex.
        components: Those it is made of, by code.
        tokens: The crop, in order; None = all.
        msas: Alignments by entity id.
        templates: Templates by entity id.
        seed: Of the random motions of the reference conformers.
        options: Limits and conventions.

    Raises:
        KeyError: if a component is missing.
    """
    options = options or FeatureOptions()
    chosen = np.arange(example.n_token) if tokens is None else tokens
    part, atoms = crop_tokens(example.tokens, chosen)
    arrays = {
        **{name: getattr(part, name) for name in _TOKEN_FEATURES},
        **_reference(example, components, part, atoms, seed, options),
        **_sequence_features(example, part, msas or {}, templates or {}, options),
        "token_mask": np.ones(len(part), bool),
        "atom_mask": np.ones(len(atoms), bool),
        "atom_slot": _atom_slots(example, components, part, atoms, options.terminal_atoms),
        "cyclic_period": _cyclic_period(example, part),
        "token_bonds": _token_bonds(example, chosen),
    }
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    return Features(**tensors, labels=labels_of(example, atoms))


def crop_tokens(
    tokens: Tokens, chosen: Int[np.ndarray, " N_crop"]
) -> tuple[Tokens, Int[np.ndarray, " N_atom"]]:
    """Some tokens of a table, and their atoms; indices of atoms count within these.

    A frame that needs an atom which is not there is masked.
    """
    n_atoms = tokens.n_atoms[chosen]
    first = np.cumsum(n_atoms) - n_atoms
    within = np.arange(int(n_atoms.sum())) - np.repeat(first, n_atoms)
    atoms = np.repeat(tokens.first_atom[chosen], n_atoms) + within
    place = np.full(len(tokens.atom_to_token), -1)
    place[atoms] = np.arange(len(atoms))
    frames = place[tokens.frame_atoms[chosen]]
    whole = (frames >= 0).all(axis=1)
    frames[~whole] = first[~whole, None]
    unchanged = {
        f.name: getattr(tokens, f.name)[chosen]
        for f in dataclasses.fields(tokens)
        if f.name != "atom_to_token"
    }
    changed = {
        "first_atom": first,
        "centre_atom": place[tokens.centre_atom[chosen]],
        "representative_atom": place[tokens.representative_atom[chosen]],
        "frame_atoms": frames,
        "frame_mask": tokens.frame_mask[chosen] & whole,
        "atom_to_token": np.repeat(np.arange(len(chosen)), n_atoms),
    }
    return Tokens(**{**unchanged, **changed}), atoms


_TOKEN_FEATURES = (
    *("restype", "residue_index", "token_index", "asym_id", "entity_id", "sym_id", "kind"),
    *("atom_to_token", "centre_atom", "representative_atom", "frame_atoms", "frame_mask"),
)


def _residues(part: Tokens) -> Int[np.ndarray, " N_token"]:
    """Counts the residues of the tokens from 0."""
    new = (np.diff(part.asym_id) != 0) | (np.diff(part.residue_index) != 0)
    return np.concatenate([[0], np.cumsum(new)])


def _rows(
    example: Example,
    components: Mapping[str, ReferenceComponent],
    part: Tokens,
    atoms: Int[np.ndarray, " N_atom"],
) -> tuple[list[ReferenceComponent], Int[np.ndarray, " N_atom"]]:
    """The components of the part, and where in their joined atoms each atom stands."""
    number: dict[str, int] = {}
    of_token = np.empty(len(part), np.int64)
    chains = [chain.residues for chain in example.chains]
    for i, (asym, position) in enumerate(
        zip(part.asym_id.tolist(), part.residue_index.tolist(), strict=True)
    ):
        of_token[i] = number.setdefault(chains[asym][position - 1], len(number))
    used = [components[code] for code in number]
    starts = np.cumsum([0, *(len(c.atom_names) for c in used)])
    return used, starts[of_token[part.atom_to_token]] + example.atom_in_component[atoms]


def _reference(
    example: Example,
    components: Mapping[str, ReferenceComponent],
    part: Tokens,
    atoms: Int[np.ndarray, " N_atom"],
    seed: int,
    options: FeatureOptions,
) -> dict[str, np.ndarray]:
    """The features of atoms, from the components' conformers."""
    used, rows = _rows(example, components, part, atoms)
    pos = np.concatenate([c.conformer for c in used])[rows].astype(np.float64)
    mask = np.asarray(np.isfinite(pos).all(axis=-1))
    pos = np.where(mask[:, None], pos, 0.0)
    uid = _residues(part)[part.atom_to_token]
    return {
        "ref_pos": placed(pos, mask, uid, seed, options.conformers),
        "ref_mask": mask,
        "ref_element": np.concatenate([c.element for c in used])[rows],
        "ref_charge": np.concatenate([c.charge for c in used])[rows],
        "ref_atom_name_chars": np.concatenate([c.name_chars for c in used])[rows],
        "ref_space_uid": uid,
    }


def _atom_slots(
    example: Example,
    components: Mapping[str, ReferenceComponent],
    part: Tokens,
    atoms: Int[np.ndarray, " N_atom"],
    terminal_atoms: bool,
) -> Int[np.ndarray, " N_atom"]:
    """Place of every atom in its standard residue, 0 in atomised residues."""
    used, rows = _rows(example, components, part, atoms)
    slots = np.concatenate([c.slots(terminal_atoms) for c in used])[rows]
    return np.where(part.standard[part.atom_to_token], slots, 0)


def _sequence_features(
    example: Example,
    part: Tokens,
    msas: Mapping[int, ChainMsa],
    templates: Mapping[int, Sequence[Template]],
    options: FeatureOptions,
) -> dict[str, np.ndarray]:
    msa = msa_features(
        part,
        example,
        msas,
        max_rows=options.n_msa_rows,
        max_paired=options.n_paired_rows,
        ligand_gaps=options.ligand_gaps,
        query_twice=options.query_twice,
        query_fills_rows=options.query_fills_rows,
    )
    msa["msa"] = msa["msa"].astype(np.int32)
    return msa | template_features(
        part, example, templates, max_templates=options.n_templates, gaps=options.template_gaps
    )


def _cyclic_period(example: Example, part: Tokens) -> Int[np.ndarray, " N_token"]:
    periods = np.array([len(c.residues) if c.cyclic else 0 for c in example.chains])
    return periods[part.asym_id]


def _token_bonds(
    example: Example, chosen: Int[np.ndarray, " N_crop"]
) -> Bool[np.ndarray, "N_crop N_crop"]:
    place = np.full(example.n_token, -1)
    place[chosen] = np.arange(len(chosen))
    i, j = place[example.tokens.atom_to_token[example.bonds]].T
    inside = (i >= 0) & (j >= 0)
    i, j = i[inside], j[inside]
    bonds = np.zeros((len(chosen), len(chosen)), bool)
    bonds[i, j] = bonds[j, i] = True
    return bonds


def label_weights(
    plddt: Float[np.ndarray, " N"], *, threshold: float = 70.0, scaled: bool = True
) -> Float[np.ndarray, " N"]:
    """Weight of each residue as a label: 0 below the threshold, else pLDDT / 100 or 1.

    Args:
        plddt: 0 to 100; NaN weighs 0.
        threshold: 70 as RoseTTAFold3; OpenFold's distillation from AlphaFold 2 used 50.
        scaled: Weigh by pLDDT; else what passes the threshold counts alike, as in those two.
    """
    return np.where(plddt >= threshold, plddt / 100 if scaled else 1.0, 0.0)


def labels_of(example: Example, atoms: Int[np.ndarray, " N_atom"]) -> Labels:
    """Predicted structures count as much as their confidence; 0 stands for no resolution."""
    weight = np.ones(len(atoms))
    if example.plddt is not None:
        weight = label_weights(example.plddt)[example.tokens.atom_to_token[atoms]]
    return Labels(
        x=torch.from_numpy(example.x[atoms]),
        resolved=torch.from_numpy(example.resolved[atoms]),
        weight=torch.from_numpy(weight.astype(np.float32)),
        resolution=torch.tensor(example.resolution or 0.0),
    )
