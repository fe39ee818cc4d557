"""AlphaFold 3's JSON, after its docs/input.md."""

import json
from typing import Any

import pytest

from seedfold.data_pipeline.query import AtomRef, Document, Entity, TemplateSource


def job(*sequences: dict[str, Any], **keys: Any) -> str:
    return json.dumps(
        {
            "name": "Job name goes here",
            "modelSeeds": [1, 2],
            "sequences": sequences,
            "dialect": "alphafold3",
            "version": 4,
            **keys,
        }
    )


def test_every_key(read, tmp_path):
    for name in ("u.a3m", "t.cif"):
        (tmp_path / name).write_text("content\n")
    protein = {
        "id": "A",
        "sequence": "PVLSCGEWQL",
        "modifications": [
            {"ptmType": "P1L", "ptmPosition": 5},
            {"ptmType": "HY3", "ptmPosition": 1},
        ],
        "description": "a chain",
        "unpairedMsaPath": "u.a3m",
        "pairedMsa": ">query\nPVLSCGEWQL\n",
        "templates": [
            {"mmcifPath": "t.cif", "queryIndices": [0, 1, 4], "templateIndices": [0, 2, 8]},
            {"mmcif": "data_x\n", "queryIndices": [], "templateIndices": []},
        ],
    }
    rna = {
        "id": "R",
        "sequence": "AGCU",
        "modifications": [
            {"modificationType": "2MG", "basePosition": 1},
            {"modificationType": "5MC", "basePosition": 4},
        ],
        "unpairedMsa": "",
    }
    (query,) = read(
        job(
            {"protein": protein},
            {"rna": rna},
            {"dna": {"id": ["D", "E"], "sequence": "GACCTCT", "description": None}},
            {"ligand": {"id": ["G", "H", "I"], "ccdCodes": ["ATP"]}},
            {"ligand": {"id": "J", "ccdCodes": ["NAG", "NAG"], "description": "glycan"}},
            {"ligand": {"id": "K", "smiles": "CC(=O)OC1C[NH+]2CCC1CC2"}},
            bondedAtomPairs=[
                [["A", 5, "SG"], ["G", 1, "C2"]],
                [["J", 1, "O6"], ["J", 2, "C1"]],
            ],
        ),
        "in.json",
    )
    where = f"{tmp_path}/in.json: sequences"
    assert query.name == "Job_name_goes_here"
    assert query.seeds == (1, 2)
    assert query.entities == (
        Entity(
            kind="protein",
            chains=("A",),
            where=f"{where}[0].protein",
            sequence="PVLSCGEWQL",
            modifications=((1, "HY3"), (5, "P1L")),
            msa=Document(name="u.a3m", path=tmp_path / "u.a3m"),
            paired_msa=Document(name=f"{where}[0].protein.pairedMsa", text=">query\nPVLSCGEWQL\n"),
            templates=(
                TemplateSource(
                    document=Document(name="t.cif", path=tmp_path / "t.cif"),
                    mapping=((1, 1), (2, 3), (5, 9)),
                ),
                TemplateSource(
                    document=Document(
                        name=f"{where}[0].protein.templates[1].mmcif", text="data_x\n"
                    ),
                    mapping=(),
                ),
            ),
        ),
        Entity(
            kind="rna",
            chains=("R",),
            where=f"{where}[1].rna",
            sequence="AGCU",
            modifications=((1, "2MG"), (4, "5MC")),
            msa=Document(name=f"{where}[1].rna: the query alone", text=">query\nAGCU\n"),
        ),
        Entity(kind="dna", chains=("D", "E"), where=f"{where}[2].dna", sequence="GACCTCT"),
        Entity(kind="ligand", chains=("G", "H", "I"), where=f"{where}[3].ligand", ccd=("ATP",)),
        Entity(kind="ligand", chains=("J",), where=f"{where}[4].ligand", ccd=("NAG", "NAG")),
        Entity(
            kind="ligand",
            chains=("K",),
            where=f"{where}[5].ligand",
            smiles="CC(=O)OC1C[NH+]2CCC1CC2",
        ),
    )
    assert query.bonds == (
        (AtomRef(chain="A", position=5, atom="SG"), AtomRef(chain="G", position=1, atom="C2")),
        (AtomRef(chain="J", position=1, atom="O6"), AtomRef(chain="J", position=2, atom="C1")),
    )
    assert query.warnings == ()


