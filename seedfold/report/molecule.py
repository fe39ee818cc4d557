"""The models of a folder as one table of atoms and one set of coordinates a model.

All models of a prediction have the same atoms in the same order, so the page carries names, bonds
and chains once. Models are superposed on the first over CA, C1' and, without at least three of
these, all atoms. Secondary structure is P-SEA (Labesse et al. 1997) as biotite has it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import biotite.structure as struc
import numpy as np
from biotite import InvalidFileError
from biotite.structure.bonds import BondType
from biotite.structure.io import pdbx
from jaxtyping import Bool, Float, Int

from seedfold.data_pipeline.chemistry import ONE_LETTER
from seedfold.data_pipeline.errors import InputError

_POLYMERS = {
    "polypeptide(L)": "protein",
    "polypeptide(D)": "protein",
    "polyribonucleotide": "rna",
    "polydeoxyribonucleotide": "dna",
}
_ORDERS = {
    BondType.DOUBLE: 2,
    BondType.AROMATIC_DOUBLE: 2,
    BondType.TRIPLE: 3,
    BondType.AROMATIC_TRIPLE: 3,
}
_LETTERS = {
    (kind, name): letter for kind, names in ONE_LETTER.items() for letter, name in names.items()
}
_FEWEST_ANCHORS = 3

UNLETTERED = "?"
"""Stands for modified residues and ligands, which are shown by their names."""


@dataclass(frozen=True, kw_only=True)
class PageChain:
    """One chain of the table."""

    id: str
    kind: str
    """protein, rna, dna, ligand, ion or glycan."""
    description: str
    n_residue: int
    n_atom: int


@dataclass(frozen=True, kw_only=True)
class Molecule:
    """What all models share; residues are counted through all chains from 0."""

    atoms: struc.AtomArray
    """Of model 0, with the annotation ``b_factor`` and bonds."""
    residue_of_atom: Int[np.ndarray, " N_atom"]
    residue_names: tuple[str, ...]
    residue_ids: tuple[int, ...]
    letters: str
    chains: tuple[PageChain, ...]
    version: str
    """Of the program that wrote the file."""

    @property
    def first_atoms(self) -> Int[np.ndarray, " N_residue"]:
        """Index of every residue's first atom."""
        return np.searchsorted(self.residue_of_atom, np.arange(len(self.residue_names)))

    @property
    def bonds(self) -> tuple[Int[np.ndarray, "N_bond 2"], Int[np.ndarray, " N_bond"]]:
        """Pairs of atoms, and 1, 2 or 3 for each."""
        table = self.atoms.bonds.as_array()
        orders = [_ORDERS.get(BondType(kind), 1) for kind in table[:, 2].tolist()]
        return table[:, :2].astype(int), np.array(orders, int)

    def residue_index(self) -> dict[tuple[str, int], int]:
        """Number of a residue by chain and residue number."""
        chains = self.atoms.chain_id[self.first_atoms].tolist()
        return {key: i for i, key in enumerate(zip(chains, self.residue_ids, strict=True))}


@dataclass(frozen=True, kw_only=True)
class Model:
    """The coordinates of one model, laid on the first."""

    x: Float[np.ndarray, "N_atom 3"]
    plddt: Float[np.ndarray, " N_atom"]
    rmsd: float
    """To the first, over the atoms that were laid on each other, Angstrom."""
    secondary: str
    """h, s or c for every residue."""


def read_models(paths: Sequence[Path]) -> tuple[Molecule, list[Model]]:
    """Reads mmCIF files of one prediction, best first.

    Raises:
        InputError: if one cannot be read, has other atoms than the first, or NaN coordinates.
    """
    arrays = [_read_atoms(path) for path in paths]
    first = arrays[0]
    for path, atoms in zip(paths, arrays, strict=True):
        if len(atoms) != len(first) or (atoms.atom_name != first.atom_name).any():
            raise InputError(
                str(path), "has other atoms than the first model", todo="predict again"
            )
        if not np.isfinite(np.asarray(atoms.coord)).all():
            raise InputError(str(path), "coordinates that are not numbers", todo="predict again")
    molecule = _molecule(first, _read_file(paths[0]).block)
    anchors = _anchors(first)
    proteins = {c.id for c in molecule.chains if c.kind == "protein"}
    return molecule, [_model(molecule, first, atoms, anchors, proteins) for atoms in arrays]


def _read_file(path: Path) -> pdbx.CIFFile:
    try:
        return pdbx.CIFFile.read(path)
    except (OSError, ValueError, InvalidFileError) as error:
        raise InputError(str(path), f"cannot be read ({error})", todo="predict again") from error


def _read_atoms(path: Path) -> struc.AtomArray:
    try:
        found = pdbx.get_structure(
            _read_file(path), model=1, extra_fields=["b_factor"], include_bonds=True
        )
    except (ValueError, KeyError, IndexError, InvalidFileError) as error:
        raise InputError(str(path), f"no readable atoms ({error})", todo="predict again") from error
    assert isinstance(found, struc.AtomArray)
    return found


