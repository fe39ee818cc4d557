"""The tables of an mmCIF file, item by item; reading back by other programs is in test_output."""

import numpy as np
import pytest

from seedfold.data_pipeline.mmcif_tables import Metadata, irregular_bonds, plain, tables
from seedfold.data_pipeline.query import AtomRef, Entity, Query
from seedfold.data_pipeline.structure import Structure, build_structure

META = Metadata(version="1.2.3", model="tiny", notes=("UNTRAINED\nweights",))


def entity(kind, chains, **source) -> Entity:
    return Entity(kind=kind, chains=tuple(chains), where="test", **source)


def bond(a, i, name, b, j, other) -> tuple[AtomRef, AtomRef]:
    return AtomRef(chain=a, position=i, atom=name), AtomRef(chain=b, position=j, atom=other)


def structure_of(*entities, bonds=()) -> Structure:
    return build_structure(Query(name="q", entities=entities, where="test", bonds=tuple(bonds)))


def tables_of(structure, plddt=None, name="q"):
    x = np.zeros((structure.atoms.array_length(), 3), dtype=np.float32)
    return tables(structure, coord=x, plddt=plddt, name=name, metadata=META)


def test_entities_go_by_chemistry_not_by_input_order():
    made = structure_of(
        entity("ligand", "X", ccd=("ATP",)),
        entity("protein", "AB", sequence="GACDEC"),
        entity("protein", "C", sequence="GACDEC"),
        entity("ligand", "Y", ccd=("ATP",)),
        entity("ligand", "Z", ccd=("GTP",)),
        bonds=[bond("A", 3, "SG", "A", 6, "SG")],
    )
    found = tables_of(made)
    asym = {row["id"]: row["entity_id"] for row in found["struct_asym"]}
    assert asym["X"] == asym["Y"] != asym["Z"]
    assert asym["A"] == asym["B"] == asym["C"] != asym["X"]
    assert list(asym) == ["X", "A", "B", "C", "Y", "Z"]
    assert [row["pdbx_number_of_molecules"] for row in found["entity"]] == ["2", "3", "1"]
    assert [row["pdbx_strand_id"] for row in found["entity_poly"]] == ["A,B,C"]


def test_glycans_are_branched_and_differ_by_their_bonds():
    sugar = ("NAG", "NAG")
    made = structure_of(
        entity("ligand", "AB", ccd=sugar),
        entity("ligand", "C", ccd=sugar),
        bonds=[
            bond("A", 1, "O4", "A", 2, "C1"),
            bond("B", 1, "O4", "B", 2, "C1"),
            bond("C", 1, "O6", "C", 2, "C1"),
        ],
    )
    found = tables_of(made)
    assert [row["type"] for row in found["entity"]] == ["branched", "branched"]
    assert [row["entity_id"] for row in found["struct_asym"]] == ["1", "1", "2"]
    assert "pdbx_entity_nonpoly" not in found


def test_polymer_sequences():
    made = structure_of(
        entity("protein", "A", sequence="MACX", modifications=((1, "MSE"), (3, "SEP"))),
        entity("dna", "D", sequence="ACGT", modifications=((2, "5CM"),)),
        entity("rna", "R", sequence="ACGU"),
        entity("protein", "L", sequence="A" * 170),
        entity("protein", "M", sequence="AAG", modifications=((1, "DAL"), (2, "DAL"))),
    )
    poly = tables_of(made)["entity_poly"]
    full = [row["pdbx_seq_one_letter_code"] for row in poly]
    assert full[:3] == ["(MSE)A(SEP)(UNK)", "(DA)(5CM)(DG)(DT)", "ACGU"]
    assert [len(line) for line in full[3].split("\n")] == [80, 80, 10]
    assert [row["pdbx_seq_one_letter_code_can"] for row in poly][:3] == ["MASX", "ACGT", "ACGU"]
    assert [row["nstd_monomer"] for row in poly] == ["yes", "yes", "no", "no", "yes"]
    assert [row["type"] for row in poly] == [
        "polypeptide(L)",
        "polydeoxyribonucleotide",
        "polyribonucleotide",
        "polypeptide(L)",
        "polypeptide(D)",
    ]