@pytest.mark.parametrize(
    ("unpaired", "paired", "expected"),
    [
        (None, None, (None, None)),
        ("", "", (">query\nMK\n", None)),
        # Not to be paired: the paired alignment is the query alone.
        (">q\nMK\n", "", (">q\nMK\n", ">query\nMK\n")),
        ("", ">q\nMK\n", (None, ">q\nMK\n")),
        (">q\nMK\n", ">q\nMK\n>r\nML\n", (">q\nMK\n", ">q\nMK\n>r\nML\n")),
    ],
)
def test_the_five_ways_of_giving_alignments(read, unpaired, paired, expected):
    protein = {"id": "A", "sequence": "MK", "unpairedMsa": unpaired, "pairedMsa": paired}
    (query,) = read(job({"protein": protein}), "in.json")
    entity = query.entities[0]
    assert (
        entity.msa and entity.msa.text,
        entity.paired_msa and entity.paired_msa.text,
    ) == expected


def test_recognised_without_its_dialect_key(read):
    data = {"modelSeeds": [7], "sequences": [{"protein": {"id": "A", "sequence": "MK"}}]}
    assert read(json.dumps(data), "in.json")[0].seeds == (7,)


def test_user_components_are_warned_of(read):
    data = job({"ligand": {"id": "A", "ccdCodes": ["ATP"]}}, userCCD="data_MY-X7F\n")
    assert "userCCD: user-defined components are not read" in read(data, "in.json")[0].warnings[0]


PROTEIN = {"id": "A", "sequence": "MKV"}


@pytest.mark.parametrize(
    ("protein", "keys", "message"),
    [
        ({}, {"version": 5}, "version: the number 5; expected 1, 2, 3, 4"),
        ({}, {"modelSeeds": ["1"]}, "modelSeeds[0]: the text '1'; expected a whole number"),
        ({}, {"modelSeeds": [-1]}, "modelSeeds[0]: the number -1"),
        ({}, {"modelSeeds": [2**32]}, "the seed 4294967296"),
        ({}, {"bondedAtomPair": []}, "did you mean 'bondedAtomPairs'?"),
        ({}, {"bondedAtomPairs": [[["A", 1, "N"]]]}, "bondedAtomPairs[0]: a list of 1"),
        ({}, {"bondedAtomPairs": [[["A", 1, "N"], ["Q", 1, "N"]]]}, "there is no chain 'Q'"),
        ({"unpairedMsa": "x", "unpairedMsaPath": "y"}, {}, "both unpairedMsa and unpairedMsaPath"),
        ({"pairedMsaPath": "no.a3m"}, {}, "pairedMsaPath: the file 'no.a3m' does not exist"),
        ({"id": ["A", "A"]}, {}, "the chain id 'A' is already taken"),
        ({"modifications": [{"ptmType": "SEP", "ptmPosition": 4}]}, {}, "position 4 of a sequence"),
        ({"modifications": [{"ptmType": "SEP", "ptmPosition": 0}]}, {}, "position 0 of a sequence"),
        ({"modifications": [{"ptmType": "LIG-1", "ptmPosition": 1}]}, {}, "not a CCD code"),
        ({"modifications": [{"modificationType": "SEP"}]}, {}, "unknown key 'modificationType'"),
        (
            {"templates": [{"mmcif": "x", "queryIndices": [1], "templateIndices": []}]},
            {},
            "templates[0]: 1 queryIndices and 0 templateIndices",
        ),
        (
            {"templates": [{"queryIndices": [1], "templateIndices": [1]}]},
            {},
            "templates[0]: none of mmcif, mmcifPath",
        ),
    ],
)
def test_errors(refused, protein: dict, keys: dict, message: str):
    text = job({"protein": {**PROTEIN, **protein}}, **keys)
    assert message in str(refused(text, "in.json"))


def test_a_ligand_has_one_source(refused):
    both = job({"ligand": {"id": "A", "ccdCodes": ["ATP"], "smiles": "C"}})
    assert "both ccdCodes and smiles" in str(refused(both, "in.json"))
    assert "none of ccdCodes, smiles" in str(refused(job({"ligand": {"id": "A"}}), "in.json"))
