"""Chemical components: atoms and bonds of residues and ligands, from the CCD that biotite ships.

The dictionary (about 49 000 components) is read on first use; a component is decoded when it is
first asked for. Hydrogens are dropped: they are implied by element, charge and bonds.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
from biotite.structure.bonds import BondType
from biotite.structure.info import get_ccd
from jaxtyping import Bool, Float, Int

from seedfold.data_pipeline.chemistry import Kind

HYDROGENS = ("H", "D")
_AXES = ("x", "y", "z")
_ORDERS = {
    ("SING", False): BondType.SINGLE,
    ("DOUB", False): BondType.DOUBLE,
    ("TRIP", False): BondType.TRIPLE,
    ("QUAD", False): BondType.QUADRUPLE,
    ("SING", True): BondType.AROMATIC_SINGLE,
    ("DOUB", True): BondType.AROMATIC_DOUBLE,
    ("TRIP", True): BondType.AROMATIC_TRIPLE,
    ("AROM", True): BondType.AROMATIC,
}

_UNFLAGGED_CAPS: Mapping[str, tuple[str | None, str | None]] = {
    "FOR": (None, "C"),
    "NME": ("N", None),
}
"""Caps of a peptide chain whose polymer bonds (head, tail) the dictionary does not tell."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """One chemical component without hydrogens; atoms in the order of its source.

    A component made from SMILES or a file has its own name (`code`), which is never a CCD code.
    Components are compared, and hashed, by identity.
    """

    code: str
    type: str
    """``chem_comp.type``, upper case, e.g. ``L-PEPTIDE LINKING``, ``NON-POLYMER``."""
    formula: str
    parent: str | None
    """Standard residue it is a modification of, if any (MSE -> MET)."""
    one_letter: str | None
    atom_names: tuple[str, ...]
    elements: tuple[str, ...]
    """Upper-case symbols."""
    charges: Int[np.ndarray, " N"]
    leaving: Bool[np.ndarray, " N"]
    """Atoms that leave when the component is bonded to others."""
    coord: Float[np.ndarray, "N 3"]
    """Ideal coordinates, Angstrom; NaN where the source has none."""
    bonds: Int[np.ndarray, "M 3"]
    """(atom, atom, biotite BondType)."""
    stereo: tuple[str, ...] = ()
    """R, S or N of each atom where the source says."""
    hydrogens: Int[np.ndarray, " N"] | None = None
    """Hydrogens bonded to each atom in the source; None = as many as valence asks for."""
    smiles: str | None = None
    title: str | None = None
    """Name of a component that is not in the dictionary."""
    head: str | None = None
    """Atom that a polymer bond joins to the residue before (N, P)."""
    tail: str | None = None
    """Atom that a polymer bond joins to the residue after (C, O3')."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Other names an input may use for an atom: SMILES map numbers, positions in a file."""

    @functools.cached_property
    def name(self) -> str:
        """Chemical name for the ``chem_comp`` table; the dictionary's are slow to decode."""
        return self.title or str(_Entry("chem_comp", self.code)["name"][0])

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Atom name -> position."""
        return {name: i for i, name in enumerate(self.atom_names)}

    @property
    def kind(self) -> Kind:
        """Kind of polymer this component is a residue of; ``ligand`` if of none."""
        if "PEPTIDE" in self.type and self.type != "PEPTIDE-LIKE":
            return "protein"
        return "dna" if "DNA" in self.type else "rna" if "RNA" in self.type else "ligand"

    @functools.cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Bonded atoms of every atom, in increasing order."""
        sets: list[set[int]] = [set() for _ in self.atom_names]
        for i, j, _ in self.bonds.tolist():
            sets[i].add(j)
            sets[j].add(i)
        return tuple(tuple(sorted(s)) for s in sets)

    @functools.cached_property
    def leaving_groups(self) -> dict[int, list[tuple[int, ...]]]:
        """The groups that may leave each staying atom, one for every new bond it makes."""
        groups: dict[int, list[tuple[int, ...]]] = {}
        for centre in np.flatnonzero(~self.leaving).tolist():
            for start in self.neighbours[centre]:
                group = self._leaving_from(start, centre)
                if group:
                    groups.setdefault(centre, []).append(group)
        return groups

    def _leaving_from(self, start: int, centre: int) -> tuple[int, ...]:
        """Atoms that leave with `start`; empty if it stays or is also held by another atom."""
        if not self.leaving[start]:
            return ()
        group, stack = {start}, [start]
        while stack:
            for other in self.neighbours[stack.pop()]:
                if self.leaving[other] and other not in group:
                    group.add(other)
                    stack.append(other)
                elif not self.leaving[other] and other != centre:
                    return ()
        return tuple(sorted(group))


def exists(code: str) -> bool:
    """Whether the dictionary has this code."""
    return code in _rows("chem_comp")


def suggest(code: str) -> str | None:
    """The code nearest in spelling, for messages."""
    if exists(code.upper()):
        return code.upper()
    near = get_close_matches(code.upper(), _rows("chem_comp"), n=1)
    return near[0] if near else None


@functools.cache
def component(code: str) -> Component:
    """The component of this code; an obsolete one is answered with what replaced it.

    Raises:
        KeyError: if the dictionary does not have it.
    """
    if not exists(code):
        raise KeyError(code)
    entry = _Entry("chem_comp", code)
    replacement = str(entry["pdbx_replaced_by"][0])
    if str(entry["pdbx_release_status"][0]) == "OBS" and exists(replacement):
        return component(replacement)
    return _decode(code, entry)


def _decode(code: str, entry: Mapping[str, np.ndarray]) -> Component:
    atoms = _Entry("chem_comp_atom", code)
    elements = np.char.upper(atoms["type_symbol"].astype(str))
    heavy = ~np.isin(elements, HYDROGENS)
    all_names = atoms["atom_id"].tolist()
    names = tuple(atoms["atom_id"][heavy].tolist())
    type_of = str(entry["type"][0]).upper()
    flags = {end: atoms[f"pdbx_{end}_terminal_atom_flag"][heavy] == "Y" for end in "nc"}
    every_bond = _bonds(code, all_names)
    old_to_new = np.cumsum(heavy) - 1
    bonds = every_bond[heavy[every_bond[:, :2]].all(axis=1)]
    bonds[:, :2] = old_to_new[bonds[:, :2]]
    head, tail = _UNFLAGGED_CAPS.get(code) or _links(names, elements[heavy], flags, type_of)
    return Component(
        code=code,
        type=type_of,
        formula=str(entry["formula"][0]),
        parent=_present(entry["mon_nstd_parent_comp_id"][0]),
        one_letter=_present(entry["one_letter_code"][0]),
        atom_names=names,
        elements=tuple(elements[heavy].tolist()),
        charges=atoms["charge"][heavy].astype(np.int64),
        leaving=atoms["pdbx_leaving_atom_flag"][heavy] == "Y",
        coord=_coordinates(atoms)[heavy],
        bonds=bonds,
        stereo=tuple(atoms["pdbx_stereo_config"][heavy].tolist()),
        hydrogens=_hydrogen_counts(every_bond, heavy)[heavy],
        head=head,
        tail=tail,
    )


def _links(
    names: tuple[str, ...], elements: np.ndarray, flags: Mapping[str, np.ndarray], kind: str
) -> tuple[str | None, str | None]:
    """Atoms of the polymer bonds: the usual names, else what the terminal flags say."""
    if "DNA" in kind or "RNA" in kind:
        return ("P" if "P" in names else None), ("O3'" if "O3'" in names else None)
    ends: list[str | None] = []
    for end, usual in (("n", "N"), ("c", "C")):
        flagged = [names[i] for i in np.flatnonzero(flags[end] & (elements == usual))]
        if usual in names and ("PEPTIDE" in kind or usual in flagged):
            ends.append(usual)
        else:
            ends.append(flagged[0] if flagged else None)
    return ends[0], ends[1]


def _coordinates(atoms: Mapping[str, np.ndarray]) -> Float[np.ndarray, "N 3"]:
    """Ideal coordinates; those of the model where only they are complete."""
    ideal = np.stack([atoms[f"pdbx_model_Cartn_{a}_ideal"] for a in _AXES], axis=-1)
    model = np.stack([atoms[f"model_Cartn_{a}"] for a in _AXES], axis=-1)
    complete = np.isfinite(ideal).all() or not np.isfinite(model).all()
    return (ideal if complete else model).astype(np.float32)


def _hydrogen_counts(
    bonds: Int[np.ndarray, "M 3"], heavy: Bool[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    ends = np.concatenate([bonds[:, :2], bonds[:, 1::-1]])
    to_hydrogen = ends[~heavy[ends[:, 1]], 0]
    return np.bincount(to_hydrogen, minlength=len(heavy))


def _bonds(code: str, names: Sequence[str]) -> Int[np.ndarray, "M 3"]:
    index = {name: i for i, name in enumerate(names)}
    table = _Entry("chem_comp_bond", code)
    columns = ("atom_id_1", "atom_id_2", "value_order", "pdbx_aromatic_flag")
    rows = zip(*(table[c].tolist() for c in columns), strict=True)
    bonds = [
        (index[a], index[b], _ORDERS.get((order, aromatic == "Y"), BondType.ANY))
        for a, b, order, aromatic in rows
        if a in index and b in index
    ]
    return np.array(bonds, dtype=np.int64).reshape(-1, 3)


def _present(value: object) -> str | None:
    text = str(value)
    return None if text in ("?", ".", "") else text


@functools.cache
def _rows(category: str) -> dict[str, slice]:
    """Component code -> its rows of a table."""
    codes = get_ccd()[category]["id" if category == "chem_comp" else "comp_id"].as_array()
    starts = np.r_[0, np.flatnonzero(codes[1:] != codes[:-1]) + 1, len(codes)]
    return {
        str(code): slice(start, stop)
        for code, start, stop in zip(codes[starts[:-1]], starts[:-1], starts[1:], strict=True)
    }


@functools.cache
def _column(category: str, name: str) -> np.ndarray:
    """A decoded column; missing numbers are NaN (of floats) or 0."""
    column = get_ccd()[category][name]
    values = column.data.array
    if column.mask is not None and values.dtype.kind == "f":
        return np.where(column.mask.array == 0, values, np.nan)
    return column.as_array() if values.dtype.kind == "U" else values


class _Entry(Mapping[str, np.ndarray]):
    """The rows of one component, columns decoded as they are asked for."""

    def __init__(self, category: str, code: str):
        self.category = category
        self.rows = _rows(category).get(code, slice(0, 0))

    def __getitem__(self, name: str) -> np.ndarray:
        return _column(self.category, name)[self.rows]

    def __iter__(self):
        return iter(get_ccd()[self.category])

    def __len__(self) -> int:
        return len(get_ccd()[self.category])
