"""Checks a set of coordinates against the chemistry that it should show.

For every residue: handedness of stereocentres, E/Z of double bonds, bond lengths and angles, flat
rings and flat trigonal atoms, all against the ideal geometry of its component (`polymer_geometry`).
Between residues: lengths of the bonds that join them and the torsion of peptide bonds. Over all:
atoms that are too close (`clashes`). The limits below are meant to pass good crystal structures and
to catch what is chemically wrong, not to grade refinement; each is stated with its unit.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from biotite.structure import AtomArray
from biotite.structure.bonds import BondType
from jaxtyping import Float, Int

from seedfold.data_pipeline.clashes import clashes
from seedfold.data_pipeline.ideal_geometry import (
    METALS,
    IdealGeometry,
    angle,
    covalent_length,
    dihedral,
    height,
    signed_volume,
    warp,
)
from seedfold.data_pipeline.polymer_geometry import link_length, residue_geometry
from seedfold.data_pipeline.structure import Structure

LENGTH_TOLERANCE = 0.2
"""Angstrom, of bonds whose ideal length is known."""
LINK_TOLERANCE = 0.3
"""Angstrom, of bonds between residues that are only known as a sum of covalent radii."""
COORDINATION_TOLERANCE = 0.6
"""Angstrom, of bonds to metals."""
ANGLE_TOLERANCE = 20.0
"""Degrees."""
HANDEDNESS_LEAST = 0.25
"""Signed volume of a stereocentre over its ideal: 1 is right, -1 the mirror image, 0 flat."""
ISOMER_TOLERANCE = 60.0
"""Degrees, of the torsion of a double bond from 0 (cis) or 180 (trans)."""
RING_TOLERANCE = 0.2
"""Angstrom, of an atom from the best plane of its aromatic ring."""
TRIGONAL_TOLERANCE = 0.25
"""Angstrom, of a trigonal atom from the plane of its three neighbours."""
PEPTIDE_TOLERANCE = 30.0
"""Degrees, of omega from 0 (cis) or 180 (trans)."""

_CHECKS = (
    "chirality",
    "double_bonds",
    "bond_lengths",
    "bond_angles",
    "aromatic_rings",
    "trigonal_atoms",
    "links",
    "peptide_bonds",
    "clashes",
)


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """One thing that is wrong."""

    kind: str
    """Name of the check, as in `StereoReport.checked`."""
    atoms: tuple[str, ...]
    """``chain/residue name and number/atom``, e.g. ``A/ALA12/CA``."""
    value: float
    ideal: float


@dataclass(frozen=True, kw_only=True)
class StereoReport:
    """What was looked at, and what was found wrong."""

    checked: dict[str, int]
    """Check -> number of terms looked at; of clashes, the number of atoms."""
    outliers: dict[str, int]
    """Check -> number of terms outside the limits."""
    peptides: dict[str, int]
    """Peptide bonds: ``trans``, ``cis_proline``, ``cis_other``, ``twisted``."""
    worst: tuple[Outlier, ...]
    """The worst few of every check."""

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return not any(self.outliers.values())

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, numbers rounded."""
        return {
            "checks": {
                kind: {"checked": n, "outliers": self.outliers[kind]}
                for kind, n in self.checked.items()
            },
            "peptide_bonds": self.peptides,
            "worst": [
                {
                    "kind": o.kind,
                    "atoms": list(o.atoms),
                    "value": round(o.value, 3),
                    "ideal": round(o.ideal, 3),
                }
                for o in self.worst
            ],
        }


@dataclass(frozen=True, kw_only=True)
class _Terms:
    """Measured terms of one check; `excess` is the deviation over the tolerance: > 1 is wrong."""

    kind: str
    atoms: Int[np.ndarray, "n k"]
    value: Float[np.ndarray, " n"]
    ideal: Float[np.ndarray, " n"]
    excess: Float[np.ndarray, " n"]

    def outlier(self, i: int, atoms: AtomArray) -> Outlier:
        """Term `i` in words."""
        return Outlier(
            kind=self.kind,
            atoms=tuple(_label(atoms, a) for a in self.atoms[i].tolist()),
            value=float(self.value[i]),
            ideal=float(self.ideal[i]),
        )


def check(
    structure: Structure, coord: Float[np.ndarray, "N_atom 3"], *, keep: int = 20
) -> StereoReport:
    """Checks `coord` (Angstrom; NaN = unknown, skipped) of the atoms of `structure`.

    Args:
        structure: atoms, bonds and components; its own coordinates are not looked at.
        coord: the coordinates to be judged.
        keep: how many of the worst outliers of every check are listed.
    """
    x = coord.astype(np.float64)
    atoms = structure.atoms
    links = links_between_residues(atoms)
    omega = _peptide_terms(atoms, x, links)
    terms = [
        *_residue_terms(structure, x, links),
        *_link_terms(atoms, x, links),
        omega,
        _clash_terms(atoms, x),
    ]
    checked: dict[str, int] = dict.fromkeys(_CHECKS, 0)
    outliers: dict[str, int] = dict.fromkeys(_CHECKS, 0)
    for t in terms:
        checked[t.kind] += len(t.value)
        outliers[t.kind] += int((t.excess > 1).sum())
    checked["clashes"] = int(np.isfinite(x).all(axis=-1).sum())
    return StereoReport(
        checked=checked,
        outliers=outliers,
        peptides=_count_peptides(atoms, omega),
        worst=tuple(_worst(terms, atoms, keep)),
    )


