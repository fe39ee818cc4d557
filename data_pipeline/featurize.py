"""featurize: a structure with its alignments and templates becomes Features.

Source: AF3 SI Table 5; reference conformers SI 2.8.

Deviations, all as in Protenix: a bond between two polymer residues that do not follow each other
in one chain (disulphide, ring closure) is in ``token_bonds`` as well; every residue's conformer
is centred before its random rigid motion. What other programs do otherwise is in `FeatureOptions`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Int

from seedfold.data_pipeline.chemistry import (
    ATOMIC_NUMBER,
    KINDS,
    RESTYPES,
    TERMINAL_ATOMS,
    atom_name_chars,
)
from seedfold.data_pipeline.components import Component, component
from seedfold.data_pipeline.conformer_motion import placed
from seedfold.data_pipeline.feature_options import Conformers, FeatureOptions
from seedfold.data_pipeline.features import Features
from seedfold.data_pipeline.molecules import CONFORMER_SEED, conformer, formal_charges
from seedfold.data_pipeline.msa import ChainMsa, msa_features
from seedfold.data_pipeline.structure import Structure
from seedfold.data_pipeline.template_features import Template, template_features
from seedfold.data_pipeline.token_table import Tokens, with_frames
from seedfold.data_pipeline.tokens import SEEN_AS, residue_starts, tokenize


def featurize(
    structure: Structure,
    *,
    msas: Mapping[int, ChainMsa] | None = None,
    templates: Mapping[int, tuple[Template, ...]] | None = None,
    seed: int,
    options: FeatureOptions | None = None,
) -> Features:
    """Makes the features of one structure, without batch axis.

    Args:
        structure: The complex; its coordinates are not looked at.
        msas: Alignments by entity id; an entity without one has its sequence alone.
        templates: Templates by entity id.
        seed: Of the reference conformers and their random motions; same seed, same features.
        options: Limits and conventions; `structure` was built with the same `terminal_atoms`.
    """
    options = options or FeatureOptions()
    tokens = tokenize(structure)
    reference = reference_features(structure, seed, how=options.conformers)
    frames, frame_mask = with_frames(
        tokens, reference["ref_pos"], reference["ref_mask"], reference["ref_space_uid"]
    )
    arrays = {
        **{name: getattr(tokens, name) for name in _TOKEN_FEATURES},
        **reference,
        **msa_features(
            tokens,
            structure,
            msas or {},
            max_rows=options.n_msa_rows,
            max_paired=options.n_paired_rows,
            ligand_gaps=options.ligand_gaps,
            query_twice=options.query_twice,
            query_fills_rows=options.query_fills_rows,
        ),
        **template_features(
            tokens,
            structure,
            templates or {},
            max_templates=options.n_templates,
            gaps=options.template_gaps,
        ),
        "token_mask": np.ones(len(tokens), dtype=bool),
        "atom_mask": np.ones(len(structure.atoms), dtype=bool),
        "atom_slot": _atom_slots(tokens, structure, options.terminal_atoms),
        "cyclic_period": _cyclic_period(tokens, structure),
        "token_bonds": token_bonds(tokens, structure),
        "frame_atoms": frames,
        "frame_mask": frame_mask,
    }
    # An index tensor must be int32 or int64; alignments are large enough to care.
    arrays["msa"] = arrays["msa"].astype(np.int32)
    return Features(**{name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})


def reference_features(
    structure: Structure, seed: int, *, how: Conformers = "apart"
) -> dict[str, np.ndarray]:
    """The features of atoms, taken from a reference conformer of every residue.

    Args:
        structure: Gives the residues.
        seed: Of the conformers and their random motion.
        how: See `FeatureOptions.conformers`; still ones are those of training, whatever the seed.
    """
    starts = residue_starts(structure)
    lengths = np.diff(starts)
    names, elements = _as_seen(structure)
    of = CONFORMER_SEED if how == "still" else seed
    pos = _per_atom(structure, starts, lambda component: conformer(component, of))
    mask = np.asarray(np.isfinite(pos).all(axis=-1))
    uid = np.repeat(np.arange(len(lengths)), lengths)
    pos = np.where(mask.reshape(-1, 1), pos, 0.0)
    return {
        "ref_pos": placed(pos, mask, uid, seed, how),
        "ref_mask": mask,
        "ref_element": np.array([ATOMIC_NUMBER.get(e, 0) for e in elements], dtype=np.int64),
        "ref_charge": _per_atom(structure, starts, formal_charges),
        "ref_atom_name_chars": np.array([atom_name_chars(n) for n in names], dtype=np.int64),
        "ref_space_uid": uid,
    }


def token_bonds(tokens: Tokens, structure: Structure) -> Bool[np.ndarray, "N_token N_token"]:
    """Bonds between tokens, but for those along a polymer's chain."""
    i, j = tokens.atom_to_token[bonds_between_tokens(tokens, structure)].T
    bonds = np.zeros((len(tokens), len(tokens)), dtype=bool)
    bonds[i, j] = bonds[j, i] = True
    return bonds


