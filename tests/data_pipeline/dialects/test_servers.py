"""Job lists of AlphaFold Server (its example.json), Protenix and SeedFold."""

import json
from typing import Any

import pytest

SERVER_EXAMPLE = [
    {
        "name": "Test Fold Job Number One",
        "modelSeeds": ["1593933729", 4273],
        "sequences": [
            {
                "proteinChain": {
                    "sequence": "PREACHINGS",
                    "glycans": [{"residues": "NAG", "position": 8}],
                    "modifications": [
                        {"ptmType": "CCD_HY3", "ptmPosition": 1},
                        {"ptmType": "CCD_P1L", "ptmPosition": 5},
                    ],
                    "count": 2,
                    "maxTemplateDate": "2018-01-20",
                }
            },
            {"proteinChain": {"sequence": "REACHER", "count": 1, "useStructureTemplate": False}},
            {
                "dnaSequence": {
                    "sequence": "GATTACA",
                    "modifications": [
                        {"modificationType": "CCD_6OG", "basePosition": 1},
                        {"modificationType": "CCD_6MA", "basePosition": 2},
                    ],
                    "count": 1,
                }
            },
            {"rnaSequence": {"sequence": "GUAC", "count": 1}},
            {"ligand": {"ligand": "CCD_ATP", "count": 1}},
            {"ion": {"ion": "MG", "count": 2}},
        ],
        "dialect": "alphafoldserver",
        "version": 1,
    },
    {
        "name": "Test Fold Job Number Two",
        "modelSeeds": [],
        "sequences": [{"dnaSequence": {"sequence": "TAGCTA", "count": 2}}],
    },
]


def test_alphafold_server(read):
    one, two = read(json.dumps(SERVER_EXAMPLE), "jobs.json")
    assert (one.name, one.seeds) == ("Test_Fold_Job_Number_One", (1593933729, 4273))
    assert (two.name, two.seeds) == ("Test_Fold_Job_Number_Two", None)
    assert [(e.kind, e.chains, e.sequence or e.ccd) for e in one.entities] == [
        ("protein", ("A", "B"), "PREACHINGS"),
        ("protein", ("C",), "REACHER"),
        ("dna", ("D",), "GATTACA"),
        ("rna", ("E",), "GUAC"),
        ("ligand", ("F",), ("ATP",)),
        ("ligand", ("G", "H"), ("MG",)),
        ("ligand", ("I", "J"), ("NAG",)),
    ]
    assert one.entities[0].modifications == ((1, "HY3"), (5, "P1L"))
    assert one.entities[2].modifications == ((1, "6OG"), (2, "6MA"))
    assert [(a.chain, a.position, a.atom, b.chain, b.atom) for a, b in one.bonds] == [
        ("A", 8, "ND2", "I", "C1"), ("B", 8, "ND2", "J", "C1"),
    ]  # fmt: skip
    (warning,) = one.warnings
    assert "[0].sequences[0].proteinChain: templates are not searched for" in warning


def test_server_glycans_without_linkages_are_refused(refused):
    for residues, position in [("NAG(NAG)(BMA)", 8), ("BMA", 10), ("NAG", 11), ("NAG", 0)]:
        data = json.loads(json.dumps(SERVER_EXAMPLE))
        data[0]["sequences"][0]["proteinChain"]["sequence"] = "PREACHINGA"
        data[0]["sequences"][0]["proteinChain"]["glycans"] = [
            {"residues": residues, "position": position}
        ]
        error = refused(json.dumps(data), "jobs.json")
        assert f"the glycan '{residues}' on residue {position}" in error.found
        assert "several CCD codes with bonds" in error.todo
        assert error.where.endswith("jobs.json: [0].sequences[0].proteinChain.glycans[0]")


def protenix(*sequences: dict[str, Any], **keys: Any) -> str:
    return json.dumps([{"name": "job", "sequences": sequences, **keys}])