def _molecule(atoms: struc.AtomArray, block: Any) -> Molecule:
    starts = struc.get_residue_starts(atoms)
    lengths = np.diff([*starts, len(atoms)])
    names = tuple(atoms.res_name[starts].tolist())
    chains = _chains(atoms, starts, block)
    kinds = {c.id: c.kind for c in chains}
    letters = [
        _LETTERS.get((kinds[chain], name), UNLETTERED)
        for chain, name in zip(atoms.chain_id[starts].tolist(), names, strict=True)
    ]
    version = block["software"]["version"].as_item() if "software" in block else ""
    return Molecule(
        atoms=atoms,
        residue_of_atom=np.repeat(np.arange(len(starts)), lengths),
        residue_names=names,
        residue_ids=tuple(atoms.res_id[starts].tolist()),
        letters="".join(letters),
        chains=chains,
        version=version,
    )


def _chains(atoms: struc.AtomArray, starts: np.ndarray, block: Any) -> tuple[PageChain, ...]:
    columns = {
        name: {key: column.as_array(str).tolist() for key, column in block[name].items()}
        for name in ("struct_asym", "entity", "entity_poly")
        if name in block
    }
    entity_of = _mapping(columns, "struct_asym", "id", "entity_id")
    descriptions = _mapping(columns, "entity", "id", "pdbx_description")
    types = _mapping(columns, "entity", "id", "type")
    polymers = _mapping(columns, "entity_poly", "entity_id", "type")
    found = []
    for chain in dict.fromkeys(atoms.chain_id.tolist()):
        entity, mine = entity_of.get(chain, ""), atoms.chain_id == chain
        n_residue, n_atom = int(mine[starts].sum()), int(mine.sum())
        kind = _POLYMERS.get(polymers.get(entity, ""))
        if kind is None:
            branched = types.get(entity) == "branched"
            kind = "glycan" if branched else "ion" if n_atom == 1 else "ligand"
        found.append(
            PageChain(
                id=chain,
                kind=kind,
                description=descriptions.get(entity, ""),
                n_residue=n_residue,
                n_atom=n_atom,
            )
        )
    return tuple(found)


def _mapping(columns: dict[str, dict[str, list[str]]], table: str, *names: str) -> dict[str, str]:
    key, value = (columns.get(table, {}).get(name, []) for name in names)
    return dict(zip(key, value, strict=False))


def _anchors(atoms: struc.AtomArray) -> Bool[np.ndarray, " N_atom"]:
    found = ((atoms.atom_name == "CA") & (atoms.element == "C")) | (atoms.atom_name == "C1'")
    found &= ~np.asarray(atoms.hetero)
    return found if found.sum() >= _FEWEST_ANCHORS else np.ones(len(atoms), bool)


def _model(
    molecule: Molecule,
    first: struc.AtomArray,
    atoms: struc.AtomArray,
    anchors: np.ndarray,
    proteins: set[str],
) -> Model:
    x, rmsd = atoms.coord, 0.0
    if atoms is not first and anchors.sum() >= _FEWEST_ANCHORS:
        _, motion = struc.superimpose(first.coord[anchors], x[anchors])
        x = motion.apply(x)
        rmsd = float(struc.rmsd(first.coord[anchors], x[anchors]))
    return Model(
        x=x.astype(float),
        plddt=atoms.b_factor.astype(float),
        rmsd=rmsd,
        secondary=_secondary(molecule, atoms, proteins),
    )


_LARGEST = 2000.0
"""Angstrom: beyond, P-SEA's cells take more memory than there is, and there is no structure."""


def _secondary(molecule: Molecule, atoms: struc.AtomArray, proteins: set[str]) -> str:
    letters = np.full(len(molecule.residue_names), "c")
    chain_of_residue = atoms.chain_id[molecule.first_atoms]
    for chain in proteins:
        # P-SEA gives nothing for a residue without CA; those stay coil.
        has_ca = (atoms.atom_name == "CA") & (atoms.chain_id == chain)
        residues = np.unique(molecule.residue_of_atom[has_ca])
        whole = len(residues) >= 5 and (chain_of_residue[residues] == chain).all()
        if whole and (np.ptp(atoms.coord[has_ca], axis=0) < _LARGEST).all():
            found = struc.annotate_sse(atoms[has_ca])
            if len(found) == len(residues):
                letters[residues] = np.where(found == "a", "h", np.where(found == "b", "s", "c"))
    return "".join(letters.tolist())


_ATOM_NAME = re.compile(r"^(?P<chain>.+)/(?P<residue>[^/]+)/(?P<atom>[^/]+)$")


def residues_named(names: Sequence[str], molecule: Molecule) -> list[int]:
    """Residues of atoms written ``chain/residue and number/atom``; unknown ones are left out."""
    known = {
        (chain, f"{molecule.residue_names[i]}{number}"): i
        for (chain, number), i in molecule.residue_index().items()
    }
    matches = [m for m in map(_ATOM_NAME.match, names) if m]
    found = [known.get((m["chain"], m["residue"])) for m in matches]
    return sorted({i for i in found if i is not None})