def test_only_ordinary_linkages_are_left_to_the_reader():
    made = structure_of(
        entity("protein", "A", sequence="GGSG", modifications=((3, "SEP"),)),
        entity("protein", "C", sequence="GAG", cyclic=True),
        entity("ligand", "Z", ccd=("ZN",)),
        entity("protein", "H", sequence="GH"),
        bonds=[bond("H", 2, "NE2", "Z", 1, "ZN")],
    )
    rows = tables_of(made)["struct_conn"]
    found = {
        (
            row["conn_type_id"],
            *(f"{row[f'ptnr{n}_auth_asym_id']}{row[f'ptnr{n}_auth_seq_id']}" for n in (1, 2)),
        )
        for row in rows
    }
    assert found == {
        ("covale", "A2", "A3"),
        ("covale", "A3", "A4"),
        ("covale", "C1", "C3"),
        ("metalc", "Z1", "H2"),
    }
    zinc = next(row for row in rows if row["conn_type_id"] == "metalc")
    assert zinc["ptnr1_label_seq_id"] is False and zinc["ptnr2_label_seq_id"] == "2"
    assert len(irregular_bonds(made)) == 4


def test_components_carry_type_charge_stereo_and_bond_order():
    made = structure_of(
        entity("protein", "A", sequence="FT"), entity("ligand", "L", smiles="C[N+](C)(C)CC=O")
    )
    found = tables_of(made)
    types = {row["id"]: row["type"] for row in found["chem_comp"]}
    assert types == {"PHE": "L-peptide linking", "THR": "L-peptide linking", "LIG_1": "non-polymer"}
    atoms = {(row["comp_id"], row["atom_id"]): row for row in found["chem_comp_atom"]}
    # CIP labels of L-threonine are 2S, 3R.
    assert atoms["THR", "CA"]["pdbx_stereo_config"] == "S"
    assert atoms["THR", "CB"]["pdbx_stereo_config"] == "R"
    assert atoms["PHE", "CZ"]["pdbx_aromatic_flag"] == "Y"
    assert atoms["PHE", "CB"]["pdbx_aromatic_flag"] == "N"
    assert atoms["LIG_1", "N1"]["charge"] == "1"
    orders = {
        (row["comp_id"], row["atom_id_1"], row["atom_id_2"]): row["value_order"]
        for row in found["chem_comp_bond"]
    }
    assert orders["PHE", "C", "O"] == "doub" and orders["PHE", "CA", "C"] == "sing"
    assert [row["descriptor"] for row in found["pdbx_chem_comp_descriptor"]] == ["C[N+](C)(C)CC=O"]


def test_quality_is_the_mean_over_atoms():
    made = structure_of(entity("protein", "A", sequence="GA"), entity("ligand", "Z", ccd=("ZN",)))
    plddt = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 5], dtype=np.float32)
    assert len(plddt) == made.atoms.array_length()
    found = tables_of(made, plddt)
    local = [(r["label_asym_id"], r["label_seq_id"], r["metric_value"]) for r in
             found["ma_qa_metric_local"]]  # fmt: skip
    assert local == [("A", "1", "25.00"), ("A", "2", "75.00"), ("Z", False, "5.00")]
    assert found["ma_qa_metric_global"][0]["metric_value"] == f"{plddt.mean():.2f}"
    assert [row["B_iso_or_equiv"] for row in found["atom_site"]][-2:] == ["100.00", "5.00"]


def test_notes_are_one_line_each():
    found = tables_of(structure_of(entity("ligand", "Z", ccd=("ZN",))), name="Gru\u00df")
    assert [row["text"] for row in found["pdbx_database_remark"]] == [
        "Gru?: predicted by SeedFold 1.2.3, model tiny",
        "UNTRAINED weights",
    ]
    assert found["struct"][0]["pdbx_model_details"] == "UNTRAINED weights"


@pytest.mark.parametrize(("text", "expected"), [("a\n;b", "a ;b"), ("\u00c5", "?"), ("  x ", "x")])
def test_plain(text, expected):
    assert plain(text) == expected
