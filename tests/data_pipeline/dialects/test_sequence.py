"""Letters, inline modifications, and the guess of the kind."""

from pathlib import Path

import pytest

from seedfold.data_pipeline.chemistry import Kind
from seedfold.data_pipeline.dialects.place import Place
from seedfold.data_pipeline.dialects.sequence import ccd_code, guess_kind, parse_sequence
from seedfold.data_pipeline.errors import InputError

PLACE = Place(Path("in.fasta"), line=3, label="chain B")


@pytest.mark.parametrize(
    ("kind", "written", "letters", "modifications"),
    [
        ("protein", "mkv L\nA*\n", "MKVLA", ()),
        ("protein", "MK(SEP)A", "MKXA", ((3, "SEP"),)),
        ("protein", "[mse]K[ ALA ]X", "XKAX", ((1, "MSE"),)),
        ("protein", "MUKO", "MCKK", ((2, "SEC"), (4, "PYL"))),
        ("dna", "ga[5CM]tn[DG]", "GANTNG", ((3, "5CM"),)),
        ("rna", "g(CCD_PSU)cu[A]", "GNCUA", ((2, "PSU"),)),
    ],
)
def test_sequences(kind: Kind, written: str, letters: str, modifications: tuple):
    sequence = parse_sequence(written, kind, PLACE)
    assert (sequence.letters, sequence.modifications) == (letters, modifications)
    assert len(sequence.warnings) == ("U" in written and kind == "protein") * 2


@pytest.mark.parametrize(
    ("kind", "written", "found", "todo"),
    [
        ("protein", "MKZ", "'Z' is not an amino-acid code at position 3", "E or Q"),
        ("protein", "MK[SEP]?", "'?' is not an amino-acid code at position 4", "[CCD]"),
        ("protein", "MK-V", "a gap '-' at position 3", "without gaps"),
        ("protein", "MK*V", "a stop codon '*' inside the sequence at position 3", "cut"),
        ("protein", "1 MKV", "the digit '1' at position 1", "residue numbers"),
        ("protein", "CC(=O)O", "'=O' is not a CCD code", "SMILES"),
        ("protein", "CC=O", "'=' at position 3", "ligand"),
        ("protein", "MK[SEPV", "an unpaired '[' at position 3", "[SEP]"),
        ("protein", "MK()V", "'' is not a CCD code", ""),
        ("protein", "M[TOOLONG]", "'TOOLONG' is not a CCD code", ""),
        ("protein", " \n*", "an empty sequence", ""),
        ("dna", "GAUT", "'U' is not a DNA code at position 3", "make it RNA"),
        ("rna", "GAT", "'T' is not an RNA code at position 3", "make it DNA"),
        ("dna", "GAR", "'R' is not a DNA code at position 3", "write N"),
        ("rna", "MKV", "'M' is not an RNA code at position 1", "write N"),
    ],
)
def test_refusals_name_the_place_and_the_way_out(kind: Kind, written: str, found: str, todo: str):
    with pytest.raises(InputError) as caught:
        parse_sequence(written, kind, PLACE)
    assert str(caught.value).startswith("in.fasta:3: chain B: ")
    assert found in caught.value.found
    assert todo in caught.value.todo


@pytest.mark.parametrize(
    ("written", "kind", "unsure"),
    [
        ("MKVLLA", "protein", False),
        ("GATTACAGATTACA", "dna", False),
        ("gattacagattaca", "dna", False),
        ("GATTACA", "dna", True),
        ("GGCUAC", "rna", False),
        ("GAG", "dna", True),
        ("GGCNNC", "dna", True),
        ("NNNN", "protein", False),
        ("(SEP)[TPO]", "protein", False),
        ("GA[5CM]TTACAGATT", "dna", False),
        ("ACDGT", "protein", False),
        ("GATU", "rna", False),
    ],
)
def test_kind_by_letters(written: str, kind: Kind, unsure: bool):
    guessed, doubt = guess_kind(written)
    assert (guessed, bool(doubt)) == (kind, unsure)


def test_letters_without_t_and_u_follow_their_neighbours():
    assert guess_kind("GGCACC", rna_around=True)[0] == "rna"
    assert guess_kind("GATTACA", rna_around=True)[0] == "dna"


def test_ccd_codes():
    assert ccd_code(" ccd_sep ", PLACE) == "SEP"
    for wrong in ("", "LIG-1337", "ABCDEF", "../x"):
        with pytest.raises(InputError):
            ccd_code(wrong, PLACE)
