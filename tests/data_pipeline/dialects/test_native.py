"""The native form: Boltz's YAML with additions; its schema; its errors."""

import json
from typing import Any

import pytest
import yaml

from seedfold.data_pipeline.dialects.native import json_schema
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import AtomRef, Document, Entity, TemplateSource

FULL = """
version: 1
name: everything
seeds: [1, 2]
sequences:
  - protein:
      id: [A, B]
      sequence: MVTPEGC
      msa: a.a3m
      paired_msa: p.a3m
      modifications:
        - {position: 3, ccd: TPO}
  - protein: {id: P, sequence: 'GK[MSE]', cyclic: true, msa: empty}
  - dna: {id: D, sequence: GATTACA}
  - rna: {sequence: GGCU, msa: a.a3m}
  - ligand: {id: 1, ccd: [NAG, NAG]}
  - ligand: {id: NO, ccd: NO}
  - ligand: {id: S, smiles: 'N[C@@H](Cc1ccc(O)cc1)C(=O)O'}
  - ligand: {id: F, file: l.sdf}
bonds:
  - [[1, 1, O4], [1, 2, C1]]
constraints:
  - bond: {atom1: [A, 7, SG], atom2: [F, 1, C3]}
  - pocket: {binder: S, contacts: [[A, 5], [F, C1]], max_distance: 6}
  - contact: {token1: [A, 1], token2: [S, C1], force: true}
templates:
  - cif: t.cif
  - pdb: t.pdb
    chain_id: [A, P]
    template_id: [X, Y]
    force: true
    threshold: 2
properties:
  - affinity: {binder: S}
"""


@pytest.fixture
def files(tmp_path):
    for name in ("a.a3m", "p.a3m", "l.sdf", "t.cif", "t.pdb"):
        (tmp_path / name).write_text("content\n")
    return tmp_path


def test_every_key(read, files):
    (query,) = read(FULL)
    cif = TemplateSource(document=Document(name="t.cif", path=files / "t.cif"))
    pdb = Document(name="t.pdb", path=files / "t.pdb")
    a3m = Document(name="a.a3m", path=files / "a.a3m")
    expected = [
        Entity(
            kind="protein",
            chains=("A", "B"),
            where="sequences[0].protein",
            sequence="MVTPEGC",
            modifications=((3, "TPO"),),
            msa=a3m,
            paired_msa=Document(name="p.a3m", path=files / "p.a3m"),
            templates=(cif, TemplateSource(document=pdb, chain="X")),
        ),
        Entity(
            kind="protein",
            chains=("P",),
            where="sequences[1].protein",
            sequence="GKX",
            modifications=((3, "MSE"),),
            cyclic=True,
            msa=Document(
                name=f"{files}/input.yaml:13: sequences[1].protein: the query alone",
                text=">query\nGKX\n",
            ),
            templates=(cif, TemplateSource(document=pdb, chain="Y")),
        ),
        Entity(kind="dna", chains=("D",), where="sequences[2].dna", sequence="GATTACA"),
        Entity(kind="rna", chains=("C",), where="sequences[3].rna", sequence="GGCU", msa=a3m),
        Entity(kind="ligand", chains=("1",), where="sequences[4].ligand", ccd=("NAG", "NAG")),
        Entity(kind="ligand", chains=("NO",), where="sequences[5].ligand", ccd=("NO",)),
        Entity(
            kind="ligand",
            chains=("S",),
            where="sequences[6].ligand",
            smiles="N[C@@H](Cc1ccc(O)cc1)C(=O)O",
        ),
        Entity(
            kind="ligand",
            chains=("F",),
            where="sequences[7].ligand",
            file=Document(name="l.sdf", path=files / "l.sdf"),
        ),
    ]
    found = [
        Entity(**{**vars(entity), "where": entity.where.split(": ")[1]})
        for entity in query.entities
    ]
    assert found == expected
    assert query.entities[0].where == f"{files}/input.yaml:6: sequences[0].protein"
    assert (query.name, query.seeds) == ("everything", (1, 2))
    assert query.bonds == (
        (AtomRef(chain="1", position=1, atom="O4"), AtomRef(chain="1", position=2, atom="C1")),
        (AtomRef(chain="A", position=7, atom="SG"), AtomRef(chain="F", position=1, atom="C3")),
    )
    for word in ("pocket", "contact", "force", "affinity"):
        assert sum(word in warning for warning in query.warnings) == 1


def test_yaml_and_json_agree(read, files):
    data = yaml.safe_load(FULL)
    data["sequences"][4]["ligand"]["id"] = data["bonds"][0][0][0] = data["bonds"][0][1][0] = "1"
    data["sequences"][5]["ligand"] = {"id": "NO", "ccd": "NO"}
    (from_yaml,), (from_json,) = read(FULL), read(json.dumps(data), "input.json")
    assert from_json.bonds == from_yaml.bonds
    assert [(e.chains, e.sequence, e.ccd, e.smiles, e.templates) for e in from_json.entities] == [
        (e.chains, e.sequence, e.ccd, e.smiles, e.templates) for e in from_yaml.entities
    ]


