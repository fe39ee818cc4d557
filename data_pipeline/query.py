"""Query: what a user asks to be folded, whatever dialect it was written in.

Types only: `dialects.read_queries` makes them from a file, and `structure.build_structure` turns
one into atoms and does the checks that need chemistry (do the codes and the atoms exist?).
"""

from dataclasses import dataclass
from pathlib import Path

from seedfold.data_pipeline.chemistry import Kind


@dataclass(frozen=True, kw_only=True)
class Document:
    """A piece of input that is either a file or text given inline."""

    name: str
    """For messages: the path as written, or where the inline text stands."""
    path: Path | None = None
    """Resolved against the folder of the input file; existed when the input was read."""
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class TemplateSource:
    """A structure file offered as a template for one entity."""

    document: Document
    chain: str | None = None
    """Chain of the file (author id, or label id if no author id matches); None = best match."""
    mapping: tuple[tuple[int, int], ...] | None = None
    """Pairs (query position, template position), 1-based; None = align here."""


@dataclass(frozen=True, kw_only=True)
class Entity:
    """One molecule and the chains it stands in. Exactly one of the four sources is set.

    No two entities of a query differ in `chains` and `where` alone: such copies are merged.
    """

    kind: Kind
    chains: tuple[str, ...]
    where: str
    """For messages: file and place, e.g. ``input.yaml:7: sequences[2].protein``."""
    sequence: str | None = None
    """One-letter codes of `chemistry.ONE_LETTER`. At a modified position stands the letter that
    the user wrote, or that of the unknown residue (X or N) where only the CCD code was given."""
    ccd: tuple[str, ...] | None = None
    """CCD codes; several = residues of one chain, to be joined by bonds (a glycan)."""
    smiles: str | None = None
    file: Document | None = None
    """A ligand as SDF or MOL."""
    modifications: tuple[tuple[int, str], ...] = ()
    """(1-based position, CCD code), by position."""
    cyclic: bool = False
    msa: Document | None = None
    """Unpaired alignment; None = none given, so the query alone is used. Where the input forbids
    an alignment (Boltz's ``empty``), a text that holds the query alone."""
    paired_msa: Document | None = None
    templates: tuple[TemplateSource, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AtomRef:
    """An atom by chain, 1-based residue position and atom name."""

    chain: str
    position: int
    atom: str
    """Name; in a ligand from SMILES or a file also its number there, from 0."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One prediction job."""

    name: str
    """Fit to be the name of a folder; unique among the queries of one file."""
    entities: tuple[Entity, ...]
    where: str
    bonds: tuple[tuple[AtomRef, AtomRef], ...] = ()
    seeds: tuple[int, ...] | None = None
    """Model seeds asked for in the input; None = the caller's default."""
    warnings: tuple[str, ...] = ()
    """What the reader guessed, or understood but will not use; shown once."""
