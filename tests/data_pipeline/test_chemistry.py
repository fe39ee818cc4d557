from rdkit.Chem import GetPeriodicTable

from seedfold.data_pipeline.chemistry import (
    ATOMIC_NUMBER,
    ELEMENTS,
    KINDS,
    ONE_LETTER,
    RESTYPE_INDEX,
    RESTYPES,
    UNKNOWN,
    atom_name_chars,
)
from seedfold.data_pipeline.components import component


def test_residue_classes_stand_as_in_table_13() -> None:
    assert len(RESTYPES) == len(set(RESTYPES)) == 32
    assert RESTYPES[:5] == ("ALA", "ARG", "ASN", "ASP", "CYS")
    assert RESTYPES[19:] == (
        *("VAL", "UNK", "A", "G", "C", "U", "N", "DA", "DG", "DC", "DT", "DN", "-"),
    )  # fmt: skip
    assert all(RESTYPES[i] == name for name, i in RESTYPE_INDEX.items())
    assert set(UNKNOWN) == set(KINDS)
    assert all(name in RESTYPE_INDEX for name in UNKNOWN.values())


def test_letters_are_those_of_the_dictionary() -> None:
    for kind, table in ONE_LETTER.items():
        for letter, code in table.items():
            assert component(code).kind == kind
            assert component(code).one_letter == letter


def test_elements_are_numbered_as_in_the_periodic_table() -> None:
    table = GetPeriodicTable()
    assert [table.GetElementSymbol(n).upper() for n in range(1, 119)] == list(ELEMENTS)
    assert (ATOMIC_NUMBER["H"], ATOMIC_NUMBER["D"], ATOMIC_NUMBER["SE"]) == (1, 1, 34)


def test_atom_names_are_four_characters_less_32() -> None:
    assert atom_name_chars("CA") == (ord("C") - 32, ord("A") - 32, 0, 0)
    assert atom_name_chars("C1'") == (35, 17, 7, 0)
    assert atom_name_chars("BR12X") == atom_name_chars("BR12")
    assert max(atom_name_chars("~~~~")) == 63