def test_protenix_ligands_ids_and_files(read, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/atp.sdf").write_text("content\n")
    (tmp_path / "rna.a3m").write_text(">q\nGUAC\n")
    (query,) = read(
        protenix(
            {"proteinChain": {"sequence": "MKV", "count": 2, "id": ["H", "L"]}},
            {"rnaSequence": {"sequence": "GUAC", "count": 1, "unpairedMsaPath": "rna.a3m"}},
            {"ligand": {"ligand": "CCD_NAG_BMA_BGC", "count": 1, "id": ["X"]}},
            {"ligand": {"ligand": "FILE_sub/atp.sdf", "count": 1}},
            {"ligand": {"ligand": "Nc1ncnc2c1ncn2", "count": 2}},
            modelSeeds=[101],
            assembly_id="1",
            constraint={"contact": [{"entity1": 1}]},
        ),
        "in.json",
    )
    protein, rna, glycan, file, smiles = query.entities
    assert protein.chains == ("H", "L")
    assert rna.msa is not None and rna.msa.path == tmp_path / "rna.a3m"
    assert (glycan.ccd, glycan.chains) == (("NAG", "BMA", "BGC"), ("X",))
    assert file.file is not None and file.file.path == tmp_path / "sub/atp.sdf"
    assert (smiles.smiles, smiles.chains) == ("Nc1ncnc2c1ncn2", ("C", "D"))
    assert query.seeds == (101,)
    assert "[0].constraint: constraints are not supported" in query.warnings[0]


def test_protenix_letters_of_nucleic_acids(read):
    (query,) = read(
        protenix(
            {"rnaSequence": {"sequence": "GAXI[5MC]N", "count": 1}},
            {"dnaSequence": {"sequence": "GXIU(5IU)T", "count": 1}},
            {"proteinChain": {"sequence": "GXI", "count": 1}},
        ),
        "in.json",
    )
    assert [(e.sequence, e.modifications) for e in query.entities] == [
        ("GANNNN", ((4, "I"), (5, "5MC"))),
        ("GNNNNT", ((3, "DI"), (4, "DU"), (5, "5IU"))),
        ("GXI", ()),
    ]


BOND = {
    "entity1": "1", "copy1": 2, "position1": "3", "atom1": "SG",
    "entity2": 2, "copy2": "1", "position2": 1, "atom2": 4,
}  # fmt: skip
MOLECULES = (
    {"proteinChain": {"sequence": "MKC", "count": 2}},
    {"ligand": {"ligand": "CCO", "count": 2}},
    {"ion": {"ion": "MG", "count": 1}},
)


def bonds(query):
    return [(a.chain, a.position, a.atom, b.chain, b.position, b.atom) for a, b in query.bonds]


def test_protenix_bonds(read):
    old = {
        key.replace(key[:-1], f"{side}_{key[:-1]}").removesuffix(key[-1]): value
        for key, value in BOND.items()
        for side in ["left" if key.endswith("1") else "right"]
    }
    assert set(old) >= {"left_entity", "right_atom"}
    for bond in (BOND, old):
        (query,) = read(protenix(*MOLECULES, covalent_bonds=[bond]), "in.json")
        assert bonds(query) == [("B", 3, "SG", "C", 1, "4")]
    every = {key: value for key, value in BOND.items() if not key.startswith("copy")}
    (query,) = read(protenix(*MOLECULES, covalent_bonds=[every]), "in.json")
    assert bonds(query) == [("A", 3, "SG", "C", 1, "4"), ("B", 3, "SG", "D", 1, "4")]


def test_bonds_count_entities_as_written_even_where_they_are_merged(read):
    same = {"ion": {"ion": "MG", "count": 1}}
    bond = {**BOND, "entity2": 3, "copy1": 1, "atom2": "MG"}
    (query,) = read(protenix(MOLECULES[0], same, same, covalent_bonds=[bond]), "in.json")
    assert query.entities[1].chains == ("C", "D")
    assert bonds(query) == [("A", 3, "SG", "D", 1, "MG")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entity1": 4}, "a bond of entity 4; expected an entity from 1 to 3"),
        ({"entity1": 0}, "a bond of entity 0"),
        ({"copy2": 3}, "a bond of copy 3 of entity 2; expected a copy from 1 to 2"),
        ({"position1": 9}, "a bond at residue 9 of chain B; expected a residue from 1 to 3"),
        ({"position1": "x"}, "position1: the text 'x'; expected A number"),
        ({"entity2": 3, "copy1": None, "copy2": None}, "between 2 copies and 1 copies"),
        ({"atom_1": "SG"}, "did you mean 'atom1'?"),
    ],
)
def test_wrong_bonds(refused, change: dict, message: str):
    error = refused(protenix(*MOLECULES, covalent_bonds=[{**BOND, **change}]), "in.json")
    assert message in str(error)
    assert ": [0].covalent_bonds[0]" in error.where


