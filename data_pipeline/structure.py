"""Structure: the atoms of one assembly or of one query, with its chains."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import biotite.structure as struc

from seedfold.data_pipeline.chemistry import Kind
from seedfold.data_pipeline.components import Component


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One chain: a polymer, or the residues of one ligand."""

    id: str
    """``label_asym_id``; for a query the id the user gave."""
    entity_id: int
    """Counts unique molecules from 0."""
    sym_id: int
    """Counts the copies of an entity from 0."""
    kind: Kind
    residues: tuple[str, ...]
    """Component code of every residue, in order; ``res_id`` counts them from 1."""
    cyclic: bool = False
    author_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One assembly.

    `atoms` is a biotite ``AtomArray`` without hydrogens: ``coord`` in Angstrom, NaN = unknown;
    annotations ``chain_id``, ``res_id`` (1-based position in the chain), ``res_name``,
    ``atom_name``, ``element``, ``charge``, ``hetero``; a ``BondList`` with every covalent bond.
    Chains, residues and atoms stand in the order of `chains` and of the components' atoms.
    """

    id: str
    atoms: struc.AtomArray
    chains: tuple[Chain, ...]
    components: Mapping[str, Component] = field(default_factory=dict)
    """Every component used, by code, those made from SMILES or files included."""
    resolution: float | None = None
    release_date: str | None = None
    method: str | None = None
