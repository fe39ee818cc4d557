"""Polymer sequences as users write them: one-letter codes with ``[CCD]`` or ``(CCD)`` among them.

Blanks and line ends are dropped, lower case is accepted, a ``*`` at the end is dropped. In
proteins U and O become cysteine and lysine with the modification SEC or PYL (their CCD parents).
Anything else that is not a code is an error, never a guess.
"""

import re
from dataclasses import dataclass

from seedfold.data_pipeline.chemistry import ONE_LETTER, Kind
from seedfold.data_pipeline.dialects.place import Place

CCD_CODE = re.compile(r"[A-Za-z0-9]{1,5}")
_TOKENS = re.compile(r"\s+|\[([^\[\]()]*)\]|\(([^\[\]()]*)\)|(.)", re.DOTALL)
_RARE_AMINO_ACIDS = {"U": ("C", "SEC", "selenocysteine"), "O": ("K", "PYL", "pyrrolysine")}
_AMBIGUOUS = {"B": "D or N", "Z": "E or Q", "J": "I or L"}
_NAMES: dict[Kind, str] = {"protein": "an amino-acid", "dna": "a DNA", "rna": "an RNA"}
_UNKNOWN_LETTER: dict[Kind, str] = {"protein": "X", "dna": "N", "rna": "N"}


@dataclass(frozen=True)
class ParsedSequence:
    """A clean sequence with the modifications that were written inside it."""

    letters: str
    modifications: tuple[tuple[int, str], ...]
    warnings: tuple[str, ...]


def ccd_code(written: str, place: Place) -> str:
    """Returns a CCD code in upper case, without the prefix ``CCD_`` of some dialects."""
    code = written.strip().upper().removeprefix("CCD_")
    if not CCD_CODE.fullmatch(code):
        raise place.error(
            f"'{written}' is not a CCD code",
            expected="one to five letters or digits, e.g. SEP",
            todo="give a molecule that is not in the CCD as a ligand, by SMILES or SDF file",
        )
    return code


def parse_sequence(written: str, kind: Kind, place: Place) -> ParsedSequence:
    """Reads a sequence of a known kind, or raises `InputError` with the position at fault."""
    letters: list[str] = []
    modifications: list[tuple[int, str]] = []
    warnings: list[str] = []
    components = {code: letter for letter, code in ONE_LETTER[kind].items()}
    for match in _TOKENS.finditer(re.sub(r"\*\s*$", "", written)):
        square, round_, letter = match.groups()
        code = round_ if square is None else square
        position = len(letters) + 1
        if code is not None:
            code = ccd_code(code, place)
            letters.append(components.get(code, _UNKNOWN_LETTER[kind]))
            if code not in components:
                modifications.append((position, code))
        elif letter is None:
            continue
        elif letter.upper() in ONE_LETTER[kind]:
            letters.append(letter.upper())
        elif kind == "protein" and letter.upper() in _RARE_AMINO_ACIDS:
            parent, code, name = _RARE_AMINO_ACIDS[letter.upper()]
            letters.append(parent)
            modifications.append((position, code))
            warnings.append(f"{place}: {letter.upper()} at position {position} read as {name}")
        else:
            _refuse_letter(letter, position, kind, place)
    if not letters:
        raise place.error("an empty sequence", expected="at least one residue")
    return ParsedSequence("".join(letters), tuple(modifications), tuple(warnings))


def guess_kind(written: str, *, rna_around: bool = False) -> tuple[Kind, str]:
    """Tells protein, DNA or RNA by the letters; returns the kind and, if unsure, what is unsure.

    Letters among A C G U N with a U: RNA. Among A C G T N with a T: DNA, unsure below 10 letters.
    Among A C G N alone: unsure, RNA if the file has other RNA (`rna_around`), else DNA.
    Everything else, N alone and what consists of CCD codes alone: protein.
    """
    letters = set(re.sub(r"\[[^\]]*\]|\([^)]*\)|[\s*]", "", written).upper())
    length = sum(char.isalpha() for char in written)
    if not letters - {"N"} or letters - set("ACGTUN"):
        return "protein", ""
    if "U" in letters:
        return "rna", ""
    if "T" in letters:
        return "dna", "" if length >= 10 else "a short sequence of A, C, G, T and N alone"
    return "rna" if rna_around else "dna", "a sequence of A, C, G and N alone"


def _refuse_letter(letter: str, position: int, kind: Kind, place: Place) -> None:
    codes = "".join(sorted(ONE_LETTER[kind]))
    todo = "write modified residues as [CCD]"
    if letter in "[]()":
        found, todo = f"an unpaired '{letter}'", "write modified residues as [CCD], e.g. [SEP]"
    elif letter in "-.~":
        found, todo = f"a gap '{letter}'", "give the sequence without gaps, not an alignment row"
    elif letter == "*":
        found, todo = "a stop codon '*' inside the sequence", "cut the sequence there"
    elif letter.isdigit():
        found, todo = f"the digit '{letter}'", "remove the residue numbers"
        if place.label:
            todo += "; a SMILES needs a header such as >L|smiles"
    elif letter in "=#@+\\/%$":
        found, todo = f"'{letter}'", "if this is a SMILES, make it a ligand (FASTA: >L|smiles)"
    else:
        found = f"{letter!r} is not {_NAMES[kind]} code"
        if kind == "protein" and letter.upper() in _AMBIGUOUS:
            todo = f"it stands for {_AMBIGUOUS[letter.upper()]}: choose one, or write X"
        elif kind == "dna" and letter.upper() == "U":
            todo = "make it RNA, or write T"
        elif kind == "rna" and letter.upper() == "T":
            todo = "make it DNA, or write U"
        elif kind != "protein" and letter.upper() in "RYKMSWBDHVX":
            todo = "write N where the base is unknown"
    raise place.error(f"{found} at position {position}", expected=f"letters of {codes}", todo=todo)
