"""Chemical components: atoms and bonds of residues and ligands, from the CCD that biotite ships."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, kw_only=True)
class Component:
    """One chemical component without hydrogens; atoms in the order of its source.

    A component made from SMILES or a file has its own name (`code`), which is never a CCD code.
    """

    code: str
    name: str
    """Chemical name for the ``chem_comp`` table."""
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
    smiles: str | None = None
