"""featurize: a structure with its alignments and templates becomes Features.

Source: AF3 SI Table 5; reference conformers SI 2.8.

Deviations, all as in Protenix: a bond between two polymer residues that do not follow each other
in one chain (disulphide, ring closure) is in ``token_bonds`` as well; every residue's conformer
is centred before its random rigid motion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from seedfold.data_pipeline.chemistry import ATOMIC_NUMBER, KINDS, RESTYPES, atom_name_chars
from seedfold.data_pipeline.components import Component, component
from seedfold.data_pipeline.features import Features
from seedfold.data_pipeline.molecules import conformer, formal_charges
from seedfold.data_pipeline.msa import ChainMsa, msa_features
from seedfold.data_pipeline.structure import Structure
from seedfold.data_pipeline.templates import Template, template_features
from seedfold.data_pipeline.tokens import SEEN_AS, Tokens, residue_starts, tokenize, with_frames

MAX_SHIFT = 1.0
"""Angstrom along each axis: the random motion of a reference conformer."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """How much of the alignments and templates is used."""

    n_msa_rows: int = 16384
    n_templates: int = 4


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
        options: Limits.
    """
    options = options or FeatureOptions()
    tokens = tokenize(structure)
    reference = reference_features(structure, seed)
    frames, frame_mask = with_frames(
        tokens, reference["ref_pos"], reference["ref_mask"], reference["ref_space_uid"]
    )
    arrays = {
        **{name: getattr(tokens, name) for name in _TOKEN_FEATURES},
        **reference,
        **msa_features(tokens, structure, msas or {}, max_rows=options.n_msa_rows),
        **template_features(tokens, structure, templates or {}, max_templates=options.n_templates),
        "token_mask": np.ones(len(tokens), dtype=bool),
        "atom_mask": np.ones(len(structure.atoms), dtype=bool),
        "atom_slot": _atom_slots(tokens, structure),
        "cyclic_period": _cyclic_period(tokens, structure),
        "token_bonds": token_bonds(tokens, structure),
        "frame_atoms": frames,
        "frame_mask": frame_mask,
    }
    # An index tensor must be int32 or int64; alignments are large enough to care.
    arrays["msa"] = arrays["msa"].astype(np.int32)
    return Features(**{name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})


def reference_features(structure: Structure, seed: int) -> dict[str, np.ndarray]:
    """The features of atoms, taken from a reference conformer of every residue."""
    starts = residue_starts(structure)
    lengths = np.diff(starts)
    names, elements = _as_seen(structure)
    pos = _per_atom(structure, starts, lambda component: conformer(component, seed))
    mask = np.asarray(np.isfinite(pos).all(axis=-1))
    uid = np.repeat(np.arange(len(lengths)), lengths)
    return {
        "ref_pos": _moved(np.where(mask.reshape(-1, 1), pos, 0.0), mask, uid, seed),
        "ref_mask": mask,
        "ref_element": np.array([ATOMIC_NUMBER.get(e, 0) for e in elements], dtype=np.int64),
        "ref_charge": _per_atom(structure, starts, formal_charges),
        "ref_atom_name_chars": np.array([atom_name_chars(n) for n in names], dtype=np.int64),
        "ref_space_uid": uid,
    }


def token_bonds(tokens: Tokens, structure: Structure) -> Bool[np.ndarray, "N_token N_token"]:
    """Bonds between tokens, but for those along a polymer's chain."""
    assert structure.atoms.bonds is not None
    i, j = tokens.atom_to_token[structure.atoms.bonds.as_array()[:, :2].astype(np.int64)].T
    polymer = tokens.residue_kind != KINDS.index("ligand")
    distance = np.abs(tokens.residue_index[i] - tokens.residue_index[j])
    along = (tokens.asym_id[i] == tokens.asym_id[j]) & (distance == 1) & polymer[i] & polymer[j]
    i, j = i[~along & (i != j)], j[~along & (i != j)]
    bonds = np.zeros((len(tokens), len(tokens)), dtype=bool)
    bonds[i, j] = bonds[j, i] = True
    return bonds


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


def _atom_slots(tokens: Tokens, structure: Structure) -> Int[np.ndarray, " N_atom"]:
    """Place of every atom in the CCD's list of its standard residue, 0 in atomised residues."""
    names, _ = _as_seen(structure)
    slots = np.zeros(len(names), dtype=np.int64)
    places: dict[str, dict[str, int]] = {}
    for i, token in enumerate(tokens.atom_to_token.tolist()):
        if tokens.standard[token]:
            code = RESTYPES[tokens.restype[token]]
            if code not in places:
                places[code] = {name: k for k, name in enumerate(component(code).atom_names)}
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


def _moved(
    pos: Float[np.ndarray, "N 3"],
    mask: Bool[np.ndarray, " N"],
    uid: Int[np.ndarray, " N"],
    seed: int,
) -> Float[np.ndarray, "N 3"]:
    """Centres every residue's conformer, then shifts and turns it at random."""
    rng = np.random.default_rng(seed)
    n = int(uid[-1]) + 1
    count = np.maximum(np.bincount(uid, weights=mask, minlength=n), 1)
    centre = np.stack([np.bincount(uid, weights=x, minlength=n) for x in pos.T], axis=-1)
    centre /= count[:, None]
    shift = rng.uniform(-MAX_SHIFT, MAX_SHIFT, size=(n, 3))
    moved = pos - centre[uid] + shift[uid]
    turned = np.einsum("nij,nj->ni", _rotations(rng, n)[uid], moved)
    return np.where(mask[:, None], turned, 0.0).astype(np.float32)


def _rotations(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 3 3"]:
    """Uniformly random rotations, from unit quaternions."""
    q = rng.normal(size=(4, n))
    w, x, y, z = q / np.linalg.norm(q, axis=0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
