"""Atoms that are closer than their van der Waals radii allow, by a cell list."""

import numpy as np
from biotite.structure import AtomArray
from biotite.structure.bonds import BondList
from biotite.structure.celllist import CellList
from biotite.structure.info import vdw_radius_single
from jaxtyping import Float, Int

from seedfold.data_pipeline.ideal_geometry import METALS

CLASH_OVERLAP = 1.5
"""Angstrom: two atoms clash if closer than the sum of their radii minus this (C-C: 1.9)."""

# Coordination brings ligand atoms far inside a metal's van der Waals radius.
_METAL_RADIUS = 1.4
_OTHER_RADIUS = 1.7
_BLOCK = 2048
_MOST_CELLS = 1_000_000


def vdw_radii(atoms: AtomArray) -> Float[np.ndarray, " N_atom"]:
    """Van der Waals radii by element (Bondi), Angstrom; metals are given a small one."""
    of_element = {
        str(e): _METAL_RADIUS if e in METALS else vdw_radius_single(str(e)) or _OTHER_RADIUS
        for e in np.unique(np.asarray(atoms.element))
    }
    return np.array([of_element[e] for e in atoms.element.tolist()])


def clashes(
    atoms: AtomArray, x: Float[np.ndarray, "N_atom 3"]
) -> tuple[Int[np.ndarray, "n 2"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Pairs of atoms that clash: (indices, distance, least distance allowed), Angstrom.

    Pairs joined by up to three bonds are not looked at, nor the sulphurs of two cysteines, whose
    disulphide bond a query need not have named. Atoms with unknown coordinates are skipped.
    """
    assert atoms.bonds is not None
    known = np.flatnonzero(np.isfinite(x).all(axis=-1))
    if len(known) < 2:
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0), np.zeros(0)
    radii = vdw_radii(atoms)
    pairs = _pairs_within(x[known], 2 * float(radii.max()) - CLASH_OVERLAP)
    i, j = known[pairs[:, 0]], known[pairs[:, 1]]
    distance = np.linalg.norm(x[i] - x[j], axis=-1)
    least = radii[i] + radii[j] - CLASH_OVERLAP
    sulphur = (atoms.atom_name == "SG") & (atoms.element == "S")
    close = (distance < least) & ~(sulphur[i] & sulphur[j])
    i, j, distance, least = (v[close] for v in (i, j, distance, least))
    apart = ~np.isin(i * len(x) + j, near_in_graph(atoms.bonds))
    return np.stack([i, j], axis=-1)[apart], distance[apart], least[apart]


def _pairs_within(x: np.ndarray, radius: float) -> np.ndarray:
    """Pairs i < j within `radius`, a block of atoms at a time."""
    # Few enough cells even if atoms are flung far apart; larger cells change no result.
    volume = float(np.prod(np.ptp(x, axis=0) + radius))
    cells = CellList(x.astype(np.float32), cell_size=max(radius, (volume / _MOST_CELLS) ** (1 / 3)))
    found = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(x), _BLOCK):
        near = cells.get_atoms(x[start : start + _BLOCK].astype(np.float32), radius)
        row, column = np.nonzero(near >= 0)
        pairs = np.stack([row + start, near[row, column]], axis=-1)
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def near_in_graph(bonds: BondList, n_bonds: int = 3) -> np.ndarray:
    """Keys i * N_atom + j of the pairs i < j joined by at most `n_bonds` bonds."""
    around = bonds.get_all_bonds()[0].astype(np.int64)
    n = len(around)
    pairs = np.stack([np.arange(n), np.arange(n)], axis=-1)
    keys = []
    for _ in range(n_bonds):
        ends = around[pairs[:, 1]]
        row, column = np.nonzero(ends >= 0)
        pairs = np.stack([pairs[row, 0], ends[row, column]], axis=-1)
        keys.append(np.unique(pairs[:, 0] * n + pairs[:, 1]))
        pairs = np.stack(np.divmod(keys[-1], n), axis=-1)
    return np.unique(np.concatenate(keys))
