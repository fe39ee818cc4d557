"""Random walks with ideal geometry: a baseline that knows chemistry and nothing of folding.

Polymers are self-avoiding walks of rigid residues, which have the ideal coordinates of their
components; only torsions of the backbone are drawn (`polymer_joints`). So are the residues of
ligands, which do not bend. Each chain is brought to the others on a straight line, from a random
direction and in a random orientation, until it touches.

Deviations: side chains are those of the ideal coordinates; rings of cyclic chains and disulphides
stay open; what is joined in another way than along a backbone (glycans, caps, covalent ligands)
hangs at a good length of bond in a random direction, so that an anomeric centre may have the wrong
hand; a walk that finds no way out accepts contacts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from seedfold.data_pipeline.components import Component
from seedfold.data_pipeline.ideal_geometry import covalent_length
from seedfold.data_pipeline.molecules import conformer
from seedfold.data_pipeline.structure import Structure
from seedfold.evaluate.polymer_joints import (
    JOINTS,
    Flexible,
    Joint,
    Torsions,
    frame,
    joined,
    unit,
)

CONTACT = 3.0
"""Angstrom: atoms of residues that are not neighbours in the chain keep this distance."""
CONTACT_OF_NEIGHBOURS = 2.1
"""Angstrom: of two neighbours only the atoms of the bond between them are closer."""
_DRAWS = 5
_STEPS_BACK = 3
_ORIENTATIONS = 50
_SOMEWHERE = 2.0
"""Angstrom: spread of atoms of which nothing is known."""
_MOST_STEPS = 20
"""Times the number of residues; then contacts are accepted."""
_BLOCK = 256
_Points = Float[np.ndarray, "_ 3"]


def random_walk(structure: Structure, seed: int) -> Float[np.ndarray, "N_atom 3"]:
    """Coordinates for all atoms of `structure`, Angstrom; the same for the same seed."""
    return _Walk(structure, seed).coordinates()


@dataclass(frozen=True, eq=False)
class _Residue:
    component: Component
    rows: Int[np.ndarray, " n"]
    """Its atoms in the structure."""
    places: Int[np.ndarray, " n"]
    """The same atoms in the component."""


class _Walk:
    """The steps of `random_walk`; `x` holds NaN for what has no place yet."""

    def __init__(self, structure: Structure, seed: int):
        assert structure.atoms.bonds is not None
        self.structure = structure
        self.rng = np.random.default_rng(seed)
        self.elements = structure.atoms.element.tolist()
        self.around = structure.atoms.bonds.get_all_bonds()[0]
        self.x = np.full((len(self.elements), 3), np.nan)

    def coordinates(self) -> Float[np.ndarray, "N_atom 3"]:
        """Builds every chain by itself, then brings it to those that are there."""
        for chain in self.structure.chains:
            residues = list(_residues(self.structure, chain.id))
            rows = np.concatenate([residue.rows for residue in residues])
            there, self.x = self.x, np.full_like(self.x, np.nan)
            if chain.kind in JOINTS:
                self._walk(residues, JOINTS[chain.kind])
            else:
                self._string(residues)
            own, self.x = self.x[rows], there
            self._add(rows, own)
        return self.x.astype(np.float32)

    def _walk(self, residues: Sequence[_Residue], joint: Joint) -> None:
        """A polymer; where it runs into itself, the last few residues are drawn again."""
        drawn: list[Torsions] = []
        n_steps = 0
        while len(drawn) < len(residues):
            n_steps += 1
            if self._step(residues, joint, drawn, accept=n_steps > _MOST_STEPS * len(residues)):
                continue
            del drawn[-_STEPS_BACK:]
            for residue in residues[len(drawn) :]:
                self.x[residue.rows] = np.nan

    def _step(
        self, residues: Sequence[_Residue], joint: Joint, drawn: list[Torsions], *, accept: bool
    ) -> bool:
        """Places the next residue, if there is room for it."""
        here = residues[len(drawn)]
        before = residues[len(drawn) - 1] if drawn else None
        for _ in range(_DRAWS):
            torsions = joint.draw(self.rng, here.component)
            x = _flexible(here.component, joint).twisted(torsions)
            ends = None if before is None else self._ends(before, here, joint, x)
            if ends is not None:
                assert drawn
                target = joined(joint, *ends, joint.between(drawn[-1], torsions))
                x = _laid_on(x, ends[1], target)
            if before is None or ends is not None:
                self.x[here.rows] = x[here.places]
            else:
                self.x[here.rows] = np.nan
                self._add(here.rows, x[here.places])
            if accept or before is None or self._is_free(here, before):
                drawn.append(torsions)
                return True
        return False

    def _ends(
        self, before: _Residue, here: _Residue, joint: Joint, x: _Points
    ) -> tuple[_Points, _Points] | None:
        """The three atoms on either side of the joint; None if it is no such joint."""
        names = [before.component.atom_names[place] for place in before.places]
        there = dict(zip(names, before.rows.tolist(), strict=True))
        index = here.component.index
        if not (set(joint.before) <= there.keys() and set(joint.after) <= index.keys()):
            return None
        return (
            self.x[[there[name] for name in joint.before]],
            x[[index[name] for name in joint.after]],
        )

    def _is_free(self, here: _Residue, before: _Residue) -> bool:
        x, neighbour = self.x[here.rows], self.x[before.rows]
        squares = ((x[:, None] - neighbour) ** 2).sum(axis=-1)
        if (squares < CONTACT_OF_NEIGHBOURS**2).sum() > 1:
            return False
        # The others: those in reach of the whole residue, then atom by atom.
        middle = x.mean(axis=0)
        reach = CONTACT + np.sqrt(((x - middle) ** 2).sum(axis=-1).max())
        near = ((self.x - middle) ** 2).sum(axis=-1) < reach**2
        near[here.rows] = near[before.rows] = False
        return _nearest(x, self.x[near]) > CONTACT

    def _string(self, residues: Sequence[_Residue]) -> None:
        """A ligand, residue by residue."""
        for residue in residues:
            self._add(residue.rows, _ideal(residue.component)[residue.places])

    def _add(self, rows: np.ndarray, own: _Points) -> None:
        """Brings atoms to those that are there: to the one they are bonded to, else in touch."""
        there = np.isfinite(self.x[:, 0])
        if not there.any():
            self.x[rows] = own - own.mean(axis=0)
            return
        for place, row in enumerate(rows.tolist()):
            for other in self.around[row].tolist():
                if other >= 0 and there[other]:
                    self.x[rows] = self._hung(own, place, (other, row))
                    return
        turned = (own - own.mean(axis=0)) @ self._rotation().T
        aim = self.x[self.rng.choice(np.flatnonzero(there))]
        self.x[rows] = _in_touch(turned + aim, self.x[there], self._direction())

    def _hung(self, own: _Points, place: int, bond: tuple[int, int]) -> _Points:
        """The roomiest of some orientations at the end of a bond."""
        anchor = self.x[bond[0]]
        (length,) = covalent_length(*([self.elements[end]] for end in bond))
        others = np.isfinite(self.x[:, 0])
        others[bond[0]] = False
        found = []
        for _ in range(_ORIENTATIONS):
            turned = (own - own[place]) @ self._rotation().T
            x = anchor + length * self._direction() + turned
            found.append((_nearest(x, self.x[others]), x))
        return max(found, key=lambda pair: pair[0])[1]

    def _direction(self) -> Float[np.ndarray, " 3"]:
        return unit(self.rng.normal(size=3))

    def _rotation(self) -> Float[np.ndarray, "3 3"]:
        return frame(self.rng.normal(size=(3, 3)))


def _residues(structure: Structure, chain: str) -> Iterator[_Residue]:
    atoms = structure.atoms
    rows = np.flatnonzero(atoms.chain_id == chain)
    starts = np.flatnonzero(np.r_[True, np.diff(atoms.res_id[rows]) != 0])
    for own in np.split(rows, starts[1:]):
        component = structure.components[str(atoms.res_name[own[0]])]
        places = [component.index[str(name)] for name in atoms.atom_name[own]]
        yield _Residue(component, own, np.array(places))


@lru_cache(maxsize=1024)
def _flexible(component: Component, joint: Joint) -> Flexible:
    return Flexible.of(component, _ideal(component), joint)


def _ideal(component: Component) -> _Points:
    """Ideal coordinates, or a conformer; atoms of which nothing is known lie somewhere near."""
    x = component.coord if np.isfinite(component.coord).all() else conformer(component, 0)
    x, lost = x.astype(np.float64), ~np.isfinite(x).all(axis=-1)
    centre = x[~lost].mean(axis=0) if not lost.all() else np.zeros(3)
    somewhere = np.random.default_rng(0).normal(0, _SOMEWHERE, x.shape)
    return np.where(lost[:, None], centre + somewhere, x)


def _laid_on(x: _Points, ends: _Points, target: _Points) -> _Points:
    """`x`, moved so that three of its points come to lie on `target`."""
    turn = frame(target) @ frame(ends).T
    return (x - ends[0]) @ turn.T + target[0]


def _nearest(x: _Points, others: _Points) -> float:
    """Smallest distance between two sets of points; infinite without any."""
    if not len(others):
        return np.inf
    squares = (
        (block[:, None] - others) ** 2 for block in np.split(x, range(_BLOCK, len(x), _BLOCK))
    )
    return float(np.sqrt(min(s.sum(axis=-1).min() for s in squares)))


def _in_touch(x: _Points, others: _Points, direction: Float[np.ndarray, " 3"]) -> _Points:
    """`x`, which lies among `others`, moved as far along a line as it may come from outside.

    Each pair of points touches where the line enters a sphere; the outermost such place counts.
    """
    outermost = 0.0
    for block in np.split(x, range(_BLOCK, len(x), _BLOCK)):
        gap = others - block[:, None]
        along = gap @ direction
        room = CONTACT**2 - ((gap**2).sum(axis=-1) - along**2)
        entered = along[room > 0] + np.sqrt(room[room > 0])
        outermost = max(outermost, float(entered.max(initial=0.0)))
    return x + outermost * direction
