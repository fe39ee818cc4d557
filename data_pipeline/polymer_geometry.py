"""Geometry of residues in a chain, where it is known better than from single components.

The ideal coordinates of the CCD are those of the free acid. Here: bonds and angles between residues
and of carboxylates by Engh and Huber (2001), those of phosphates and bases by Parkinson et al.
(1996) and Clowney et al. (1996). Everything else is `ideal_geometry`'s.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace

from seedfold.data_pipeline.components import Component
from seedfold.data_pipeline.ideal_geometry import IdealGeometry, ideal_geometry

NUCLEOTIDES = ("A", "C", "G", "U", "DA", "DC", "DG", "DT")
_LINK_LENGTHS = {
    ("O3'", "P"): (1.607, 0.015),
    ("SG", "SG"): (2.033, 0.016),
}
_PEPTIDE_LENGTHS = {"GLY": (1.326, 0.018), "PRO": (1.338, 0.019), "": (1.336, 0.023)}
"""C-N by the residue that the nitrogen is in."""
_PEPTIDE_ANGLES = {
    "": {"CA C N": (117.2, 2.2), "O C N": (122.7, 1.6), "C N CA": (121.7, 2.5)},
    "GLY": {"CA C N": (116.2, 2.0), "O C N": (123.2, 1.7), "C N CA": (122.3, 2.1)},
    "PRO trans": {"CA C N": (117.1, 2.8), "O C N": (121.1, 1.9), "C N CA": (119.3, 1.5),
                  "C N CD": (128.4, 2.1)},
    "PRO cis": {"CA C N": (117.1, 2.8), "O C N": (121.1, 1.9), "C N CA": (127.0, 2.4),
                "C N CD": (120.6, 2.2)},
}  # fmt: skip
_NUCLEOTIDE_ANGLES = {
    "O3' P O5'": (104.0, 1.5), "O3' P OP1": (108.0, 3.0), "O3' P OP2": (108.0, 3.0),
    "C3' O3' P": (120.2, 1.5),
}  # fmt: skip
_CARBOXYLATE, _PHOSPHATE = 1.249, 1.485
_MEASURED_LENGTHS = {
    "OD1": {"ASP": _CARBOXYLATE}, "OD2": {"ASP": _CARBOXYLATE},
    "OE1": {"GLU": _CARBOXYLATE}, "OE2": {"GLU": _CARBOXYLATE},
    "OP1": dict.fromkeys(NUCLEOTIDES, _PHOSPHATE), "OP2": dict.fromkeys(NUCLEOTIDES, _PHOSPHATE),
}  # fmt: skip
"""Terminal oxygen -> residue -> length of its bond, Angstrom."""
_ADENINE = {"C2 N3 C4": 110.6, "N1 C2 N3": 129.3, "N3 C4 C5": 126.8, "N3 C4 N9": 127.4}
_GUANINE = {"C2 N3 C4": 111.9, "N3 C4 C5": 128.6, "N3 C4 N9": 126.0, "C5 C6 O6": 128.6,
            "C5 C6 N1": 111.5}  # fmt: skip
_MEASURED_ANGLES = {
    **dict.fromkeys(("A", "DA"), _ADENINE), **dict.fromkeys(("G", "DG"), _GUANINE),
    "U": {"N1 C2 N3": 114.9, "C2 N3 C4": 127.0},
}  # fmt: skip
_BACKBONE_ANGLES = {"P O5' C5'": 120.9, "OP1 P OP2": 119.6, "OP1 P O5'": 108.0, "OP2 P O5'": 108.0}


@functools.lru_cache(maxsize=1024)
def residue_geometry(component: Component) -> IdealGeometry:
    """Of a component as it is in a structure; standard residues have their measured values."""
    ideal, name, atoms = ideal_geometry(component), component.code, component.atom_names
    lengths, degrees = ideal.lengths.copy(), ideal.degrees.copy()
    for n, ends in enumerate(ideal.bonds.tolist()):
        for oxygen in (atoms[i] for i in ends):
            lengths[n] = _MEASURED_LENGTHS.get(oxygen, {}).get(name, lengths[n])
    measured = _MEASURED_ANGLES.get(name, {}) | (_BACKBONE_ANGLES if name in NUCLEOTIDES else {})
    for n, ends in enumerate(ideal.angles.tolist()):
        three = [atoms[i] for i in ends]
        for key in (" ".join(three), " ".join(three[::-1])):
            degrees[n] = measured.get(key, degrees[n])
    return replace(ideal, lengths=lengths, degrees=degrees)


def link_length(first: str, second: str, after: str) -> tuple[float, float] | None:
    """Length of a bond from a residue to the next one and its standard deviation, Angstrom.

    Args:
        first: name of the atom in the earlier residue.
        second: name of the atom in the later residue.
        after: name of the later residue.
    """
    if (first, second) == ("C", "N"):
        return _PEPTIDE_LENGTHS.get(after, _PEPTIDE_LENGTHS[""])
    return _LINK_LENGTHS.get((first, second))


def link_angles(
    first: str, second: str, after: str, cis: bool
) -> Mapping[str, tuple[float, float]]:
    """Angles about such a bond and their standard deviations, degrees, by names of atoms.

    ``CA C N`` has two atoms in the earlier residue if its middle is `first`, else one. `cis`
    matters to prolines.
    """
    if (first, second) == ("O3'", "P"):
        return _NUCLEOTIDE_ANGLES
    if (first, second) != ("C", "N"):
        return {}
    if after == "PRO":
        after = "PRO cis" if cis else "PRO trans"
    return _PEPTIDE_ANGLES.get(after, _PEPTIDE_ANGLES[""])