def _worst(terms: Sequence[_Terms], atoms: AtomArray, keep: int) -> Iterator[Outlier]:
    """The worst `keep` of every check, in the order of the checks."""
    for kind in _CHECKS:
        wrong = [
            (float(t.excess[i]), n, i)
            for n, t in enumerate(terms)
            if t.kind == kind
            for i in np.flatnonzero(t.excess > 1).tolist()
        ]
        for _, n, i in sorted(wrong, key=lambda w: -w[0])[:keep]:
            yield terms[n].outlier(i, atoms)


def _label(atoms: AtomArray, i: int) -> str:
    return f"{atoms.chain_id[i]}/{atoms.res_name[i]}{atoms.res_id[i]}/{atoms.atom_name[i]}"


def _measured(
    kind: str,
    atoms: np.ndarray,
    ideal: np.ndarray,
    x: np.ndarray,
    measure: Callable[[np.ndarray], np.ndarray],
    tolerance: float | np.ndarray,
) -> _Terms:
    """Terms whose atoms are all there (-1 = absent) and have coordinates."""
    there = (atoms >= 0).all(axis=-1) & np.isfinite(x[atoms]).all(axis=(-1, -2))
    atoms, ideal = atoms[there], ideal[there].astype(np.float64)
    tolerance = np.broadcast_to(tolerance, there.shape)[there]
    value = measure(x[atoms])
    excess = np.abs(value - ideal) / tolerance
    return _Terms(kind=kind, atoms=atoms, value=value, ideal=ideal, excess=excess)


def links_between_residues(atoms: AtomArray) -> Int[np.ndarray, "n 3"]:
    """Bonds between residues: (atom, atom, type), the earlier atom first."""
    assert atoms.bonds is not None
    bonds = atoms.bonds.as_array().astype(np.int64)
    bonds[:, :2].sort(axis=1)
    i, j, _ = bonds.T
    same = (atoms.chain_id[i] == atoms.chain_id[j]) & (atoms.res_id[i] == atoms.res_id[j])
    return bonds[~same]


def _residue_terms(structure: Structure, x: np.ndarray, links: np.ndarray) -> Iterator[_Terms]:
    """All terms within residues, kind of residue by kind of residue."""
    partners: dict[int, list[int]] = defaultdict(list)
    for i, j, _ in links.tolist():
        partners[i].append(j)
        partners[j].append(i)
    for code, rows in residue_tables(structure).items():
        ideal = residue_geometry(structure.components[code])
        yield from _component_terms(ideal, rows, x)
        chiral = with_partners(rows, ideal.chiral, ideal.centres, partners)
        centres = rows[:, ideal.centres].reshape(-1, 1)
        yield _handedness(chiral, centres, np.tile(ideal.volumes, len(rows)), x)
        trigonal = with_partners(rows, ideal.trigonal, ideal.trigonal[:, 0], partners)
        flat = np.zeros(len(trigonal))
        yield _measured("trigonal_atoms", trigonal, flat, x, height, TRIGONAL_TOLERANCE)


def _component_terms(ideal: IdealGeometry, rows: np.ndarray, x: np.ndarray) -> Iterator[_Terms]:
    n = len(rows)

    def term(kind: str, atoms: Any, target: Any, measure: Any, tolerance: float) -> _Terms:
        places = rows[:, atoms].reshape(-1, np.shape(atoms)[-1])
        return _measured(kind, places, np.tile(target, n), x, measure, tolerance)

    yield term("bond_lengths", ideal.bonds, ideal.lengths, _length, LENGTH_TOLERANCE)
    yield term("bond_angles", ideal.angles, ideal.degrees, angle, ANGLE_TOLERANCE)
    trans = np.where(ideal.cis > 0, 0.0, 180.0)
    yield term("double_bonds", ideal.double, trans, _torsion, ISOMER_TOLERANCE)
    for ring in ideal.rings:
        yield term("aromatic_rings", [ring], [0.0], warp, RING_TOLERANCE)


def _length(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[..., 0, :] - x[..., 1, :], axis=-1)


def _torsion(x: np.ndarray) -> np.ndarray:
    return np.abs(dihedral(x))


def _handedness(
    atoms: np.ndarray, centres: np.ndarray, volumes: np.ndarray, x: np.ndarray
) -> _Terms:
    there = (atoms >= 0).all(axis=-1) & np.isfinite(x[atoms]).all(axis=(-1, -2))
    value = signed_volume(x[atoms[there]]) / volumes[there]
    return _Terms(
        kind="chirality",
        atoms=centres[there],
        value=value,
        ideal=np.ones(len(value)),
        excess=(1 - value) / (1 - HANDEDNESS_LEAST),
    )


