"""What the atoms of a structure have to keep to: the terms of `stereochemistry`, as limits.

Distances hold bonds (1-2) and angles (1-3) and keep everything else apart; signed volumes of four
atoms hold hands and planes, torsions peptides and double bonds. Ideal values are those of
`polymer_geometry`; limits are as wide as good crystal structures are about them, so that what is
right is left as it is. Units: Angstrom, cubic Angstrom.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from biotite.structure import AtomArray
from biotite.structure.bonds import BondType
from jaxtyping import Float, Int

from seedfold.data_pipeline.clashes import near_in_graph, vdw_radii
from seedfold.data_pipeline.components import Component
from seedfold.data_pipeline.ideal_geometry import METALS, covalent_length
from seedfold.data_pipeline.polymer_geometry import link_angles, link_length, residue_geometry
from seedfold.data_pipeline.stereochemistry import (
    links_between_residues,
    residue_tables,
    with_partners,
)
from seedfold.data_pipeline.structure import Structure

LENGTH_TOLERANCE = 0.02
LINK_TOLERANCE = 0.2
"""Of bonds between residues that are only known as a sum of covalent radii."""
COORDINATION_TOLERANCE = 0.4
ANGLE_TOLERANCE = 5.0
"""Degrees; the limits of the distance between the ends follow."""
SHAPE_TOLERANCE = 0.1
"""Of the distances across an aromatic ring, and of atoms whose ideal distance is short."""
FLATNESS = 0.25
"""Cubic Angstrom: four atoms of a plane; a trigonal atom may be 0.05 Angstrom out of it."""
TWIST = 15.0
"""Degrees, that peptides and double bonds may turn from cis or trans."""
HANDEDNESS = (0.75, 1.25)
"""Of a stereocentre's signed volume, as shares of its ideal."""
OVERLAP = 0.8
"""How far van der Waals radii may overlap: in good structures hydrogen bonds do by 0.6."""
_METAL_RADIUS, _SULPHUR_RADIUS = 0.7, 1.0
"""Of what may come nearer: coordination, and disulphides that the query does not name."""
_NEAR_APART = 2.2
"""Least distance of atoms that two or three bonds join and no other term holds, unless their ideal
is nearer."""
_JOINT_ATOMS = ("CA", "C", "O", "N", "CD", "C3'", "O3'", "P", "O5'", "OP1", "OP2")


@dataclass(frozen=True, kw_only=True)
class Restraints:
    """Limits on the coordinates of `N_atom` atoms."""

    pairs: Int[np.ndarray, "N_pair 2"]
    least: Float[np.ndarray, " N_pair"]
    most: Float[np.ndarray, " N_pair"]
    quads: Int[np.ndarray, "N_quad 4"]
    """See `ideal_geometry.signed_volume`."""
    least_volume: Float[np.ndarray, " N_quad"]
    most_volume: Float[np.ndarray, " N_quad"]
    torsions: Int[np.ndarray, "N_torsion 4"]
    """Of bonds that do not turn."""
    side: Int[np.ndarray, " N_torsion"]
    """Where they belong. 1: cis, -1: trans, 0: either."""
    twist: Float[np.ndarray, " N_torsion"]
    """Radians, that they may be from there."""
    radii: Float[np.ndarray, " N_atom"]
    """Atoms that are not near in the graph of bonds are at least the sum of theirs apart."""
    near: Int[np.ndarray, " N_near"]
    """Keys i * N_atom + j of the pairs i < j that are joined by up to three bonds, sorted."""


def restraints(structure: Structure) -> Restraints:
    """Reads the limits off the chemistry of `structure`; its coordinates are not looked at."""
    return _Restraints(structure).done()


