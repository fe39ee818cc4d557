import gzip
from pathlib import Path

import numpy as np
import pytest

from seedfold.data_pipeline.alignments import pairing_key, read_msa
from seedfold.data_pipeline.chemistry import RESTYPE_INDEX
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Document

SHARED = Path(__file__).resolve().parents[2] / "../shared/data/msa"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no shared alignments")

QUERY = "MKTAYI"
GAP = RESTYPE_INDEX["-"]
A3M = ">query\nMKTAYI\n>one OX=9606\nMR-aaAYI\n>two\n--Tgg-YIk\n"


def read(text: str, query: str = QUERY, kind="protein"):
    return read_msa(Document(name="x.a3m", text=text), query, kind)


def letters(msa, kind="protein") -> list[str]:
    alphabet = dict(zip("ARNDCQEGHILKMFPSTWYVX", range(21), strict=True))
    names = {index: letter for letter, index in alphabet.items()} | {GAP: "-"}
    return ["".join(names[c] for c in row) for row in msa.rows.tolist()]


FORMATS = {
    "a3m": A3M,
    "a3m with Windows line ends": A3M.replace("\n", "\r\n"),
    "a3m with blank lines and a comment": "#6\t1\n" + A3M.replace(">one", "\n\n>one"),
    "a3m with null bytes": A3M.replace(">one", "\0>one") + "\0",
    "a3m in wrapped lines": A3M.replace("MR-aaAYI", "MR-aa\nAYI"),
    "a3m with a lower-case query": A3M.replace("MKTAYI", "mktayi"),
    "a2m": ">q\nMKT..AYI.\n>one OX=9606\nMR-aaAYI.\n>two\n--Tgg-YIk\n",
    "aligned FASTA": ">q\nMKT--AYI-\n>one OX=9606\nMR-AAAYI-\n>two\n--TGG-YIK\n",
    "aligned FASTA with dots": ">q\nMKT..AYI.\n>one OX=9606\nMR.AAAYI.\n>two\n..TGG.YIK\n",
    "aligned FASTA in lower case": ">q\nmkt--ayi-\n>one OX=9606\nmr-aaayi-\n>two\n--tgg-yik\n",
    "Stockholm": "# STOCKHOLM 1.0\n#=GS one DE hit OX=9606\n\nquery MKT..AYI.\none   MR-aaAYI.\n"
    "two   ..Tgg.YIk\n//\n",
    "CSV": "key,sequence\n0,MKTAYI\n9606,MR-aaAYI\n-1,--Tgg-YIk\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_alignment(name):
    msa = read(FORMATS[name])
    assert letters(msa) == ["MKTAYI", "MR-AYI", "--T-YI"]
    assert msa.deletions.tolist() == [[0] * 6, [0, 0, 0, 2, 0, 0], [0, 0, 0, 2, 0, 0]]
    assert msa.pairing_keys[1:] == ("9606", "")
    assert msa.warnings == ()


def test_a_compressed_file_is_read(tmp_path):
    path = tmp_path / "x.a3m.gz"
    path.write_bytes(gzip.compress(A3M.encode()))
    msa = read_msa(Document(name="x.a3m.gz", path=path), QUERY, "protein")
    assert letters(msa) == ["MKTAYI", "MR-AYI", "--T-YI"]


def test_protein_letters_without_a_class_of_their_own():
    row = read(">q\nACDEFGHIK\n>b\nBJOUXZ*CE\n", "ACDEFGHIK").rows[1]
    names = ["ASP", "UNK", "UNK", "CYS", "UNK", "GLU", "UNK", "CYS", "GLU"]
    assert row.tolist() == [RESTYPE_INDEX[n] for n in names]


@pytest.mark.parametrize(
    "kind, sequence, names",
    [("rna", "ACGUTRN-", ["A", "C", "G", "U", "U", "N", "N", "-"]),
     ("dna", "ACGUTRN-", ["DA", "DC", "DG", "DT", "DT", "DN", "DN", "-"])],
)  # fmt: skip
def test_nucleotide_letters(kind, sequence, names):
    query = "AAAAAAAA"
    row = read(f">q\n{query}\n>b\n{sequence}\n", query, kind).rows[1]
    assert row.tolist() == [RESTYPE_INDEX[n] for n in names]


@pytest.mark.parametrize(
    "description, key",
    [
        ("UniRef100_A0A0M5M6Q1_2562661/\t257\t0.978", "2562661"),
        ("UniRef90_Q8WZ42 Titin n=3 Tax=Homo TaxID=9606 RepID=TITIN_HUMAN", "9606"),
        ("sp|P69905|HBA_HUMAN Hemoglobin OS=Homo sapiens OX=9606 GN=HBA1", "9606"),
        ("tr|A0A146SKV9|A0A146SKV9_FUNHE Fatty acid/10-60", "FUNHE"),
        ("tr|Q1A0D7_1|Q1A0D7_9BACT", "9BACT"),
        ("HBA_HUMAN/1-141", "HUMAN"),
        ("UniRef100_A0A0M5M6Q1", ""),
        ("SRR5579883_53258/1-80", ""),
        ("AP008231.1_1705600_1705768_f/59-111", ""),
        ("A0A1X9SF42\t224\t0.836", ""),
        ("query", ""),
    ],
)
def test_pairing_keys(description, key):
    assert pairing_key(description) == key


@needs_shared
@pytest.mark.parametrize("name, n_rows, n_species", [("7wux_1", 272, 230), ("7wux_2", 293, 242)])
def test_species_of_real_headers_are_as_many_as_protenix_finds(name, n_rows, n_species):
    path = SHARED / name / "pairing.a3m.gz"
    query = gzip.decompress(path.read_bytes()).decode().split("\n")[1]
    msa = read_msa(Document(name=name, path=path), query, "protein")
    assert (msa.depth, len({*msa.pairing_keys} - {""})) == (n_rows, n_species)


@needs_shared
def test_real_rna_alignments_written_with_t_keep_their_uracils():
    path = SHARED / "rna/3owzA.a3m.gz"
    query = gzip.decompress((SHARED / "rna/3owzA.fasta.gz").read_bytes()).decode().split()[1]
    msa = read_msa(Document(name="3owzA", path=path), query, "rna")
    written = gzip.decompress(path.read_bytes()).decode()
    rows = [line for line in written.split("\n") if line and not line.startswith(">")]
    assert (msa.rows == RESTYPE_INDEX["U"]).sum() == sum(r.count("T") + r.count("U") for r in rows)
    assert not (msa.rows == RESTYPE_INDEX["N"]).any()


def test_a_construct_shorter_than_the_query_is_found_in_it():
    msa = read(">q\nMKTAYI\n>a OX=1\nMK-ggAYI\n>b OX=2\nMK----\n>c OX=3\nMKTccAAA\n", "TAYI")
    assert letters(msa) == ["TAYI", "-AYI", "TAAA"]
    assert msa.deletions[:, 1].tolist() == [0, 2, 2]
    assert msa.pairing_keys == ("", "1", "3")
    assert msa.warnings == ("x.a3m: used columns 3-6 of 6",)


def test_a_construct_longer_than_the_query_is_padded_with_gaps():
    msa = read(A3M, "GS" + QUERY + "H")
    assert letters(msa) == ["GSMKTAYIH", "--MR-AYI-", "----T-YI-"]
    assert msa.deletions[1].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0]
    assert msa.warnings == ("x.a3m: 3 residues of the sequence have no column",)


