"""FASTA: plain, Boltz's and Chai's headers."""

import pytest

from seedfold.data_pipeline.query import Document


def chains(query):
    return [(entity.kind, entity.chains, entity.sequence) for entity in query.entities]


def test_plain_records_are_chains_of_one_complex(read):
    (query,) = read(">A\nMKVLLW\n>B\nGATTACAGATTACA\n>C\nGGCUAC\n>D\nmkvllw\n", "complex.fasta")
    assert query.name == "complex"
    assert chains(query) == [
        ("protein", ("A", "D"), "MKVLLW"),
        ("dna", ("B",), "GATTACAGATTACA"),
        ("rna", ("C",), "GGCUAC"),
    ]
    assert query.warnings == ()


def test_each_record_its_own_query(read):
    text = ">sp|P69905|HBA_HUMAN Hemoglobin\nMVLSPADK\n>HBB\nMVHLTPEE\n>HBB\nMVHLTPEE:MVHLTPEE\n"
    first, second, third = read(text, "set.fasta", each=True)
    assert (first.name, second.name, third.name) == ("sp_P69905_HBA_HUMAN", "HBB", "HBB_2")
    assert chains(first) == [("protein", ("A",), "MVLSPADK")]
    assert chains(third) == [("protein", ("A", "B"), "MVHLTPEE")]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("A", ("A",)),
        ("1", ("1",)),
        ("chain_a", ("A",)),
        ("sp|P69905|HBA_HUMAN Hemoglobin subunit alpha OS=Homo sapiens", ("A",)),
        ("7R6R_1|Chain D|Repressor|phage (1)", ("D",)),
        ("7R6R_1|Chains C, D[auth H]|Repressor|phage (1)", ("C", "D")),
        ("", ("A",)),
    ],
)
def test_chain_ids_of_plain_headers(read, header: str, expected: tuple[str, ...]):
    (query,) = read(f">{header}\nMKVLLW\n", "a.fasta")
    assert query.entities[0].chains == expected


def test_free_ids_skip_those_taken(read):
    (query,) = read(">first one\nMKV\n>A\nMKL\n>third one\nMKI\n", "a.fasta")
    assert [entity.chains for entity in query.entities] == [("B",), ("A",), ("C",)]


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("x protein", "protein"),
        ("x type=protein", "protein"),
        ("101m_A mol:protein length:154  MYOGLOBIN", "protein"),
        ("x mol:na length:7", "dna"),
        ("x|rna", "rna"),
        ("x DNA polymerase", "dna"),
        ("FBpp0070000 type=polypeptide; loc=X", "dna"),
    ],
)
def test_a_header_may_state_the_type(read, header: str, kind: str):
    (query,) = read(f">{header}\nGGCAGC\n", "a.fasta")
    assert query.entities[0].kind == kind
    stated = kind != "dna"
    assert bool(query.warnings) != stated


def test_a_guess_that_may_be_wrong_is_said(read):
    (query,) = read(">P\nGAG\n", "a.fasta")
    (warning,) = query.warnings
    assert "a.fasta:1: chain P: " in warning
    assert "read as DNA" in warning and "type=protein" in warning


def test_boltz_headers(read, tmp_path):
    (tmp_path / "a.a3m").write_text(">q\nMKV\n")
    text = ">A|protein|a.a3m\nMKV\n>B|PROTEIN|empty\nMKL\n>C|smiles\nCC(=O)O\n>D|ccd\nNAG_BMA\n"
    (query,) = read(text, "a.fasta")
    first, second, third, fourth = query.entities
    assert first.msa == Document(name="a.a3m", path=tmp_path / "a.a3m")
    assert second.msa is not None and second.msa.text == ">query\nMKL\n"
    assert (third.smiles, third.chains) == ("CC(=O)O", ("C",))
    assert fourth.ccd == ("NAG", "BMA")


def test_chai_headers(read):
    text = (
        ">protein|name=kinase\nMK(SEP)A\n>ligand|name=acid\nCC(=O)O\n>dna|d\nACCA\n"
        ">glycan|sugar\nNAG(4-1 NAG)\n>glycan|sugar\nNAG(4-1 NAG)\n"
    )
    (query,) = read(text, "a.fasta")
    assert query.entities[0].modifications == ((3, "SEP"),)
    assert query.entities[1].smiles == "CC(=O)O"
    assert query.entities[2].kind == "dna"
    assert (query.entities[3].ccd, query.entities[3].chains) == (("NAG", "NAG"), ("D", "E"))
    assert [(a.chain, a.atom, b.position, b.atom) for a, b in query.bonds] == [
        ("D", "O4", 2, "C1"), ("E", "O4", 2, "C1"),
    ]  # fmt: skip
    assert query.warnings == ()


def test_names_of_typed_records_alone(read):
    text = ">protein|name=kinase\nMKA\n>B|rna\nACG\n"
    assert [query.name for query in read(text, "a.fasta", each=True)] == ["kinase", "B"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("\n\n>A\nMKV\n>B\nMKZ\n", ["a.fasta:5: chain B: 'Z' is not an amino-acid code"]),
        (">A\nMKV\n>B\n", ["a.fasta:3: record B: a record without a sequence", "truncated"]),
        (">A\n>B\nMKV\n", ["a.fasta:1: record A: a record without a sequence"]),
        (">A\nMKV\n>A\nMKL\n", ["a.fasta:3: chain A: the chain id 'A' is already taken", ":1"]),
        (">A|protein|none.a3m\nMK\n", ["a.fasta:1: chain A: the file 'none.a3m' does not exist"]),
        (">A|dna|x.a3m\nAC\n", ["too many fields in the header '>A|dna|x.a3m'"]),
        (">protein|nmae=x\nMK\n", ["unknown option 'nmae'", "did you mean 'name'?"]),
        (">x type=protien\nMK\n", ["the type 'protien'", "did you mean 'protein'?"]),
        (">a b\nGGAUTC\n", ["'T' is not an RNA code at position 5", "make it DNA"]),
        (">x y\nCC(=O)Oc1ccccc1\n", ["'=O' is not a CCD code"]),
        (">x y\nMK:\n", ["an empty sequence"]),
        (">glycan|g\nNAG(4-1 NAG\n", ["a.fasta:1: record glycan|g: the glycan"]),
    ],
)
def test_errors(refused, text: str, parts: list[str]):
    message = str(refused(text, "a.fasta"))
    for part in parts:
        assert part in message
