"""Places in messages, and syntax errors of JSON and YAML."""

from pathlib import Path

import pytest

from seedfold.data_pipeline.dialects.place import Place, describe, load_json, load_yaml
from seedfold.data_pipeline.errors import InputError

YAML = """name: x
sequences:
  - protein:
      id: A
      sequence: MK
  - ligand: {id: B,
             ccd: 017}
"""


def test_a_yaml_place_knows_lines_and_texts_as_written():
    data, place = load_yaml(YAML, Path("in.yaml"))
    spot = place.child("sequences").child(1).child("ligand").child("ccd")
    assert data["sequences"][1]["ligand"]["ccd"] == 15
    assert str(spot) == "in.yaml:7: sequences[1].ligand.ccd"
    assert spot.node is not None and spot.node.value == "017"
    assert str(place.child("sequences").child(0).child("protein").child("id")).startswith(
        "in.yaml:4:"
    )


def test_error_has_all_four_parts():
    error = Place(Path("a.json"), ("x", 2)).error("found", expected="expected", todo="do")
    assert str(error) == "a.json: x[2]: found; expected expected; do"
    assert (error.where, error.found) == ("a.json: x[2]", "found")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [1, 2', "in:1: column 12: the JSON ends too early; is the file truncated?"),
        ('{"a": "b', "in:1: column 7: the JSON ends too early"),
        ('{"a": 1,\n "b" 2}', "in:2: column 6: not valid JSON (Expecting ':' delimiter)"),
        ('{"s": "C\\C"}', "in a SMILES write every backslash twice"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "huge number"),
    ],
)
def test_json_that_cannot_be_read(text: str, message: str):
    with pytest.raises(InputError) as caught:
        load_json(text, Path("in"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "in: the YAML ends too early; is the file truncated?"),
        ("a: b: c", "in:1: column 5: not valid YAML"),
        ("a: 1\n\tb: 2", "in:2: column 1: not valid YAML"),
        ("smiles: [O-]S(=O)", "quote SMILES"),
        ("a:\n  b: 1\n  b: 2", "in:2: the key 'b' is given twice"),
        ("a: 2024-13-45", "not valid YAML (month must be in 1..12"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("a: \x13", "not text: special characters are not allowed"),
    ],
)
def test_yaml_that_cannot_be_read(text: str, message: str):
    with pytest.raises(InputError) as caught:
        load_yaml(text, Path("in"))
    assert message in str(caught.value)


def test_descriptions_stay_short():
    assert describe("x" * 1000) == f"the text '{'x' * 37}...'"
    assert len(describe(10**4000)) < 50
    assert describe([[1] * 100] * 100) == "a list of 100"
    assert [describe(value) for value in (None, True, [], {})] == [
        "nothing", "true", "an empty list", "a mapping",
    ]  # fmt: skip
