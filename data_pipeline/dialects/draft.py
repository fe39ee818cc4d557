"""A query under construction: the part that all dialects share.

A reader adds its molecules, then names the chains, then adds bonds by chain id, then takes the
finished `Query`. Here ids are handed out and checked, and equal molecules become one entity.
"""

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, product
from typing import Any

from seedfold.data_pipeline.chemistry import Kind
from seedfold.data_pipeline.dialects.glycan import Link
from seedfold.data_pipeline.dialects.place import Place
from seedfold.data_pipeline.dialects.sequence import ParsedSequence, ccd_code, parse_sequence
from seedfold.data_pipeline.query import AtomRef, Document, Entity, Query, TemplateSource

MAX_SEED = 2**32 - 1


@dataclass
class Copies:
    """How often a molecule is there: by its chain ids, or by a count with ids left to us."""

    ids: Sequence[str] | None = None
    count: int = 1


@dataclass
class _Molecule:
    entity: Entity
    copies: Copies
    place: Place
    chains: list[str] = field(default_factory=list)


class Draft:
    """Collects the molecules and bonds of one query."""

    def __init__(self, name: str, place: Place):
        self.place = place
        self.warnings: list[str] = []
        self._name = name
        self._molecules: list[_Molecule] = []
        self._bonds: list[tuple[AtomRef, AtomRef]] = []
        self._by_chain: dict[str, _Molecule] = {}

    def warn(self, place: Place, message: str) -> None:
        """Notes what will not be used, or was guessed."""
        self.warnings.append(f"{place}: {message}")

    def add_polymer(
        self,
        kind: Kind,
        place: Place,
        written: str,
        copies: Copies,
        *,
        modifications: Iterable[tuple[int, str, Place]] = (),
        refuse_msa: bool = False,
        keep_unpaired: bool = False,
        **entity: Any,
    ) -> int:
        """Adds a polymer as written; further fields of `Entity` by name. Returns its number.

        With `refuse_msa` its alignment is the query alone, not just none given. With
        `keep_unpaired`, in dialects that tell the two kinds apart, an unpaired alignment without
        a paired one is not used for pairing.
        """
        sequence = parse_sequence(written, kind, place)
        self.warnings += sequence.warnings
        alone = Document(name=f"{place}: the query alone", text=f">query\n{sequence.letters}\n")
        if refuse_msa:
            entity["msa"] = alone
        elif keep_unpaired and kind == "protein" and entity["msa"] and not entity["paired_msa"]:
            entity["paired_msa"] = alone
        polymer = Entity(
            kind=kind,
            chains=(),
            where=str(place),
            sequence=sequence.letters,
            modifications=_all_modifications(sequence, modifications),
            **entity,
        )
        return self._add(polymer, copies, place)

    def add_ligand(
        self,
        place: Place,
        copies: Copies,
        *,
        ccd: Sequence[str] | None = None,
        smiles: str | None = None,
        file: Document | None = None,
    ) -> int:
        """Adds a ligand from exactly one of the three sources. Returns its number."""
        codes = None if ccd is None else tuple(ccd_code(code, place) for code in ccd)
        if smiles is not None:
            smiles = smiles.strip()
            if not smiles or smiles.split() != [smiles]:
                found = f"blanks in the SMILES '{smiles[:40]}'" if smiles else "an empty SMILES"
                raise place.error(found, expected="one SMILES")
        entity = Entity(
            kind="ligand", chains=(), where=str(place), ccd=codes, smiles=smiles, file=file
        )
        return self._add(entity, copies, place)

    def name_chains(self) -> None:
        """Gives every molecule its chain ids: those written first, then A, B, .. Z, AA, AB, .."""
        unnamed = [molecule for molecule in self._molecules if not molecule.chains]
        for molecule in unnamed:
            for chain in molecule.copies.ids or ():
                self._take(chain, molecule)
        free = (chain for chain in _spreadsheet_names() if chain not in self._by_chain)
        for molecule in unnamed:
            while not molecule.copies.ids and len(molecule.chains) < molecule.copies.count:
                self._take(next(free), molecule)

    def chains_of(self, number: int) -> list[str]:
        """Returns the chain ids of a molecule, after `name_chains`."""
        return self._molecules[number].chains

    def molecule_of(self, chain: str, place: Place) -> int:
        """Returns the number of the molecule that a chain id belongs to."""
        if chain not in self._by_chain:
            raise place.error(
                f"there is no chain '{chain}'", expected=f"one of {', '.join(self._by_chain)}"
            )
        return self._molecules.index(self._by_chain[chain])

    def add_template(self, source: TemplateSource, number: int) -> None:
        """Offers a template to a molecule."""
        molecule = self._molecules[number]
        templates = (*molecule.entity.templates, source)
        molecule.entity = replace(molecule.entity, templates=templates)

    def entity(self, number: int) -> Entity:
        """Returns a molecule as it is so far, without its chains."""
        return self._molecules[number].entity

    def proteins(self) -> list[int]:
        """Returns the numbers of the proteins."""
        kinds = [molecule.entity.kind for molecule in self._molecules]
        return [number for number, kind in enumerate(kinds) if kind == "protein"]

    def add_bond(self, place: Place, first: AtomRef, second: AtomRef) -> None:
        """Adds a bond between two atoms of named chains."""
        for atom in (first, second):
            entity = self._molecules[self.molecule_of(atom.chain, place)].entity
            length = len(entity.sequence or entity.ccd or "1")
            if not 1 <= atom.position <= length:
                raise place.error(
                    f"a bond at residue {atom.position} of chain {atom.chain}",
                    expected=f"a residue from 1 to {length}",
                )
        if first == second:
            raise place.error(f"a bond of atom {first.atom} of chain {first.chain} with itself")
        if (first, second) not in self._bonds and (second, first) not in self._bonds:
            self._bonds.append((first, second))

    def add_links(self, place: Place, number: int, links: Iterable[Link]) -> None:
        """Adds the bonds inside a glycan, in each of its copies."""
        for chain in self.chains_of(number):
            for parent, oxygen, child, carbon in links:
                self.add_bond(
                    place,
                    AtomRef(chain=chain, position=parent, atom=oxygen),
                    AtomRef(chain=chain, position=child, atom=carbon),
                )

    def query(self, seeds: Sequence[int] = ()) -> Query:
        """Returns the finished query."""
        self.name_chains()
        if not self._molecules:
            raise self.place.error("no molecules", expected="at least one sequence or ligand")
        entities: dict[Entity, Entity] = {}
        for molecule in self._molecules:
            key = _identity(molecule.entity)
            first = entities.get(key, molecule.entity)
            entities[key] = replace(first, chains=(*first.chains, *molecule.chains))
        if seeds and max(seeds) > MAX_SEED:
            raise self.place.error(f"the seed {max(seeds)}", expected=f"seeds up to {MAX_SEED}")
        if len(set(seeds)) < len(seeds):
            self.warn(self.place, "a seed is given twice; it is used once")
        return Query(
            name=self._name,
            entities=tuple(entities.values()),
            where=str(self.place),
            bonds=tuple(self._bonds),
            seeds=tuple(dict.fromkeys(seeds)) or None,
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    def _add(self, entity: Entity, copies: Copies, place: Place) -> int:
        self._molecules.append(_Molecule(entity, copies, place))
        return len(self._molecules) - 1

    def _take(self, chain: str, molecule: _Molecule) -> None:
        if not chain.strip() or not chain.isprintable() or any(char in "/\\" for char in chain):
            raise molecule.place.error(
                f"the chain id '{chain}'",
                expected="a text that is not blank, without / and \\ and line ends",
            )
        if chain in self._by_chain:
            other = self._by_chain[chain].place
            raise molecule.place.error(
                f"the chain id '{chain}' is already taken ({other})",
                todo="give every chain its own id",
            )
        self._by_chain[chain] = molecule
        molecule.chains.append(chain)


def _all_modifications(
    sequence: ParsedSequence, listed: Iterable[tuple[int, str, Place]]
) -> tuple[tuple[int, str], ...]:
    """Joins the modifications written inside the sequence with those listed beside it."""
    modified = dict(sequence.modifications)
    length = len(sequence.letters)
    for position, code, place in listed:
        if not 1 <= position <= length:
            raise place.error(
                f"a modification at position {position} of a sequence of {length} residues",
                expected=f"a position from 1 to {length}",
            )
        if position in modified:
            raise place.error(
                f"position {position} is modified twice ({modified[position]} and {code})",
                todo="keep one",
            )
        modified[position] = ccd_code(code, place)
    return tuple(sorted(modified.items()))


def _identity(entity: Entity) -> Entity:
    """Returns what equal molecules share: all but the places they were written at."""
    documents = {
        key: None if document is None else replace(document, name="")
        for key, document in [("msa", entity.msa), ("paired_msa", entity.paired_msa)]
    }
    return replace(entity, where="", **documents)


def _spreadsheet_names() -> Iterator[str]:
    for length in count(1):
        for letters in product(string.ascii_uppercase, repeat=length):
            yield "".join(letters)