def test_example_of_the_boltz_documentation(read, tmp_path):
    (tmp_path / "examples/msa").mkdir(parents=True)
    (tmp_path / "examples/msa/seq1.a3m").write_text(">q\nMVTP\n")
    (query,) = read("""version: 1
sequences:
  - protein:
      id: [A, B]
      sequence: MVTPEGNVSLVDESLLVGVTDEDRAVRSAHQFYERLIGLWAPAVMEAAHELGVFAALAEAPADSGELARRLDCDARAMRV
      msa: ./examples/msa/seq1.a3m
  - ligand:
      id: [C, D]
      ccd: SAH
  - ligand:
      id: [E, F]
      smiles: 'N[C@@H](Cc1ccc(O)cc1)C(=O)O'
""")
    assert [(e.kind, e.chains) for e in query.entities] == [
        ("protein", ("A", "B")), ("ligand", ("C", "D")), ("ligand", ("E", "F")),
    ]  # fmt: skip
    assert query.entities[0].msa is not None
    assert query.entities[0].msa.path == tmp_path / "examples/msa/seq1.a3m"


PROTEIN = {"protein": {"id": "A", "sequence": "MKV"}}
ERRORS: list[tuple[dict[str, Any], str, bool]] = [
    # input, part of the message, whether the schema alone refuses it too
    ({"sequences": [{"protein": {"seqence": "MKV"}}]}, "did you mean 'sequence'?", True),
    ({"sequences": [{"peptide": {"sequence": "MKV"}}]}, "unknown key 'peptide'", True),
    ({"sequences": [{**PROTEIN, "dna": {"sequence": "AC"}}]}, "both protein and dna", True),
    ({"sequences": [{"protein": {"id": "A"}}]}, "the key 'sequence' is missing", True),
    ({"sequences": [{"protein": {"sequence": ""}}]}, "an empty text", True),
    ({"sequences": [{"protein": {"sequence": "*"}}]}, "an empty sequence", False),
    ({"sequences": [{"protein": {"sequence": ["M"]}}]}, "sequence: a list of 1", True),
    ({"sequences": [{"ligand": {"id": "A"}}]}, "none of ccd, smiles, file", True),
    ({"sequences": [{"ligand": {"ccd": "ATP", "smiles": "C"}}]}, "both ccd and smiles", True),
    ({"sequences": [{"ligand": {"ccd": "TOOLONG"}}]}, "'TOOLONG' is not a CCD code", False),
    ({"sequences": [{"ligand": {"smiles": "C C"}}]}, "blanks in the SMILES", False),
    ({"sequences": [{"ligand": {"file": "no.sdf"}}]}, "'no.sdf' does not exist", False),
    ({"sequences": [{"ligand": {"ccd": "ATP", "cyclic": True}}]}, "unknown key 'cyclic'", True),
    ({"sequences": [PROTEIN, PROTEIN]}, "the chain id 'A' is already taken", False),
    ({"sequences": [{"protein": {"id": "a/b", "sequence": "M"}}]}, "the chain id 'a/b'", False),
    ({"sequences": [{"protein": {"id": " ", "sequence": "M"}}]}, "id: an empty text", True),
    ({"sequences": [{"protein": {"sequence": "M", "msa": "x.a3m"}}]}, "does not exist", False),
    ({"sequences": [{"protein": {"sequence": "M", "msa": "."}}]}, "is a folder", False),
    ({"sequences": [{"dna": {"sequence": "AC", "msa": "x"}}]}, "unknown key 'msa'", True),
    ({"sequences": [PROTEIN], "version": 2}, "version: the number 2; expected 1", True),
    ({"sequences": [PROTEIN], "seeds": -1}, "seeds: the number -1", True),
    ({"sequences": [PROTEIN], "seeds": ["a"]}, "seeds[0]: the text 'a'; expected a whole", True),
    ({"sequences": [PROTEIN], "seeds": 1.5}, "seeds: the number 1.5", True),
    ({"sequences": [PROTEIN], "seeds": 2**32}, "seeds: the number 4294967296", True),
    ({"sequences": [PROTEIN], "seed": 1}, "did you mean 'seeds'?", True),
    ({"sequences": [PROTEIN], "bonds": [[["A", 1, "C"]]]}, "a list of 1; expected", True),
    ({"sequences": [PROTEIN], "bonds": [[["A", "x", "C"], ["A", 2, "N"]]]}, "[1]: the", True),
    ({"sequences": [PROTEIN], "bonds": [[["Z", 1, "C"], ["A", 2, "N"]]]}, "chain 'Z'", False),
    ({"sequences": [PROTEIN], "bonds": [[["A", 1, "C"], ["A", 9, "N"]]]}, "from 1 to 3", False),
    ({"sequences": [PROTEIN], "bonds": [[["A", 1, "C"], ["A", 1, "C"]]]}, "with itself", False),
    ({"sequences": [PROTEIN], "constraints": [{"bonds": {}}]}, "did you mean 'bond'?", True),
    ({"sequences": [PROTEIN], "templates": [{"chain_id": "A"}]}, "none of cif, pdb", True),
    ({"sequences": [PROTEIN], "templates": [{"cif": "no.cif"}]}, "does not exist", False),
    ({"sequences": [PROTEIN], "properties": [{"logp": {}}]}, "unknown key 'logp'", True),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message", "by_schema"), ERRORS)
def test_errors_and_the_schema_agree(refused, data: dict, message: str, by_schema: bool):
    for name, text in [("in.json", json.dumps(data)), ("in.yaml", yaml.safe_dump(data))]:
        assert message in str(refused(text, name))
    jsonschema = pytest.importorskip("jsonschema")
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(data) != by_schema


@pytest.mark.parametrize(
    ("modifications", "message"),
    [
        (
            "[{position: 4, ccd: SEP}]",
            "position 4 of a sequence of 3 residues; expected a position",
        ),
        ("[{position: 0, ccd: SEP}]", "position: the number 0; expected a number at least 1"),
        ("[{position: 1, ccd: SEP}, {position: 1, ccd: TPO}]", "modified twice (SEP and TPO)"),
        ("[{position: 2, ccd: SEP}]", "position 2 is modified twice (MSE and SEP)"),
        ("[{position: 1, cdd: SEP}]", "did you mean 'ccd'?"),
    ],
)
def test_modifications(refused, modifications: str, message: str):
    text = f"sequences:\n- protein:\n    sequence: M[MSE]V\n    modifications: {modifications}\n"
    error = refused(text)
    assert message in str(error)
    assert "input.yaml:4: sequences[0].protein.modifications[" in error.where


def test_templates_that_fit_nothing(refused, files):
    start = (
        "sequences: [protein: {id: A, sequence: MK}, dna: {id: B, sequence: AC}]\ntemplates:\n- "
    )
    for template, message in [
        ("{cif: t.cif, chain_id: C}", "there is no chain 'C'; expected one of A, B"),
        ("{cif: t.cif, chain_id: B}", "a chain that is not a protein"),
        ("{cif: t.cif, chain_id: A, template_id: [X, Y]}", "2 template_id for 1 chain_id"),
        ("{cif: t.cif, template_id: X}", "1 template_id for 0 chain_id"),
        ("{cif: t.cif, pdb: t.pdb}", "both cif and pdb"),
    ]:
        assert message in str(refused(start + template))


def test_the_schema_is_valid_and_accepts_what_the_reader_accepts(read, files):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    quoted = (
        FULL.replace("id: 1,", "id: '1',")
        .replace("[1, 1", "['1', 1")
        .replace("[1, 2, C1", "['1', 2, C1")
    )
    quoted = quoted.replace("NO", "'NO'")
    assert not list(validator.iter_errors(yaml.safe_load(quoted)))
    assert validator.is_valid([yaml.safe_load(quoted)])
    assert not validator.is_valid([])
    (query,) = read(quoted)
    assert query.entities[5].ccd == ("NO",)


def test_every_key_of_the_schema_is_described():
    def bare(schema: Any, path: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        found = []
        for key, item in schema.get("properties", {}).items():
            if not (item.get("description") or item.get("properties")) and "items" not in item:
                found.append(f"{path}.{key}")
            found += bare(item, f"{path}.{key}")
        return found + bare(schema.get("items"), f"{path}[]")

    assert bare(json_schema()["$defs"]["query"], "") == []


def test_seeds_once_each(read):
    (query,) = read("seeds: [3, 1, 3]\nsequences: [protein: {sequence: MK}]\n")
    assert query.seeds == (3, 1)
    assert "given twice" in query.warnings[0]
    (query,) = read("seeds: 5\nsequences: [protein: {sequence: MK}]\n")
    assert query.seeds == (5,)


def test_null_is_as_good_as_absent_for_what_is_optional(read):
    (query,) = read(
        "name:\nseeds: null\nsequences: [protein: {sequence: MK, msa: ~}]\ntemplates:\n"
    )
    assert (query.name, query.seeds, query.entities[0].msa) == ("input", None, None)


def test_alias_bombs_are_harmless(refused):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
    )
    error = refused(bomb + "sequences: *u\n")
    assert isinstance(error, InputError) and len(str(error)) < 1000
