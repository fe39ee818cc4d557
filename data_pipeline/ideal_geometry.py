"""What the geometry of a component should be: lengths, angles, chirality, planes, E/Z.

Everything is read from the component's ideal coordinates (the CCD's, or the conformer of a ligand
given as SMILES or a file) once, so that a structure can be compared with it residue kind by residue
kind. Radii: covalent from Cordero et al. 2008 (doi:10.1039/b801115j).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from biotite.structure.bonds import BondType
from jaxtyping import Float, Int

from seedfold.data_pipeline.components import Component

METALS = frozenset(
    (
        *("LI", "BE", "NA", "MG", "AL", "K", "CA", "SC", "TI", "V", "CR", "MN", "FE", "CO", "NI"),
        *("CU", "ZN", "GA", "RB", "SR", "Y", "ZR", "NB", "MO", "TC", "RU", "RH", "PD", "AG", "CD"),
        *("IN", "SN", "CS", "BA", "LA", "CE", "PR", "ND", "SM", "EU", "GD", "TB", "DY", "HO", "ER"),
        *("TM", "YB", "LU", "HF", "TA", "W", "RE", "OS", "IR", "PT", "AU", "HG", "TL", "PB", "BI"),
        *("TH", "U"),
    )
)
"""Their bonds are coordination, for which ideal lengths and angles say little."""

COVALENT_RADIUS: dict[str, float] = {
    "H": 0.31, "B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "SI": 1.11, "P": 1.07,
    "S": 1.05, "CL": 1.02, "AS": 1.19, "SE": 1.20, "BR": 1.20, "I": 1.39, "TE": 1.38,
    "LI": 1.28, "NA": 1.66, "MG": 1.41, "K": 2.03, "CA": 1.76, "MN": 1.61, "FE": 1.52,
    "CO": 1.50, "NI": 1.24, "CU": 1.32, "ZN": 1.22, "MO": 1.54, "CD": 1.44, "HG": 1.32,
}  # fmt: skip
"""Angstrom; of single bonds, metals in their larger (high-spin) size."""
OTHER_RADIUS = 1.5

_AROMATIC = (
    BondType.AROMATIC_SINGLE,
    BondType.AROMATIC_DOUBLE,
    BondType.AROMATIC_TRIPLE,
    BondType.AROMATIC,
)
_TRIGONAL = frozenset({"C", "N", "B"})
_LONGEST_FLAT_RING = 6
_FLAT = 0.1
"""Angstrom: an ideal plane is taken as one if its own atoms are this close to it."""
_FLATTEST_CENTRE = 0.8
"""Cubic Angstrom: an ideal centre that is flatter says nothing about its handedness."""


@dataclass(frozen=True, kw_only=True)
class IdealGeometry:
    """Terms of one component; atoms by position in it."""

    bonds: Int[np.ndarray, "N_bond 2"]
    lengths: Float[np.ndarray, " N_bond"]
    angles: Int[np.ndarray, "N_angle 3"]
    """(end, centre, end)"""
    degrees: Float[np.ndarray, " N_angle"]
    chiral: Int[np.ndarray, "N_chiral 4"]
    """(apex, neighbour, neighbour, neighbour); see `signed_volume`."""
    centres: Int[np.ndarray, " N_chiral"]
    """The stereocentre itself: the apex, unless it has four neighbours."""
    volumes: Float[np.ndarray, " N_chiral"]
    double: Int[np.ndarray, "N_double 4"]
    """(substituent, end, end, substituent) of double bonds that are E or Z."""
    cis: Float[np.ndarray, " N_double"]
    """Cosine of the dihedral: near 1 or -1."""
    rings: tuple[tuple[int, ...], ...]
    trigonal: Int[np.ndarray, "N_trigonal 4"]
    """(centre, neighbour, neighbour, neighbour) that lie in one plane."""


def signed_volume(x: Float[np.ndarray, "n 4 3"]) -> Float[np.ndarray, " n"]:
    """Triple product of three atoms as seen from the first; its sign is the handedness."""
    a, b, c = (x[..., i, :] - x[..., 0, :] for i in (1, 2, 3))
    return np.einsum("...i,...i->...", a, np.cross(b, c))


def angle(x: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, " n"]:
    """Angle at the second atom, degrees."""
    u, v = x[..., 0, :] - x[..., 1, :], x[..., 2, :] - x[..., 1, :]
    cross = np.linalg.norm(np.cross(u, v), axis=-1)
    return np.degrees(np.arctan2(cross, np.einsum("...i,...i->...", u, v)))


def dihedral(x: Float[np.ndarray, "n 4 3"]) -> Float[np.ndarray, " n"]:
    """Torsion about the second and third atom, degrees, 0 = cis."""
    u, v, w = (x[..., i + 1, :] - x[..., i, :] for i in range(3))
    p, q = np.cross(u, v), np.cross(v, w)
    length = np.linalg.norm(v, axis=-1)
    sine = length * np.einsum("...i,...i->...", u, q)
    return np.degrees(np.arctan2(sine, np.einsum("...i,...i->...", p, q)))


def height(x: Float[np.ndarray, "n 4 3"]) -> Float[np.ndarray, " n"]:
    """Distance of the first atom from the plane of the other three, Angstrom."""
    normal = np.cross(x[..., 2, :] - x[..., 1, :], x[..., 3, :] - x[..., 1, :])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    return np.abs(np.einsum("...i,...i->...", x[..., 0, :] - x[..., 1, :], normal))


def warp(x: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, " n"]:
    """Largest distance of an atom from the best plane through all of them, Angstrom."""
    centred = x - x.mean(axis=-2, keepdims=True)
    normal = np.linalg.svd(centred, full_matrices=False)[2][..., 2, :]
    return np.abs(np.einsum("...ki,...i->...k", centred, normal)).max(axis=-1)


def covalent_length(first: Sequence[str], second: Sequence[str]) -> Float[np.ndarray, " n"]:
    """Sum of covalent radii of pairs of elements (upper case), Angstrom."""
    return np.array(
        [
            COVALENT_RADIUS.get(a, OTHER_RADIUS) + COVALENT_RADIUS.get(b, OTHER_RADIUS)
            for a, b in zip(first, second, strict=True)
        ]
    )


def ideal_geometry(component: Component) -> IdealGeometry:
    """Reads the terms from the ideal coordinates; those without coordinates have no terms.

    Bonds to metals are left out. E/Z is taken only where both ends tell their substituents apart
    and, for a component made from SMILES, only if the SMILES says E or Z somewhere.
    """
    x = component.coord.astype(np.float64)
    known = np.isfinite(x).all(axis=-1)
    metal = np.array([e in METALS for e in component.elements], dtype=bool)
    usable = known & ~metal
    bonds = component.bonds[usable[component.bonds[:, :2]].all(axis=-1)]
    neighbours = _neighbours(len(usable), bonds)
    ends = bonds[:, :2].astype(np.int64)
    angles = _array(
        (
            (a, centre, b)
            for centre, around in enumerate(neighbours)
            for a, b in itertools.combinations(around, 2)
        ),
        3,
    )
    chiral, centres = _chiral(component, neighbours, x)
    in_ring = _ring_bonds(neighbours, bonds)
    double = _double_bonds(component, neighbours, bonds, in_ring)
    rings = _flat_rings(neighbours, bonds, in_ring, x)
    return IdealGeometry(
        bonds=ends,
        lengths=np.linalg.norm(x[ends[:, 0]] - x[ends[:, 1]], axis=-1),
        angles=angles,
        degrees=angle(x[angles]),
        chiral=chiral,
        centres=centres,
        volumes=signed_volume(x[chiral]),
        double=double,
        cis=np.sign(np.cos(np.radians(dihedral(x[double])))),
        rings=rings,
        trigonal=_trigonal(component, neighbours, bonds, x),
    )


def _array(rows, width: int) -> np.ndarray:
    return np.array(list(rows), dtype=np.int64).reshape(-1, width)


def _neighbours(n: int, bonds: np.ndarray) -> list[list[int]]:
    around: list[list[int]] = [[] for _ in range(n)]
    for a, b, _ in bonds.tolist():
        around[a].append(b)
        around[b].append(a)
    return around


def _chiral(
    component: Component, neighbours: list[list[int]], x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    colours = _colours(component, neighbours)
    quads, centres = [], []
    for centre, label in enumerate(component.stereo):
        around = neighbours[centre]
        ends = [colours[n] for n in around if len(neighbours[n]) == 1]
        # The two oxygens of a phosphate differ on paper only: their names may be swapped.
        if label in ("R", "S") and len(around) in (3, 4) and len(set(ends)) == len(ends):
            # With four neighbours the fourth is a steadier apex than the centre itself.
            quad = (centre, *around) if len(around) == 3 else (around[3], *around[:3])
            if abs(signed_volume(x[[quad], :]).item()) > _FLATTEST_CENTRE:
                quads.append(quad)
                centres.append(centre)
    return _array(quads, 4), np.array(centres, dtype=np.int64)


def _ring_bonds(neighbours: list[list[int]], bonds: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """For every bond that lies in a ring, both ways round: a smallest such ring, in order."""
    rings: dict[tuple[int, int], list[int]] = {}
    for a, b, _ in bonds.tolist():
        ring = _way_round(neighbours, a, b)
        if ring:
            rings[a, b] = rings[b, a] = ring
    return rings


def _way_round(neighbours: list[list[int]], start: int, goal: int) -> list[int]:
    """Shortest path from start to goal that does not use their bond; empty if there is none."""
    before = {start: start}
    front = [start]
    while front and goal not in before:
        step = []
        for atom in front:
            for other in neighbours[atom]:
                if other not in before and (atom, other) != (start, goal):
                    before[other] = atom
                    step.append(other)
        front = step
    if goal not in before:
        return []
    path = [goal]
    while path[-1] != start:
        path.append(before[path[-1]])
    return path


def _flat_rings(
    neighbours: list[list[int]],
    bonds: np.ndarray,
    in_ring: dict[tuple[int, int], list[int]],
    x: np.ndarray,
) -> tuple[tuple[int, ...], ...]:
    aromatic = bonds[np.isin(bonds[:, 2], _AROMATIC)]
    own = _neighbours(len(neighbours), aromatic)
    rings = {
        tuple(sorted(ring))
        for a, b, _ in aromatic.tolist()
        if (a, b) in in_ring and (ring := _way_round(own, a, b))
    }
    return tuple(
        sorted(r for r in rings if len(r) <= _LONGEST_FLAT_RING and warp(x[[r], :]).item() < _FLAT)
    )


def _trigonal(
    component: Component, neighbours: list[list[int]], bonds: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Atoms with three neighbours at a double or aromatic bond, where the ideal is flat."""
    unsaturated = bonds[np.isin(bonds[:, 2], (BondType.DOUBLE, *_AROMATIC)), :2]
    quads = _array(
        (
            (centre, *neighbours[centre])
            for centre in np.unique(unsaturated).tolist()
            if len(neighbours[centre]) == 3 and component.elements[centre] in _TRIGONAL
        ),
        4,
    )
    return quads[height(x[quads]) < _FLAT]


