"""Atoms of polymers whose geometry is so wrong that lDDT does not count them.

Source: `stereochemistry.StereoCheck` of OpenStructure 2.10 (Mariani et al. 2013,
doi:10.1093/bioinformatics/btt473): two atoms that are not bonded clash if they are nearer than the
sum of their van der Waals radii minus 1.5 Angstrom; bonds and angles are wrong beyond 12 standard
deviations. A wrong atom of the backbone condemns its residue, one of the side chain the side chain.

Deviations: ideal lengths and angles are those of `polymer_geometry`. Within residues the standard
deviation of a bond is that of its elements, and of every angle 1.68 degrees: the means of the table
(of CCP4) from which OpenStructure takes each.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from biotite.structure.celllist import CellList
from jaxtyping import Bool, Float, Int

from seedfold.data_pipeline.chemistry import AMINO_ACIDS
from seedfold.data_pipeline.components import component
from seedfold.data_pipeline.ideal_geometry import angle, dihedral
from seedfold.data_pipeline.polymer_geometry import (
    NUCLEOTIDES,
    link_angles,
    link_length,
    residue_geometry,
)
from seedfold.data_pipeline.structure import Structure

DEVIATIONS = 12.0
"""Standard deviations that a bond or an angle may be off."""
LENGTH_DEVIATIONS = {"CC": 0.0110, "CN": 0.0108, "CO": 0.0145, "CS": 0.0133, "OP": 0.0189}
"""Angstrom, by the elements of the bond in the order of the alphabet."""
ANGLE_DEVIATION = 1.68
"""Degrees."""
RADII = {"C": 1.70, "N": 1.55, "O": 1.52, "P": 1.80, "S": 1.80}
"""Van der Waals, Angstrom; other elements cannot clash."""
OVERLAP = 1.5
"""Angstrom, that the radii of two atoms may overlap."""
SULPHUR_LEAST = 1.03
"""Angstrom: nearer sulphurs of two cysteines clash."""
BACKBONE = frozenset(["N", "CA", "C", "O"])
SUGAR_PHOSPHATE = frozenset(
    ["P", "OP1", "OP2", "OP3", "O5'", "C5'", "C4'", "C3'", "C2'", "C1'", "O4'", "O3'", "O2'"]
)

_CHECKED = frozenset([*AMINO_ACIDS.values(), *NUCLEOTIDES]) - {"UNK"}
_BLOCK = 4096
_MOST_CELLS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong with a structure."""

    removed: Bool[np.ndarray, " N_atom"]
    """Atoms that do not count, by their place in the structure that was checked."""
    clashes: int
    bonds: int
    angles: int


def check_polymers(structure: Structure) -> Findings:
    """Looks at a structure of polymers as `standardised` makes it."""
    residues = _Residues(structure)
    clashes = _clashes(residues)
    bonds = np.concatenate([np.zeros((0, 2), np.int64), *_bad_bonds(residues)])
    angles = np.concatenate([np.zeros((0, 3), np.int64), *_bad_angles(residues)])
    wrong = np.unique(np.concatenate([clashes.ravel(), bonds.ravel(), angles.ravel()]))
    return Findings(
        removed=residues.condemned(wrong),
        clashes=len(clashes),
        bonds=len(bonds),
        angles=len(angles),
    )


class _Residues:
    """A structure residue by residue."""

    def __init__(self, structure: Structure):
        atoms = structure.atoms
        self.atoms = atoms
        self.x: Float[np.ndarray, "N_atom 3"] = atoms.coord.astype(np.float64)
        self.number: Int[np.ndarray, " N_atom"] = np.full(len(atoms), -1)
        """Residue of every atom, counted through all chains."""
        first = 0
        for chain in structure.chains:
            here = atoms.chain_id == chain.id
            self.number[here] = first + atoms.res_id[here] - 1
            first += len(chain.residues)
        self.names: dict[int, str] = dict(
            zip(self.number.tolist(), atoms.res_name.tolist(), strict=True)
        )
        """Component, by number."""
        self.place = {
            end: i
            for i, end in enumerate(
                zip(self.number.tolist(), atoms.atom_name.tolist(), strict=True)
            )
        }
        assert atoms.bonds is not None
        self.bonds = np.sort(atoms.bonds.as_array()[:, :2].astype(np.int64), axis=1)

    def rows(self, name: str) -> Int[np.ndarray, "N_residue N"]:
        """Where the atoms of each residue of this name stand, -1 = absent or unknown."""
        names = component(name).atom_names
        numbers = [n for n, other in self.names.items() if other == name]
        return np.array([[self.place.get((n, atom), -1) for atom in names] for n in numbers])

    def links(self) -> Int[np.ndarray, "n 2"]:
        """Bonds between residues, the earlier residue first."""
        ends = self.bonds[self.number[self.bonds[:, 0]] != self.number[self.bonds[:, 1]]]
        swap = self.number[ends[:, 0]] > self.number[ends[:, 1]]
        ends[swap] = ends[swap][:, ::-1]
        return ends

    def condemned(self, wrong: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " N_atom"]:
        """All atoms of residues with a wrong atom in the backbone, else the side chain."""
        wrong_residues, whole_residues = set(), set()
        for i in wrong.tolist():
            number = int(self.number[i])
            wrong_residues.add(number)
            if self.atoms.atom_name[i] in _backbone_of(self.names[number]):
                whole_residues.add(number)
        removed = np.isin(self.number, list(wrong_residues))
        for i in np.flatnonzero(removed).tolist():
            number = int(self.number[i])
            in_backbone = self.atoms.atom_name[i] in _backbone_of(self.names[number])
            removed[i] = number in whole_residues or not in_backbone
        return removed