def bonds_between_tokens(tokens: Tokens, structure: Structure) -> Int[np.ndarray, "N_bond 2"]:
    """Pairs of bonded atoms of different tokens, but for those along a polymer's chain."""
    assert structure.atoms.bonds is not None
    atoms = structure.atoms.bonds.as_array()[:, :2].astype(np.int64)
    i, j = tokens.atom_to_token[atoms].T
    polymer = tokens.residue_kind != KINDS.index("ligand")
    distance = np.abs(tokens.residue_index[i] - tokens.residue_index[j])
    along = (tokens.asym_id[i] == tokens.asym_id[j]) & (distance == 1) & polymer[i] & polymer[j]
    return atoms[~along & (i != j)]


_TOKEN_FEATURES = (
    "restype",
    "residue_index",
    "token_index",
    "asym_id",
    "entity_id",
    "sym_id",
    "kind",
    "atom_to_token",
    "centre_atom",
    "representative_atom",
)


def _cyclic_period(tokens: Tokens, structure: Structure) -> Int[np.ndarray, " N_token"]:
    periods = np.array([len(c.residues) if c.cyclic else 0 for c in structure.chains])
    return periods[tokens.asym_id]


def _atom_slots(
    tokens: Tokens, structure: Structure, terminal_atoms: bool
) -> Int[np.ndarray, " N_atom"]:
    """Place of every atom in the CCD's list of its standard residue, 0 in atomised residues.

    Where there are no terminal atoms they have no place.
    """
    left_out = () if terminal_atoms else TERMINAL_ATOMS
    names, _ = _as_seen(structure)
    slots = np.zeros(len(names), dtype=np.int64)
    places: dict[str, dict[str, int]] = {}
    for i, token in enumerate(tokens.atom_to_token.tolist()):
        if tokens.standard[token]:
            code = RESTYPES[tokens.restype[token]]
            if code not in places:
                kept = [n for n in component(code).atom_names if n not in left_out]
                places[code] = {name: k for k, name in enumerate(kept)}
            slots[i] = places[code][names[i]]
    return slots


def _as_seen(structure: Structure) -> tuple[list[str], list[str]]:
    """Names and elements of the atoms as the network is to see them."""
    atoms = structure.atoms
    names, elements = atoms.atom_name.tolist(), atoms.element.tolist()
    for code, (_, changes) in SEEN_AS.items():
        for i in np.flatnonzero(atoms.res_name == code):
            names[i], elements[i] = changes.get(names[i], (names[i], elements[i]))
    return names, elements


def _per_atom(
    structure: Structure, starts: list[int], values_of: Callable[[Component], np.ndarray]
) -> np.ndarray:
    """Values of every residue's component at the atoms that the residue has."""
    codes = [code for chain in structure.chains for code in chain.residues]
    names = structure.atoms.atom_name.tolist()
    parts = []
    for code, start, stop in zip(codes, starts[:-1], starts[1:], strict=True):
        component = structure.components[code]
        rows = [component.index[name] for name in names[start:stop]]
        parts.append(values_of(component)[rows])
    return np.concatenate(parts)
