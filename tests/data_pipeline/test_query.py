"""One complex in every dialect gives the same entities; real inputs of other programs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.query import AtomRef, Entity, Query

SHARED = Path(__file__).resolve().parents[2] / "../shared"
PROTEIN, DNA, RNA = "MKTSYIAKQR", "GATTACAGATTACA", "GGCUACGGCU"
ETHANOL = "CCO"

ENTITIES = (
    Entity(kind="protein", chains=("A", "B"), where="", sequence=PROTEIN),
    Entity(kind="dna", chains=("C",), where="", sequence=DNA),
    Entity(kind="rna", chains=("D",), where="", sequence=RNA),
    Entity(kind="ligand", chains=("E",), where="", ccd=("ATP",)),
    Entity(kind="ligand", chains=("F", "G"), where="", ccd=("MG",)),
    Entity(kind="ligand", chains=("H",), where="", smiles=ETHANOL),
)

BOLTZ_FASTA = f"""
>A|protein
{PROTEIN}
>B|protein
{PROTEIN[:4]}
{PROTEIN[4:].lower()}*
>C|dna
{DNA}
>D|rna
{RNA}
>E|ccd
ATP
>F|ccd
MG
>G|ccd
MG
>H|smiles
{ETHANOL}
"""
BOLTZ_YAML = f"""
version: 1
sequences:
  - protein: {{id: [A, B], sequence: {PROTEIN}}}
  - dna: {{id: C, sequence: {DNA}}}
  - rna: {{id: D, sequence: {RNA}}}
  - ligand: {{id: E, ccd: ATP}}
  - ligand: {{id: [F, G], ccd: MG}}
  - ligand: {{id: H, smiles: '{ETHANOL}'}}