def _double_bonds(
    component: Component,
    neighbours: list[list[int]],
    bonds: np.ndarray,
    in_ring: dict[tuple[int, int], list[int]],
) -> np.ndarray:
    if component.smiles is not None and not set(component.smiles) & set("/\\"):
        return _array((), 4)
    colours = _colours(component, neighbours)
    quads = []
    for a, b, order in bonds.tolist():
        if order == BondType.DOUBLE and (a, b) not in in_ring:
            left = _telling(colours, neighbours[a], b, component.elements[a])
            right = _telling(colours, neighbours[b], a, component.elements[b])
            if left is not None and right is not None:
                quads.append((left, a, b, right))
    return _array(quads, 4)


def _telling(colours: tuple[int, ...], around: list[int], partner: int, element: str) -> int | None:
    """A substituent of one end of a double bond that tells its two sides apart."""
    others = [n for n in around if n != partner]
    if element not in ("C", "N") or not others or len(others) > 2:
        return None
    if len(others) == 2 and colours[others[0]] == colours[others[1]]:
        return None
    return others[0]


def _colours(component: Component, neighbours: list[list[int]]) -> tuple[int, ...]:
    """Classes of atoms that the graph alone cannot tell apart (colour refinement)."""
    colours = [hash((e, len(n))) for e, n in zip(component.elements, neighbours, strict=True)]
    for _ in range(len(colours)):
        finer = [
            hash((colours[i], tuple(sorted(colours[j] for j in around))))
            for i, around in enumerate(neighbours)
        ]
        if len(set(finer)) == len(set(colours)):
            break
        colours = finer
    return tuple(colours)