def _backbone_of(name: str) -> frozenset[str]:
    return BACKBONE if component(name).kind == "protein" else SUGAR_PHOSPHATE


def _clashes(residues: _Residues) -> Int[np.ndarray, "n 2"]:
    """Pairs of atoms, in the polymers, that are too near and not bonded."""
    radius = np.array([RADII.get(e, np.nan) for e in residues.atoms.element.tolist()])
    known = np.flatnonzero(np.isfinite(radius))
    x = residues.x[known].astype(np.float32)
    if len(known) < 2:
        return np.zeros((0, 2), np.int64)
    reach = 2 * max(RADII.values()) - OVERLAP
    # Few enough cells even if atoms are flung far apart; larger cells change no result.
    volume = float(np.prod(np.ptp(x, axis=0) + reach))
    cells = CellList(x, cell_size=max(reach, (volume / _MOST_CELLS) ** (1 / 3)))
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(x), _BLOCK):
        near = cells.get_atoms(x[start : start + _BLOCK], reach)
        row, column = np.nonzero(near >= 0)
        i, j = row + start, near[row, column]
        found.append(np.sort(known[np.stack([i, j], axis=1)[i < j]], axis=1))
    pairs = np.concatenate(found)
    i, j = pairs.T
    names, codes = residues.atoms.atom_name, residues.atoms.res_name
    sulphur = (names == "SG") & (codes == "CYS")
    least = np.where(sulphur[i] & sulphur[j], SULPHUR_LEAST, radius[i] + radius[j] - OVERLAP)
    near = np.linalg.norm(residues.x[i] - residues.x[j], axis=1) < least
    n = len(radius)
    bonded = np.isin(i * n + j, residues.bonds[:, 0] * n + residues.bonds[:, 1])
    return pairs[near & ~bonded]


@functools.cache
def _length_limits(name: str) -> Float[np.ndarray, " N_bond"]:
    """Largest deviation of every bond within a residue, Angstrom."""
    elements = component(name).elements
    kinds = (
        "".join(sorted((elements[i], elements[j])))
        for i, j in residue_geometry(component(name)).bonds.tolist()
    )
    least = min(LENGTH_DEVIATIONS.values())
    return DEVIATIONS * np.array([LENGTH_DEVIATIONS.get(kind, least) for kind in kinds])


def _by_name(residues: _Residues) -> Iterator[tuple[str, np.ndarray]]:
    for name in sorted(set(residues.names.values()) & _CHECKED):
        yield name, residues.rows(name)


def _bad_bonds(residues: _Residues) -> Iterator[Int[np.ndarray, "n 2"]]:
    for name, rows in _by_name(residues):
        ideal, limit = residue_geometry(component(name)), np.tile(_length_limits(name), len(rows))
        ends = rows[:, ideal.bonds].reshape(-1, 2)
        length = np.linalg.norm(residues.x[ends[:, 0]] - residues.x[ends[:, 1]], axis=1)
        off = np.abs(length - np.tile(ideal.lengths, len(rows))) > limit
        yield ends[off & (ends >= 0).all(axis=1)]
    for i, j in residues.links().tolist():
        ideal = _link_length(residues, i, j)
        length = float(np.linalg.norm(residues.x[i] - residues.x[j]))
        if ideal is not None and abs(length - ideal[0]) > DEVIATIONS * ideal[1]:
            yield np.array([[i, j]])


def _link_length(residues: _Residues, i: int, j: int) -> tuple[float, float] | None:
    """Ideal length of a bond between residues and its standard deviation, if it is known."""
    names = residues.atoms.atom_name
    return link_length(str(names[i]), str(names[j]), residues.names[residues.number[j]])


def _bad_angles(residues: _Residues) -> Iterator[Int[np.ndarray, "n 3"]]:
    limit = DEVIATIONS * ANGLE_DEVIATION
    for name, rows in _by_name(residues):
        ideal = residue_geometry(component(name))
        places = rows[:, ideal.angles].reshape(-1, 3)
        off = np.abs(angle(residues.x[places]) - np.tile(ideal.degrees, len(rows))) > limit
        yield places[off & (places >= 0).all(axis=1)]
    for i, j in residues.links().tolist():
        yield from _bad_link_angles(residues, i, j)


def _bad_link_angles(residues: _Residues, i: int, j: int) -> Iterator[np.ndarray]:
    """Angles about the bond from residue of `i` to that of `j`."""
    before, after = int(residues.number[i]), int(residues.number[j])
    names = str(residues.atoms.atom_name[i]), str(residues.atoms.atom_name[j])
    name = residues.names[after]
    ideals = link_angles(*names, name, cis=name == "PRO" and _is_cis(residues, before, after))
    for three, (degrees, deviation) in ideals.items():
        a, b, c = three.split()
        if b == names[0]:
            key = (before, a), (before, b), (after, c)
        else:
            key = (before, a), (after, b), (after, c)
        places = np.array([[residues.place.get(end, -1) for end in key]])
        if (places >= 0).all() and abs(
            angle(residues.x[places])[0] - degrees
        ) > DEVIATIONS * deviation:
            yield places


def _is_cis(residues: _Residues, before: int, after: int) -> bool:
    ends = (before, "CA"), (before, "C"), (after, "N"), (after, "CA")
    places = [residues.place.get(end, -1) for end in ends]
    return min(places) >= 0 and bool(abs(dihedral(residues.x[places][None])[0]) < 90)