def test_unknown_residues_agree_with_any():
    assert letters(read(A3M, "MKXAYI"))[0] == "MKTAYI"
    assert letters(read(A3M.replace("MKTAYI", "MKXAYI")))[0] == "MKTAYI"


@pytest.mark.parametrize(
    "text, query, message",
    [
        (A3M, "MKTAWI", r"differs from the sequence at position 5.*make the alignment for this"),
        (A3M, "MKWAYIMKWAYI", r"\(6 residues\) differs from the sequence at position 3.*12 resid"),
        (">q\nMKTAYI\n\n>b\nMKTAY\n", QUERY, r"x.a3m:4: row 2 \(b\): 5 aligned columns.*6 as in"),
        (">q\nMKTAYI\n>b\n>c\nMKTAYI\n", QUERY, r"x.a3m:3: row 2 \(b\): 0 aligned columns"),
        (">q\nMKTAYI\n>b\nMK1AYI\n", QUERY, r"x.a3m:3: row 2 \(b\): '1' is not a residue"),
        (">q\nMKTAYI\n>b\nMKäAYI\n", QUERY, "'ä' is not a residue"),
        (">q\n>b\nMKTAYI\n", QUERY, "the first row has no residues"),
        ("", QUERY, "the alignment is empty; name no alignment"),
        (" \n\0\n", QUERY, "the alignment is empty"),
        ("{}", QUERY, "not an alignment: it begins with '{}'"),
        ("key,sequence\n", QUERY, "the first row has no residues"),
        ("# STOCKHOLM 1.0\nquery MKTAYI\n", QUERY, "cut off; expected a Stockholm alignment that"),
        ("# STOCKHOLM 1.0\na MKTAYI\nb MK\n//\n", QUERY, "not a Stockholm alignment"),
    ],
)
def test_errors_say_where_and_what(text, query, message):
    with pytest.raises(InputError, match=message):
        read(text, query)


def test_profile_is_the_share_of_each_class():
    profile = read(A3M).profile
    assert profile[0, RESTYPE_INDEX["MET"]] == pytest.approx(2 / 3)
    assert profile[0, GAP] == pytest.approx(1 / 3)
    np.testing.assert_allclose(profile.sum(1), 1)


def test_unique_rows_ignore_insertions_and_keep_the_first():
    msa = read(A3M + ">three\nMRg-AYI\n>four\nMKTAYI\n").unique()
    assert msa.descriptions == ("query", "one OX=9606", "two")