def residue_tables(structure: Structure) -> dict[str, Int[np.ndarray, "N_residue N"]]:
    """Component -> for each of its residues, where its atoms stand (-1 = absent)."""
    atoms, components = structure.atoms, structure.components
    rows: dict[str, dict[tuple[str, int], np.ndarray]] = defaultdict(dict)
    names = zip(
        atoms.chain_id.tolist(),
        atoms.res_id.tolist(),
        atoms.res_name.tolist(),
        atoms.atom_name.tolist(),
        strict=True,
    )
    for i, (chain, residue, code, name) in enumerate(names):
        place = components[code].index.get(name) if code in components else None
        if place is not None:
            row = rows[code].get((chain, residue))
            if row is None:
                row = rows[code][chain, residue] = np.full(len(components[code].index), -1)
            row[place] = i
    return {code: np.stack(list(of_code.values())) for code, of_code in rows.items()}


def with_partners(
    rows: np.ndarray, quads: np.ndarray, centres: np.ndarray, partners: dict[int, list[int]]
) -> Int[np.ndarray, "n 4"]:
    """Atoms of the terms of every residue, the one neighbour that has left replaced by what the
    centre is bonded to instead.
    """
    atoms, middle = rows[:, quads], rows[:, centres]
    for row, term in np.argwhere((atoms < 0).sum(axis=-1) == 1).tolist():
        joined = partners[int(middle[row, term])]
        if len(joined) == 1:
            quad = atoms[row, term]
            quad[quad < 0] = joined[0]
    return atoms.reshape(-1, 4)


def _link_terms(atoms: AtomArray, x: np.ndarray, links: np.ndarray) -> Iterator[_Terms]:
    i, j, kind = links.T
    names = list(zip(atoms.atom_name[i].tolist(), atoms.atom_name[j].tolist(), strict=True))
    ideal = covalent_length(atoms.element[i].tolist(), atoms.element[j].tolist())
    metal = np.isin(atoms.element[i], list(METALS)) | np.isin(atoms.element[j], list(METALS))
    tolerance = np.where(
        metal | (kind == BondType.COORDINATION), COORDINATION_TOLERANCE, LINK_TOLERANCE
    )
    residues = zip(atoms.res_name[i].tolist(), atoms.res_name[j].tolist(), strict=True)
    for n, ((a, b), (of_a, of_b)) in enumerate(zip(names, residues, strict=True)):
        known = link_length(a, b, of_b) or link_length(b, a, of_a)
        if known and not metal[n]:
            ideal[n], tolerance[n] = known[0], LENGTH_TOLERANCE
    yield _measured("links", links[:, :2], ideal, x, _length, tolerance)


def _peptide_terms(atoms: AtomArray, x: np.ndarray, links: np.ndarray) -> _Terms:
    """Omega of every bond C-N between residues that have a CA."""
    alpha = {
        (atoms.chain_id[i], atoms.res_id[i]): i
        for i in np.flatnonzero((atoms.atom_name == "CA") & (atoms.element == "C")).tolist()
    }
    quads = []
    for i, j, _ in links.tolist():
        c, n = (i, j) if atoms.atom_name[i] == "C" else (j, i)
        before = alpha.get((atoms.chain_id[c], atoms.res_id[c]))
        after = alpha.get((atoms.chain_id[n], atoms.res_id[n]))
        if (atoms.atom_name[c], atoms.atom_name[n]) == ("C", "N") and None not in (before, after):
            quads.append((before, c, n, after))
    quads = np.array(quads, dtype=np.int64).reshape(-1, 4)
    terms = _measured(
        "peptide_bonds", quads, np.full(len(quads), 180.0), x, _torsion, PEPTIDE_TOLERANCE
    )
    proline = atoms.res_name[terms.atoms[:, 2]] == "PRO"
    return dataclasses.replace(
        terms, excess=np.where(proline & (terms.value < PEPTIDE_TOLERANCE), 0.0, terms.excess)
    )


def _count_peptides(atoms: AtomArray, omega: _Terms) -> dict[str, int]:
    proline = atoms.res_name[omega.atoms[:, 2]] == "PRO"
    cis, trans = omega.value < PEPTIDE_TOLERANCE, omega.value > 180 - PEPTIDE_TOLERANCE
    return {
        "trans": int(trans.sum()),
        "cis_proline": int((cis & proline).sum()),
        "cis_other": int((cis & ~proline).sum()),
        "twisted": int((~cis & ~trans).sum()),
    }


def _clash_terms(atoms: AtomArray, x: np.ndarray) -> _Terms:
    pairs, distance, least = clashes(atoms, x)
    # Any clash is wrong; the deeper, the worse.
    excess = 1 + (least - distance)
    return _Terms(kind="clashes", atoms=pairs, value=distance, ideal=least, excess=excess)
