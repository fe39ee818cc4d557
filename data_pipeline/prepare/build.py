"""A complete structure becomes an Example, and the components that it is made of.

The chemistry that training will not have is done here: tokens, reference conformers, symmetries.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from biotite.structure.celllist import CellList
from jaxtyping import Float, Int

from seedfold.data_pipeline.chain import Chain
from seedfold.data_pipeline.chemistry import ATOMIC_NUMBER, ONE_LETTER, UNKNOWN
from seedfold.data_pipeline.components import Component
from seedfold.data_pipeline.examples.example import Example, ReferenceComponent
from seedfold.data_pipeline.examples.rows import ChainRow, ExampleRow, InterfaceRow
from seedfold.data_pipeline.featurize import bonds_between_tokens
from seedfold.data_pipeline.molecules import (
    CONFORMER_SEED,
    conformer,
    formal_charges,
    symmetries,
)
from seedfold.data_pipeline.structure import Structure
from seedfold.data_pipeline.token_table import Tokens, with_frames
from seedfold.data_pipeline.tokens import SEEN_AS, residue_starts, tokenize

CONTACT = 5.0
"""Angstrom between heavy atoms of chains that have an interface (AF3 SI 2.5.1)."""


def example_of(
    structure: Structure, *, source: str = "", plddt: Float[np.ndarray, " N_residue"] | None = None
) -> Example:
    """The example of a structure that has every atom of its sequences; NaN = not resolved.

    Args:
        structure: as `complete` makes it.
        source: the set that it belongs to.
        plddt: confidence of every residue, of a predicted structure, 0 to 100.
    """
    codes = [code for chain in structure.chains for code in chain.residues]
    assert not SEEN_AS.keys() & set(codes), "cleaning replaces residues that are seen as others"
    starts = residue_starts(structure)
    residue = np.repeat(np.arange(len(codes)), np.diff(starts))
    atom_in_component = _places(structure, codes, residue)
    tokens = _with_frames(tokenize(structure), structure, codes, residue, atom_in_component)
    coord = np.asarray(structure.atoms.coord)
    resolved = np.asarray(np.isfinite(coord).all(axis=1))
    return Example(
        id=structure.id,
        source=source,
        chains=structure.chains,
        tokens=tokens,
        atom_in_component=atom_in_component,
        x=np.where(resolved[:, None], coord, 0).astype(np.float32),
        resolved=resolved,
        bonds=bonds_between_tokens(tokens, structure),
        plddt=None if plddt is None else plddt[residue[tokens.first_atom]].astype(np.float32),
        resolution=structure.resolution,
        release_date=structure.release_date,
    )


def components_of(structure: Structure) -> dict[str, ReferenceComponent]:
    """Its components as training needs them, by code."""
    codes = {code for chain in structure.chains for code in chain.residues}
    return {code: _reference(structure.components[code]) for code in sorted(codes)}


def _reference(component: Component) -> ReferenceComponent:
    return ReferenceComponent(
        code=component.code,
        atom_names=component.atom_names,
        element=np.array([ATOMIC_NUMBER.get(e, 0) for e in component.elements], np.int64),
        charge=formal_charges(component),
        conformer=conformer(component, CONFORMER_SEED).astype(np.float32),
        symmetries=symmetries(component),
    )


def _places(
    structure: Structure, codes: list[str], residue: Int[np.ndarray, " N_atom"]
) -> Int[np.ndarray, " N_atom"]:
    """Place of every atom in its component."""
    index = [structure.components[code].index for code in codes]
    names = structure.atoms.atom_name.tolist()
    return np.array([index[r][n] for r, n in zip(residue.tolist(), names, strict=True)], np.int64)


def _with_frames(
    tokens: Tokens,
    structure: Structure,
    codes: list[str],
    residue: Int[np.ndarray, " N_atom"],
    atom_in_component: Int[np.ndarray, " N_atom"],
) -> Tokens:
    """The tokens with the frames of atom tokens, from the reference conformers."""
    number: Mapping[str, int] = {code: i for i, code in enumerate(structure.components)}
    conformers = [conformer(c, CONFORMER_SEED) for c in structure.components.values()]
    starts = np.cumsum([0, *(len(x) for x in conformers)])
    of_residue = np.array([number[code] for code in codes])
    pos = np.concatenate(conformers)[starts[of_residue[residue]] + atom_in_component]
    known = np.asarray(np.isfinite(pos).all(axis=1))
    frames, mask = with_frames(tokens, np.where(known[:, None], pos, 0), known, residue)
    return replace(tokens, frame_atoms=frames, frame_mask=mask)


def row_of(example: Example, structure: Structure, *, drops: Iterable[str] = ()) -> ExampleRow:
    """What the manifest says of an example.

    Args:
        example: as `example_of` made it.
        structure: the structure it was made of.
        drops: what cleaning left out.
    """
    n_tokens = np.bincount(example.tokens.asym_id, minlength=len(example.chains)).tolist()
    plddt = example.plddt
    return ExampleRow(
        id=example.id,
        source=example.source,
        n_token=example.n_token,
        n_atom=example.n_atom,
        n_residue=sum(len(chain.residues) for chain in example.chains),
        resolution=example.resolution,
        release_date=example.release_date,
        method=structure.method,
        mean_plddt=None if plddt is None else round(float(plddt.mean()), 2),
        chains=tuple(
            ChainRow(
                id=chain.id,
                author_id=chain.author_id or chain.id,
                entity_id=chain.entity_id,
                kind=chain.kind,
                n_residue=len(chain.residues),
                n_token=n_token,
                sequence=sequence_of(chain, structure),
            )
            for chain, n_token in zip(example.chains, n_tokens, strict=True)
        ),
        interfaces=tuple(InterfaceRow(chain_1=i, chain_2=j) for i, j in interfaces(example)),
        drops=tuple(drops),
    )


def sequence_of(chain: Chain, structure: Structure) -> str:
    """One-letter codes, those of parents for modified residues; codes of a ligand."""
    if chain.kind == "ligand":
        return "-".join(chain.residues)
    letters = {name: letter for letter, name in ONE_LETTER[chain.kind].items()}
    unknown = letters[UNKNOWN[chain.kind]]
    return "".join(
        letters.get(code) or _parent_letter(structure.components[code], letters, unknown)
        for code in chain.residues
    )


def _parent_letter(component: Component, letters: Mapping[str, str], unknown: str) -> str:
    letter = component.one_letter or ""
    return letter if letter in letters.values() else unknown


def interfaces(example: Example) -> list[tuple[int, int]]:
    """Pairs of chains with resolved atoms within 5 A of each other, by position."""
    at = np.flatnonzero(example.resolved)
    chain = example.tokens.asym_id[example.tokens.atom_to_token[at]]
    if len(np.unique(chain)) < 2:
        return []
    x = example.x[at]
    near = CellList(x, CONTACT).get_atoms(x, CONTACT)
    row, column = np.nonzero(near >= 0)
    one, other = chain[row], chain[near[row, column]]
    pairs = np.unique(np.stack([one, other], axis=1)[one < other], axis=0)
    return [(int(i), int(j)) for i, j in pairs]