class _Restraints:
    def __init__(self, structure: Structure):
        self.structure = structure
        self.atoms: AtomArray = structure.atoms
        assert self.atoms.bonds is not None
        self.near = near_in_graph(self.atoms.bonds)
        self.metal = np.isin(np.asarray(self.atoms.element), list(METALS))
        self.links = links_between_residues(self.atoms)
        self.pairs: dict[tuple[int, int], tuple[float, float]] = {}
        self.quads: dict[tuple[int, ...], tuple[float, float]] = {}
        self.torsions: dict[tuple[int, ...], int] = {}
        self.lengths: dict[tuple[int, int], float] = {}
        self.partners: dict[int, list[int]] = defaultdict(list)
        for i, j, _ in self.links.tolist():
            self.partners[i].append(j)
            self.partners[j].append(i)
        tables = residue_tables(structure)
        for code, rows in tables.items():
            self._add_residues(structure.components[code], rows)
        self._add_links()
        self._keep_apart(tables)

    def done(self) -> Restraints:
        radii = vdw_radii(self.atoms) - OVERLAP / 2
        radii[self.metal] = _METAL_RADIUS
        radii[(self.atoms.atom_name == "SG") & (self.atoms.element == "S")] = _SULPHUR_RADIUS
        limits = np.array(list(self.pairs.values())).reshape(-1, 2)
        volumes = np.array(list(self.quads.values())).reshape(-1, 2)
        return Restraints(
            pairs=np.array(list(self.pairs), dtype=np.int64).reshape(-1, 2),
            least=limits[:, 0],
            most=limits[:, 1],
            quads=np.array(list(self.quads), dtype=np.int64).reshape(-1, 4),
            least_volume=volumes[:, 0],
            most_volume=volumes[:, 1],
            torsions=np.array(list(self.torsions), dtype=np.int64).reshape(-1, 4),
            side=np.array(list(self.torsions.values()), dtype=np.int64),
            twist=np.full(len(self.torsions), np.radians(TWIST)),
            radii=radii,
            near=self.near,
        )

    def _pair(self, i: int, j: int, least: float, most: float) -> None:
        self.pairs[min(i, j), max(i, j)] = least, most

    def _flat(self, quad: tuple[int, ...]) -> None:
        self.quads[quad] = -FLATNESS, FLATNESS

    def _bond(self, i: int, j: int, length: float, tolerance: float) -> None:
        self.lengths[i, j] = self.lengths[j, i] = length
        self._pair(i, j, length - tolerance, length + tolerance)

    def _angle(self, i: int, centre: int, j: int, low: float, high: float) -> None:
        a, b = self.lengths.get((i, centre)), self.lengths.get((centre, j))
        if a is not None and b is not None:
            limits = np.clip([low - ANGLE_TOLERANCE, high + ANGLE_TOLERANCE], 0, 180)
            least, most = np.sqrt(a * a + b * b - 2 * a * b * np.cos(np.radians(limits)))
            self._pair(i, j, float(least), float(most))

    def _add_residues(self, component: Component, rows: Int[np.ndarray, "N_residue N"]) -> None:
        ideal = residue_geometry(component)
        for (i, j), length in _terms(rows, ideal.bonds, ideal.lengths):
            self._bond(i, j, length, LENGTH_TOLERANCE)
        for (i, centre, j), degrees in _terms(rows, ideal.angles, ideal.degrees):
            self._angle(i, centre, j, degrees, degrees)
        for ring in ideal.rings:
            corners = np.array(list(combinations(ring, 4)), dtype=np.int64)
            for quad, _ in _terms(rows, corners.reshape(-1, 4), np.zeros(len(corners))):
                self._flat(quad)
            across = np.array(list(combinations(ring, 2)), dtype=np.int64)
            for pair, distance in _terms(rows, across, _distances(component, across)):
                limits = distance - SHAPE_TOLERANCE, distance + SHAPE_TOLERANCE
                self.pairs.setdefault((min(pair), max(pair)), limits)
        for quad, cis in _terms(rows, ideal.double, ideal.cis):
            self.torsions[quad] = int(cis)
        trigonal = with_partners(rows, ideal.trigonal, ideal.trigonal[:, 0], self.partners)
        for quad in trigonal[(trigonal >= 0).all(-1)].tolist():
            self._flat(tuple(quad))
        chiral = with_partners(rows, ideal.chiral, ideal.centres, self.partners)
        for quad, volume in zip(chiral.tolist(), np.tile(ideal.volumes, len(rows)), strict=True):
            if min(quad) >= 0:
                least, most = sorted(share * float(volume) for share in HANDEDNESS)
                self.quads[tuple(quad)] = least, most

    def _keep_apart(self, tables: dict[str, Int[np.ndarray, "N_residue N"]]) -> None:
        """Limits for neighbours in the graph that have none yet; they are not in `radii`'s care."""
        n_atom = len(self.atoms)
        ideal, residue, first = np.full((n_atom, 3), np.nan), np.full(n_atom, -1), 0
        for code, rows in tables.items():
            numbers = np.arange(first, first + len(rows))[:, None].repeat(rows.shape[1], axis=1)
            there, first = rows >= 0, first + len(rows)
            residue[rows[there]] = numbers[there]
            coord = np.broadcast_to(self.structure.components[code].coord, (*rows.shape, 3))
            ideal[rows[there]] = coord[there]
        i, j = np.divmod(self.near, n_atom)
        use = (i < j) & ~self.metal[i] & ~self.metal[j]
        i, j = i[use], j[use]
        own = np.linalg.norm(ideal[i] - ideal[j], axis=-1) - SHAPE_TOLERANCE
        known = (residue[i] == residue[j]) & np.isfinite(own)
        least = np.where(known, np.fmin(own, _NEAR_APART), _NEAR_APART)
        for pair, distance in zip(zip(i.tolist(), j.tolist(), strict=True), least, strict=True):
            self.pairs.setdefault(pair, (float(distance), np.inf))

    def _add_links(self) -> None:
        atoms = self.atoms
        ends = (atoms.chain_id.tolist(), atoms.res_id.tolist(), atoms.atom_name.tolist())
        place = {end: i for i, end in enumerate(zip(*ends, strict=True))}
        for i, j, kind in self.links.tolist():
            # Along a chain a bond runs from C to N and from O3' to P, where it is cyclic, too.
            if (atoms.atom_name[i], atoms.atom_name[j]) in (("N", "C"), ("P", "O3'")):
                i, j = j, i
            self._add_link(i, j, kind == BondType.COORDINATION)
            before, after = (
                {a: place.get((atoms.chain_id[k], atoms.res_id[k], a), -1) for a in _JOINT_ATOMS}
                for k in (i, j)
            )
            names = str(atoms.atom_name[i]), str(atoms.atom_name[j]), str(atoms.res_name[j])
            self._add_joint(names, before, after)

    def _add_link(self, i: int, j: int, coordination: bool) -> None:
        atoms = self.atoms
        names = str(atoms.atom_name[i]), str(atoms.atom_name[j])
        elements = str(atoms.element[i]), str(atoms.element[j])
        metal = coordination or bool(METALS.intersection(elements))
        known = link_length(*names, str(atoms.res_name[j]))
        if known is not None and not metal:
            self._bond(i, j, known[0], LENGTH_TOLERANCE)
            return
        length = float(covalent_length(elements[:1], elements[1:])[0])
        self._bond(i, j, length, COORDINATION_TOLERANCE if metal else LINK_TOLERANCE)

    def _add_joint(
        self,
        names: tuple[str, str, str],
        before: dict[str, int],
        after: dict[str, int],
    ) -> None:
        """Angles and torsion of a bond along a chain; `names`: its two atoms, next residue.

        `before` and `after` tell where the atoms of the two residues stand, -1 = absent.
        """
        first, _, residue = names
        cis = link_angles(*names, cis=True)
        for three, (degrees, _) in link_angles(*names, cis=False).items():
            a, b, c = three.split()
            places = (before[a], before[b] if b == first else after[b], after[c])
            if min(places) >= 0:
                self._angle(*places, *sorted((degrees, cis[three][0])))
        if names[:2] == ("C", "N"):
            omega = before["CA"], before["C"], after["N"], after["CA"]
            if min(omega) >= 0:
                self.torsions[omega] = 0 if residue == "PRO" else -1
            proline = after["N"], before["C"], after["CA"], after["CD"]
            if residue == "PRO" and min(proline) >= 0:
                self._flat(proline)


def _distances(component: Component, pairs: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(component.coord[pairs[:, 0]] - component.coord[pairs[:, 1]], axis=-1)


def _terms(
    rows: Int[np.ndarray, "N_residue N"], atoms: np.ndarray, ideal: np.ndarray
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Terms of every residue that has all their atoms: (atoms, ideal value)."""
    places = rows[:, atoms].reshape(-1, atoms.shape[-1])
    for of_term, value in zip(places.tolist(), np.tile(ideal, len(rows)).tolist(), strict=True):
        if min(of_term) >= 0:
            yield tuple(of_term), value