"""
ALPHAFOLD3 = json.dumps(
    {
        "name": "input",
        "modelSeeds": [],
        "sequences": [
            {"protein": {"id": ["A", "B"], "sequence": PROTEIN, "templates": None}},
            {"dna": {"id": "C", "sequence": DNA}},
            {"rna": {"id": "D", "sequence": RNA, "unpairedMsa": None}},
            {"ligand": {"id": "E", "ccdCodes": ["ATP"]}},
            {"ligand": {"id": ["F", "G"], "ccdCodes": ["MG"]}},
            {"ligand": {"id": "H", "smiles": ETHANOL}},
        ],
        "dialect": "alphafold3",
        "version": 1,
    }
)
PROTENIX = json.dumps(
    [
        {
            "name": "input",
            "sequences": [
                {"proteinChain": {"sequence": PROTEIN, "count": 2}},
                {"dnaSequence": {"sequence": DNA, "count": 1}},
                {"rnaSequence": {"sequence": RNA, "count": 1}},
                {"ligand": {"ligand": "CCD_ATP", "count": 1}},
                {"ion": {"ion": "MG", "count": 2}},
                {"ligand": {"ligand": ETHANOL, "count": 1}},
            ],
        }
    ]
)
SEEDFOLD = json.dumps(
    [
        {"entity": "Protein", "copies": 2, "sequence": PROTEIN},
        {"entity": "DNA", "copies": 1, "sequence": DNA},
        {"entity": "RNA", "copies": 1, "sequence": RNA},
        {"entity": "Ligand/Ion-CCD", "copies": 1, "sequence": "ATP"},
        {"entity": "Ligand/Ion-CCD", "copies": 2, "sequence": "MG"},
        {"entity": "Ligand-Smiles", "copies": 1, "sequence": ETHANOL},
    ]
)


def without_places(query: Query) -> tuple[Entity, ...]:
    return tuple(replace(entity, where="") for entity in query.entities)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("input.fasta", BOLTZ_FASTA),
        ("input.yaml", BOLTZ_YAML),
        ("input.json", ALPHAFOLD3),
        ("input.json", PROTENIX),
        ("input.json", SEEDFOLD),
        ("wrong_suffix.fasta", PROTENIX),
        ("wrong_suffix.json", BOLTZ_FASTA),
    ],
)
def test_the_same_complex_in_every_dialect(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    (query,) = read_queries(tmp_path / name)
    assert without_places(query) == ENTITIES
    assert query.name in ("input", "wrong_suffix")
    assert (query.bonds, query.seeds, query.warnings) == ((), None, ())


def test_chai_fasta_and_plain_fasta_are_the_polymers_of_the_same_complex(tmp_path: Path):
    plain = f">sp|P1|X first\n{PROTEIN}\n>second one\n{PROTEIN}\n>x\n{DNA}\n>y\n{RNA}\n"
    chai = (
        f">protein|name=a\n{PROTEIN}\n>protein|b\n{PROTEIN}\n>dna|c\n{DNA}\n>rna|d\n{RNA}\n"
        ">glycan|e\nATP\n>glycan|f\nMG\n>glycan|g\nMG\n"
        f">ligand|name=h\n{ETHANOL}\n"
    )
    for text, expected in [(plain, ENTITIES[:3]), (chai, ENTITIES)]:
        (tmp_path / "input.fa").write_text(text)
        (query,) = read_queries(tmp_path / "input.fa")
        assert without_places(query) == expected


def test_protenix_examples_from_the_shared_data(tmp_path: Path):
    source = SHARED / "data/msa/protenix_example.json"
    if not source.is_file():
        pytest.skip(f"needs {source}")
    (tmp_path / "jobs.json").write_bytes(source.read_bytes())
    for folder in ("7r6r_1", "7wux_1", "7wux_2", "7pzb_1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "non_pairing.a3m").write_text(">query\nM\n")
    (tmp_path / "7wux_1/pairing.a3m.gz").write_bytes(b"\x1f\x8b")
    jobs = {query.name: query for query in read_queries(tmp_path / "jobs.json")}
    chains = {
        name: [(entity.kind, entity.chains) for entity in query.entities]
        for name, query in jobs.items()
    }
    assert chains == {
        "7r6r": [("protein", ("A",)), ("dna", ("B",)), ("dna", ("D",))],
        "7wux": [
            ("protein", ("A", "B")),
            ("protein", ("C", "D")),
            ("ligand", ("E",)),
            ("ligand", ("F", "G")),
            ("ligand", ("H", "I", "J")),
        ],
        "7pzb": [
            ("protein", ("A", "B")),
            ("dna", ("C", "D")),
            ("dna", ("E", "F")),
            ("ligand", ("G", "H")),
        ],
    }
    protein = jobs["7wux"].entities[0]
    assert protein.paired_msa is not None and protein.msa is not None
    assert protein.paired_msa.path == tmp_path / "7wux_1/pairing.a3m.gz"
    assert protein.msa.path == tmp_path / "7wux_1/non_pairing.a3m"
    assert jobs["7wux"].entities[3].ccd == ("6OI",)


@pytest.mark.parametrize("name", ["protenix_a", "protenix_b"])
def test_inputs_of_the_golden_runs(tmp_path: Path, name: str):
    config = SHARED / "golden" / name / "config.json"
    if not config.is_file():
        pytest.skip(f"needs {config}")
    (tmp_path / "job.json").write_text(json.dumps([json.loads(config.read_text())["input_json"]]))
    (tmp_path / "msa/1").mkdir(parents=True)
    (tmp_path / "msa/1/pairing.a3m").write_text(">query\nM\n")
    (query,) = read_queries(tmp_path / "job.json")
    if name == "protenix_b":
        assert [entity.chains for entity in query.entities] == [("A",), ("B",), ("D",)]
        return
    assert query.name == "golden_a"
    assert without_places(query) == (
        Entity(
            kind="protein",
            chains=("A", "B"),
            where="",
            sequence="GSHMKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
            modifications=((2, "SEP"),),
        ),
        Entity(kind="dna", chains=("C",), where="", sequence="GATTACA"),
        Entity(kind="rna", chains=("D",), where="", sequence="GGCUAC"),
        Entity(kind="ligand", chains=("E",), where="", ccd=("ATP",)),
        Entity(kind="ligand", chains=("F",), where="", ccd=("MG",)),
    )


def test_a_glycan_and_its_bonds_in_three_dialects(tmp_path: Path):
    chai = ">protein|name=p\nMNGS\n>glycan|name=g\nNAG(4-1 NAG)\n"
    native = (
        "sequences:\n- protein: {sequence: MNGS}\n- ligand: {ccd: [NAG, NAG]}\n"
        "bonds: [[[B, 1, O4], [B, 2, C1]]]\n"
    )
    alphafold3 = json.dumps(
        {
            "sequences": [
                {"protein": {"id": "A", "sequence": "MNGS"}},
                {"ligand": {"id": "B", "ccdCodes": ["NAG", "NAG"]}},
            ],
            "bondedAtomPairs": [[["B", 1, "O4"], ["B", 2, "C1"]]],
            "dialect": "alphafold3",
            "version": 4,
        }
    )
    bond = (AtomRef(chain="B", position=1, atom="O4"), AtomRef(chain="B", position=2, atom="C1"))
    for name, text in [("a.fasta", chai), ("a.yaml", native), ("a.json", alphafold3)]:
        (tmp_path / name).write_text(text)
        (query,) = read_queries(tmp_path / name)
        assert query.bonds == (bond,)
        assert query.entities[1].ccd == ("NAG", "NAG")
