"""Chain ids, merging of equal molecules, bonds."""

from pathlib import Path

import pytest

from seedfold.data_pipeline.dialects.draft import Copies, Draft
from seedfold.data_pipeline.dialects.place import Place
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import AtomRef, Document

PLACE = Place(Path("in"))


def atom(chain: str, position: int, name: str) -> AtomRef:
    return AtomRef(chain=chain, position=position, atom=name)


def test_ids_are_handed_out_as_in_a_spreadsheet_around_those_taken():
    draft = Draft("x", PLACE)
    draft.add_ligand(PLACE, Copies(count=27), ccd=["MG"])
    draft.add_ligand(PLACE, Copies(ids=["B", "AA"]), ccd=["ZN"])
    draft.add_ligand(PLACE, Copies(), ccd=["CL"])
    (mg, zn, cl) = (entity.chains for entity in draft.query().entities)
    assert mg == ("A", *"CDEFGHIJKLMNOPQRSTUVWXYZ", "AB", "AC")
    assert (zn, cl) == (("B", "AA"), ("AD",))


def test_ids_are_case_sensitive_and_may_be_odd():
    draft = Draft("x", PLACE)
    draft.add_ligand(PLACE, Copies(ids=["a", "A", "chain 1", "\u03b1"]), ccd=["MG"])
    assert draft.query().entities[0].chains == ("a", "A", "chain 1", "\u03b1")


@pytest.mark.parametrize("chain", ["", " ", "a/b", "a\\b", "a\nb"])
def test_ids_that_files_cannot_bear(chain: str):
    draft = Draft("x", PLACE)
    draft.add_ligand(PLACE, Copies(ids=[chain]), ccd=["MG"])
    with pytest.raises(InputError, match="the chain id"):
        draft.query()


def test_equal_molecules_become_one_entity_and_others_do_not():
    draft = Draft("x", PLACE)
    for i, extra in enumerate([{}, {"cyclic": True}, {}, {"modifications": [(1, "MSE", PLACE)]}]):
        draft.add_polymer("protein", PLACE.child(i), "MKV", Copies(), **extra)
    draft.add_ligand(PLACE, Copies(), smiles="CCO")
    draft.add_ligand(PLACE, Copies(), smiles="CCO ")
    assert [entity.chains for entity in draft.query().entities] == [
        ("A", "C"), ("B",), ("D",), ("E", "F"),
    ]  # fmt: skip


def test_inline_alignments_are_compared_by_content():
    draft = Draft("x", PLACE)
    for i, text in enumerate([">q\nMKV\n", ">q\nMKV\n", ">q\nMKV\n>r\nMKL\n"]):
        msa = Document(name=f"place {i}", text=text)
        draft.add_polymer("protein", PLACE, "MKV", Copies(), msa=msa)
    assert [entity.chains for entity in draft.query().entities] == [("A", "B"), ("C",)]


def test_bonds_are_kept_once_and_checked():
    draft = Draft("x", PLACE)
    draft.add_polymer("protein", PLACE, "MCV", Copies(count=2))
    draft.add_ligand(PLACE, Copies(), smiles="CCO")
    draft.name_chains()
    draft.add_bond(PLACE, atom("A", 2, "SG"), atom("B", 2, "SG"))
    draft.add_bond(PLACE, atom("B", 2, "SG"), atom("A", 2, "SG"))
    assert draft.query().bonds == ((atom("A", 2, "SG"), atom("B", 2, "SG")),)
    for wrong, message in [
        (atom("Q", 1, "C"), "there is no chain 'Q'; expected one of A, B, C"),
        (atom("A", 4, "C"), "residue 4 of chain A; expected a residue from 1 to 3"),
        (atom("A", 0, "C"), "residue 0 of chain A"),
        (atom("C", 2, "C"), "residue 2 of chain C; expected a residue from 1 to 1"),
    ]:
        with pytest.raises(InputError, match=message):
            draft.add_bond(PLACE, wrong, atom("A", 1, "N"))


def test_nothing_is_no_query():
    with pytest.raises(InputError, match="no molecules"):
        Draft("x", PLACE).query()