@pytest.mark.parametrize(
    ("molecule", "message"),
    [
        ({"proteinChain": {"sequence": "M", "count": 0}}, "count: the number 0; expected a number"),
        ({"proteinChain": {"sequence": "M", "count": 10**30}}, "expected a number from 1 to 10000"),
        ({"proteinChain": {"sequence": "M", "count": "2"}}, "count: the text '2'"),
        ({"proteinChain": {"sequence": "M", "count": 2, "id": ["A"]}}, "1 ids for a count of 2"),
        ({"proteinchain": {"sequence": "M"}}, "did you mean 'proteinChain'?"),
        ({"dnaSequence": {"sequence": "AC", "glycans": []}}, "unknown key 'glycans'"),
        ({"ligand": {"ligand": "FILE_x.pdb"}}, "the ligand file 'x.pdb'; expected an SDF or MOL"),
        ({"ligand": {"ligand": "FILE_x.sdf"}}, "the file 'x.sdf' does not exist"),
        ({"ligand": {"ligand": "CCD_"}}, "'' is not a CCD code"),
        (
            {"proteinChain": {"sequence": "M", "msa": {"precomputed_msa_dir": "none"}}},
            "no alignment in the folder 'none'",
        ),
        ({"proteinChain": {"sequence": "M", "pairedMsaPath": "no.a3m"}}, "does not exist"),
    ],
)
def test_wrong_molecules(refused, molecule: dict, message: str):
    ion = {"ion": {"ion": "MG", "count": 1}}
    assert message in str(refused(protenix(ion, molecule), "in.json"))


def test_wrong_seeds(refused):
    for seed, message in [("x", "modelSeeds[0]: the text 'x'"), ("4294967296", "the seed 42949")]:
        text = protenix({"ion": {"ion": "MG", "count": 1}}, modelSeeds=[seed])
        assert message in str(refused(text, "in.json"))


def test_template_hits_are_warned_of(read):
    text = protenix({"proteinChain": {"sequence": "MK", "count": 1, "templatesPath": "h.a3m"}})
    assert (
        "templatesPath: lists of template hits are not read" in read(text, "i.json")[0].warnings[0]
    )


def test_seedfold_server(read, refused):
    entities = [
        {"entity": "Protein", "copies": 4, "sequence": "QLEDSEVEAVAKGLEEM"},
        {"entity": "Ligand/Ion-CCD", "copies": 2, "sequence": "MG"},
        {"entity": "Ligand-Smiles", "copies": 1, "sequence": "CCO"},
    ]
    (bare,) = read(json.dumps(entities), "in.json")
    named = {"job_name": "example", "model": "SeedFold-Linear_v1.0.0", "entities": entities}
    (job,) = read(json.dumps([named]), "in.json")
    assert (bare.name, job.name) == ("in", "example")
    for query in (bare, job):
        assert [entity.chains for entity in query.entities] == [
            ("A", "B", "C", "D"), ("E", "F"), ("G",),
        ]  # fmt: skip
    wrong = json.dumps([{"entity": "Peptide", "sequence": "MK"}])
    assert "in.json: [0]: the entity 'Peptide'; expected Protein, DNA" in str(
        refused(wrong, "in.json")
    )
