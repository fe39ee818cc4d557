"""The front door: which dialect it is, names of queries, files that are none of them."""

import gzip
from pathlib import Path

import pytest

from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.errors import InputError


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        (
            "a.fasta",
            gzip.compress(b">A\nMKV\n", mtime=0),
            ["a.fasta: this is a gzip archive", "unpack"],
        ),
        ("a.fasta", b">A\nMK\0V\n", ["binary file", "NUL"]),
        ("a.fasta", b">A\nMKV\n>caf\xe9\nMK\n", ["a.fasta:3: byte 0xe9 is not UTF-8"]),
        ("a.fasta", b"", ["the file is empty"]),
        ("a.yaml", b" \n\t\n", ["the file is empty"]),
        ("a.fasta", b"MKVLL\nAAA\n", ["not a FASTA header but the text 'MKVLL'", "'>A'"]),
        ("a.txt", b"MKVLL", ["'>A'"]),
        ("a.cif", b"data_1ABC\n#\n", ["structure file"]),
        ("a.pdb", b"HEADER    HYDROLASE\n", ["structure file"]),
        ("a.json", b"sequences: []", ["JSON does not start with 's'"]),
        ("a.yaml", b"- 5", ["[0]: the number 5; expected a mapping with the key 'sequences'"]),
        ("a.json", b"[]", ["an empty list; expected at least one job"]),
        ("a.json", b'{"sequences": 5}', ["sequences: the number 5; expected a list"]),
        ("a.json", b'{"sequences": []}', ["sequences: an empty list; expected a list of at least"]),
        ("a.json", b'{"dialect": "alphafold", "sequences": []}', ["did you mean 'alphafold3'?"]),
        ("a.json", b'{"dialect": 3, "sequences": []}', ["dialect: the number 3"]),
        ("a.json", b"{}", ["the key 'sequences' is missing"]),
    ],
)
def test_what_is_no_input_is_refused_with_a_reason(
    tmp_path: Path, name: str, content: bytes, parts: list[str]
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_queries(tmp_path / name)
    for part in parts:
        assert part in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        read_queries(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="this is a folder"):
        read_queries(tmp_path)


def test_byte_order_marks_and_line_ends_of_other_systems(tmp_path: Path):
    text = ">A\r\nMK\r\nVL\r\n"
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a.fasta").write_bytes(text.encode(encoding))
        assert read_queries(tmp_path / "a.fasta")[0].entities[0].sequence == "MKVL"


def test_names_are_fit_for_folders_and_unique(read):
    jobs = [
        ("../../etc/passwd", "etc_passwd"),
        ("My job #1", "My_job_1"),
        ("my JOB #1", "my_JOB_1_2"),
        ("..", "query"),
        ("x" * 300, "x" * 100),
        ("Bindung-\u00e4", "Bindung-\u00e4"),
    ]
    text = "\n".join(
        f"- {{name: '{name}', sequences: [protein: {{sequence: MK}}]}}" for name, _ in jobs
    )
    assert [query.name for query in read(text)] == [safe for _, safe in jobs]


def test_jobs_without_names_are_numbered(read):
    job = '{"sequences": [{"protein": {"sequence": "MK"}}]}'
    assert [query.name for query in read(f"[{job}, {job}]", "set.v2.json")] == [
        "set.v2_1",
        "set.v2_2",
    ]
    assert [query.name for query in read(f"[{job}]", "set.v2.json")] == ["set.v2"]


def test_one_file_may_mix_job_dialects(read):
    native = '{"sequences": [{"protein": {"sequence": "MK"}}]}'
    server = '{"sequences": [{"proteinChain": {"sequence": "MK", "count": 2}}]}'
    seedfold = '{"job_name": "s", "entities": [{"entity": "Protein", "sequence": "MK"}]}'
    queries = read(f"[{native}, {server}, {seedfold}]", "a.json")
    assert [len(query.entities[0].chains) for query in queries] == [1, 2, 1]
