"""How residues join to a polymer: ideal bonds and angles, and the torsions that may be drawn.

Source: bonds between amino acids, Engh and Huber (Int. Tables of Crystallography F, 2001); between
nucleotides, Parkinson et al. 1996 (Acta Cryst. D 52, 57). Regions of torsions after Lovell et al.
2003 (doi:10.1002/prot.10286) and Schneider et al. 2004 (Nucleic Acids Res. 32, 1666).

Deviations: a handful of regions with round shares stands for their maps; all peptide bonds are
trans; sugars keep the pucker of the ideal coordinates.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from seedfold.data_pipeline.components import Component
from seedfold.data_pipeline.ideal_geometry import dihedral

Torsions = Mapping[str, float]
"""Of one residue, degrees."""


@dataclass(frozen=True)
class Twist:
    """A torsion within a residue, and the atoms that turn with it, at one end of the axis."""

    atoms: tuple[str, str, str, str]
    moved: frozenset[str]


class Joint(ABC):
    """The bond between two residues: from the last atom of `before` to the first of `after`."""

    before: ClassVar[tuple[str, str, str]]
    after: ClassVar[tuple[str, str, str]]
    length: ClassVar[float]
    """Angstrom."""
    angles: ClassVar[tuple[float, float]]
    """At the last atom of `before` and at the first of `after`, degrees."""
    twists: ClassVar[Mapping[str, Twist]]

    @abstractmethod
    def draw(self, rng: np.random.Generator, component: Component) -> Torsions:
        """Torsions for a residue."""

    @abstractmethod
    def between(self, one: Torsions, other: Torsions) -> tuple[float, float, float]:
        """Torsions about the bonds before, of and behind the joint."""


class Peptide(Joint):
    """Amino acids. Of phi and psi whole regions are drawn: helix, sheet, polyproline, left."""

    before = after = ("N", "CA", "C")
    length = 1.33
    angles = (117.2, 121.7)
    twists: ClassVar = {"psi_of_oxygen": Twist(("N", "CA", "C", "O"), frozenset({"O", "OXT"}))}
    shares = (0.35, 0.3, 0.3, 0.05)
    regions = ((-63, -43, 10), (-120, 130, 18), (-68, 145, 14), (57, 42, 8))
    """Phi, psi and their spread."""
    proline = (-65, 8)
    """Phi and its spread."""

    def draw(self, rng: np.random.Generator, component: Component) -> Torsions:
        """The ring of proline holds phi; glycine has no hand."""
        phi, psi, spread = self.regions[rng.choice(len(self.shares), p=self.shares)]
        phi, psi = rng.normal((phi, psi), spread)
        hand = -1 if component.code == "GLY" and rng.random() < 0.5 else 1
        if "PRO" in (component.code, component.parent):
            phi = rng.normal(*self.proline)
        return {"phi": hand * phi, "psi": hand * psi, "psi_of_oxygen": hand * psi + 180}

    def between(self, one: Torsions, other: Torsions) -> tuple[float, float, float]:
        """Psi, omega, phi."""
        return one["psi"], 180.0, other["phi"]


class Nucleic(Joint):
    """Nucleotides of either sugar, mostly near the A form; OP3 stands for the oxygen before."""

    before = ("C4'", "C3'", "O3'")
    after = ("P", "O5'", "C5'")
    length = 1.607
    angles = (119.7, 104.0)
    twists: ClassVar = {
        "gamma": Twist(("O5'", "C5'", "C4'", "C3'"), frozenset({"OP1", "OP2", "OP3", "P", "O5'"})),
        "beta": Twist(("P", "O5'", "C5'", "C4'"), frozenset({"OP1", "OP2", "OP3", "P"})),
        "alpha": Twist(("OP3", "P", "O5'", "C5'"), frozenset({"OP1", "OP2", "OP3"})),
    }
    centres: ClassVar = {
        "alpha": ((-65, 0.75), (180, 0.1), (70, 0.15)),
        "beta": ((178, 1.0),),
        "gamma": ((54, 0.8), (180, 0.15), (-65, 0.05)),
        "epsilon": ((-153, 1.0),),
        "zeta": ((-72, 0.7), (180, 0.15), (75, 0.15)),
    }
    spread = 15.0

    def draw(self, rng: np.random.Generator, component: Component) -> Torsions:
        """Each torsion by itself."""
        found = {}
        for name, centres in self.centres.items():
            values, shares = zip(*centres, strict=True)
            found[name] = float(rng.choice(values, p=shares)) + rng.normal(0, self.spread)
        return found

    def between(self, one: Torsions, other: Torsions) -> tuple[float, float, float]:
        """Epsilon, zeta, alpha."""
        return other["epsilon"], other["zeta"], other["alpha"]


JOINTS: Mapping[str, Joint] = {"protein": Peptide(), "rna": Nucleic(), "dna": Nucleic()}
"""By kind of polymer."""


@dataclass(frozen=True, eq=False)
class Flexible:
    """A residue whose backbone turns: its ideal coordinates, and what each torsion moves."""

    component: Component
    x: Float[np.ndarray, "N 3"]
    turns: tuple[tuple[str, float, int, int, bool, list[int]], ...]
    """Name and ideal value of a torsion, its axis, whether the far end moves, the moved atoms."""

    @classmethod
    def of(cls, component: Component, x: Float[np.ndarray, "N 3"], joint: Joint) -> "Flexible":
        """Measures the torsions; those whose atoms are not all there are left out."""
        index, turns = component.index, []
        for name, twist in joint.twists.items():
            if all(atom in index for atom in twist.atoms):
                a, b, c, d = (index[atom] for atom in twist.atoms)
                moved = [index[atom] for atom in sorted(twist.moved) if atom in index]
                ideal = dihedral(x[None, [a, b, c, d]]).item()
                turns.append((name, ideal, b, c, d in moved, moved))
        return cls(component, x, tuple(turns))

    def twisted(self, torsions: Torsions) -> Float[np.ndarray, "N 3"]:
        """The coordinates with these torsions; none of them changes another."""
        x = self.x.copy()
        for name, ideal, b, c, far, moved in self.turns:
            angle = torsions[name] - ideal
            turn = rotation(x[c] - x[b], angle if far else -angle)
            x[moved] = (x[moved] - x[b]) @ turn.T + x[b]
        return x


def joined(
    joint: Joint,
    before: Float[np.ndarray, "3 3"],
    after: Float[np.ndarray, "3 3"],
    torsions: Sequence[float],
) -> Float[np.ndarray, "3 3"]:
    """Where the three atoms of `after` come to lie: a rigid motion of them, as good as exact."""
    lengths = (joint.length, *np.linalg.norm(np.diff(after, axis=0), axis=-1).tolist())
    inner = _angle(after)
    found = list(before)
    for length, angle, torsion in zip(lengths, (*joint.angles, inner), torsions, strict=True):
        a, b, c = found[-3:]
        found.append(next_atom(a, b, c, length, angle, torsion))
    return np.array(found[3:])


def next_atom(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, length: float, angle: float, torsion: float
) -> Float[np.ndarray, " 3"]:
    """The atom at `length` from c, at an angle with b-c and a torsion about it, degrees."""
    axis = unit(c - b)
    normal = unit(_cross(b - a, axis))
    theta, tau = np.radians(angle), np.radians(torsion)
    across = np.cos(tau) * _cross(normal, axis) + np.sin(tau) * normal
    return c + length * (-np.cos(theta) * axis + np.sin(theta) * across)


def rotation(axis: Float[np.ndarray, " 3"], degrees: float) -> Float[np.ndarray, "3 3"]:
    """The right-handed rotation about an axis (Rodrigues)."""
    x, y, z = unit(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def frame(x: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Orthonormal axes of three points, as columns."""
    first = unit(x[1] - x[0])
    third = unit(_cross(first, x[2] - x[0]))
    return np.stack([first, _cross(third, first), third], axis=-1)


def unit(x: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """The vector at length 1."""
    return x / np.sqrt(x @ x)


def _cross(a: Float[np.ndarray, " 3"], b: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """What `np.cross` gives, which is slow for a single pair."""
    (x, y, z), (u, v, w) = a.tolist(), b.tolist()
    return np.array([y * w - z * v, z * u - x * w, x * v - y * u])


def _angle(x: Float[np.ndarray, "3 3"]) -> float:
    cosine = unit(x[0] - x[1]) @ unit(x[2] - x[1])
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
