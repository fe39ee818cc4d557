"""Query: what a user asks to be folded, whatever dialect it was written in.

This module holds the types and the readers' front door (`read_queries`); the dialects
themselves (FASTA, Boltz-style YAML, AlphaFold 3 JSON, Protenix JSON) are in `dialects`.
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
    """One molecule and the chains it stands in. Exactly one of the four sources is set."""

    kind: Kind
    chains: tuple[str, ...]
    where: str
    """For messages: file and place, e.g. ``input.yaml: sequences[2]``."""
    sequence: str | None = None
    ccd: tuple[str, ...] | None = None
    """CCD codes; several = residues of one chain, to be joined by bonds (a glycan)."""
    smiles: str | None = None
    file: Document | None = None
    """A ligand as SDF or MOL."""
    modifications: tuple[tuple[int, str], ...] = ()
    """(1-based position, CCD code)."""
    cyclic: bool = False
    msa: Document | None = None
    """Unpaired alignment; None = none given, so the query alone is used."""
    paired_msa: Document | None = None
    templates: tuple[TemplateSource, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AtomRef:
    """An atom by chain, 1-based residue position and atom name."""

    chain: str
    position: int
    atom: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """One prediction job."""

    name: str
    entities: tuple[Entity, ...]
    where: str
    bonds: tuple[tuple[AtomRef, AtomRef], ...] = ()
    seeds: tuple[int, ...] | None = None
    """Model seeds asked for in the input; None = the caller's default."""
    warnings: tuple[str, ...] = ()
    """What the reader understood but will not use; shown once."""
