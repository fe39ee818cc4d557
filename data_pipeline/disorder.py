"""Fraction of protein residues that look disordered: exposed over a long stretch.

Source: AF3 SI section 5.9.3 (a term of the ranking score); the measure is AlphaFold-RSA, Piovesan
et al. 2022 (doi:10.1002/pro.4466): relative solvent accessibility, averaged over 25 residues,
above 0.581; maximal areas from Sander and Rost 1994 (doi:10.1002/prot.340200303).

Deviations: areas by Shrake and Rupley on DSSP's united-atom radii, not by DSSP itself.
"""

import numpy as np
from biotite.structure import AtomArray
from biotite.structure.sasa import sasa
from jaxtyping import Float

from seedfold.data_pipeline.structure import Structure

THRESHOLD = 0.581
WINDOW = 25
"""Residues."""

_MAXIMAL_AREA = {
    "ALA": 106.0, "ARG": 248.0, "ASN": 157.0, "ASP": 163.0, "CYS": 135.0, "GLN": 198.0,
    "GLU": 194.0, "GLY": 84.0, "HIS": 184.0, "ILE": 169.0, "LEU": 164.0, "LYS": 205.0,
    "MET": 188.0, "PHE": 197.0, "PRO": 136.0, "SER": 130.0, "THR": 142.0, "TRP": 227.0,
    "TYR": 222.0, "VAL": 142.0,
}  # fmt: skip
"""Square Angstrom; a modified residue is taken as alanine."""
_BACKBONE_RADIUS = {"N": 1.65, "CA": 1.87, "C": 1.76, "O": 1.40}
_SIDE_CHAIN_RADIUS = 1.80
_POINTS = 100
_LARGEST = 2000.0
"""Angstrom; the memory of the surface calculation grows with the volume."""


def fraction_disordered(structure: Structure, coord: Float[np.ndarray, "N_atom 3"]) -> float:
    """Share of the residues of all protein chains that are disordered, 0-1; 0 without protein.

    Every chain is judged by itself, as if the others were not there. NaN if a chain is scattered
    over more than `_LARGEST` Angstrom: then there is no surface to speak of.
    """
    if (np.ptp(coord, axis=0) > _LARGEST).any():
        return float("nan")
    disordered = [
        windowed_accessibility(structure.atoms[here], coord[here]) > THRESHOLD
        for chain in structure.chains
        if chain.kind == "protein"
        for here in [structure.atoms.chain_id == chain.id]
    ]
    return float(np.concatenate(disordered).mean()) if disordered else 0.0


def windowed_accessibility(
    atoms: AtomArray, coord: Float[np.ndarray, "N_atom 3"]
) -> Float[np.ndarray, " N_residue"]:
    """Relative solvent accessibility (0-1) of a protein chain, averaged along the sequence."""
    atoms = atoms.copy()
    atoms.coord = coord.astype(np.float32)
    radii = [_BACKBONE_RADIUS.get(name, _SIDE_CHAIN_RADIUS) for name in atoms.atom_name.tolist()]
    area = sasa(atoms, vdw_radii=np.array(radii), point_number=_POINTS)
    _, first, residue = np.unique(np.asarray(atoms.res_id), return_index=True, return_inverse=True)
    total = np.bincount(residue, weights=np.nan_to_num(area))
    largest = [_MAXIMAL_AREA.get(code, _MAXIMAL_AREA["ALA"]) for code in atoms.res_name[first]]
    relative = np.minimum(total / largest, 1.0)
    half = WINDOW // 2
    padded = np.pad(relative, half, mode="reflect" if len(relative) > 1 else "edge")
    return np.convolve(padded, np.full(WINDOW, 1 / WINDOW), "valid")
