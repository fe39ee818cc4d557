"""The checker against the jsonschema package, and the words of its errors."""

from pathlib import Path
from typing import Any

import pytest

from seedfold.data_pipeline.dialects.place import Place
from seedfold.data_pipeline.dialects.schema import (
    array,
    check,
    exactly_one,
    mapping,
    one_key,
    suggest,
    text,
    text_or_list,
)
from seedfold.data_pipeline.errors import InputError

SCHEMA = mapping(
    {"name": text("Name"), "kind": {"type": "string", "enum": ["big", "small"]}},
    {
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "ids": text_or_list("Ids"),
        "pair": {
            "type": "array",
            "prefixItems": [text("A"), {"type": "integer"}],
            "items": False,
            "minItems": 2,
            "maxItems": 2,
        },
        "rows": array(one_key({"a": text(), "b": {"type": "number"}}), minItems=1),
        "source": mapping({}, {"x": text(), "y": text()}, oneOf=exactly_one("x", "y")),
        "flag": {"type": "boolean"},
    },
)
GOOD: dict[str, Any] = {"name": "n", "kind": "big"}
DOCUMENTS = [
    (GOOD, ""),
    ({**GOOD, "count": 3, "ids": ["a"], "pair": ["a", 1], "rows": [{"b": 1.5}]}, ""),
    ({**GOOD, "count": 3.0, "ids": "a", "source": {"y": "1"}, "flag": False}, ""),
    ({**GOOD, "count": None, "flag": None}, ""),
    ({"kind": "big"}, "x: the key 'name' is missing"),
    ({**GOOD, "nmae": 1}, "x: unknown key 'nmae'; expected only name, kind, count"),
    ({**GOOD, "name": " "}, "x: name: an empty text"),
    ({**GOOD, "name": 5}, "x: name: the number 5; expected a text: name"),
    ({**GOOD, "kind": "Smal"}, "did you mean 'small'?"),
    ({**GOOD, "count": 0}, "x: count: the number 0; expected a number from 1 to 9"),
    ({**GOOD, "count": True}, "x: count: true; expected a whole number"),
    ({**GOOD, "count": 1.5}, "expected a whole number"),
    ({**GOOD, "flag": 1}, "x: flag: the number 1; expected true or false"),
    ({**GOOD, "ids": []}, "x: ids: an empty list"),
    ({**GOOD, "ids": {}}, "x: ids: a mapping; expected a text or a list"),
    ({**GOOD, "pair": ["a"]}, "x: pair: a list of 1; expected a list of 2"),
    ({**GOOD, "pair": [1, 1]}, "x: pair[0]: the number 1"),
    ({**GOOD, "rows": [{"a": "1", "b": 2}]}, "x: rows[0]: both a and b; expected exactly one of"),
    ({**GOOD, "rows": [{}]}, "x: rows[0]: an empty mapping"),
    ({**GOOD, "source": {"x": "1", "y": "2"}}, "x: source: both x and y"),
    ({**GOOD, "source": {}}, "x: source: none of x, y; expected exactly one of x, y"),
    ([GOOD], "x: a list of 1; expected a mapping"),
]


@pytest.mark.parametrize(("document", "message"), DOCUMENTS)
def test_messages(document: Any, message: str):
    if not message:
        checked = check(document, SCHEMA, Place(Path("x")))
        assert checked == {key: value for key, value in document.items() if value is not None}
        return
    with pytest.raises(InputError) as caught:
        check(document, SCHEMA, Place(Path("x")))
    assert message in str(caught.value)


@pytest.mark.parametrize(("document", "message"), DOCUMENTS)
def test_agrees_with_the_jsonschema_package(document: Any, message: str):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    assert validator.is_valid(document) == (message == "")


def test_suggestions_ignore_case_and_need_likeness():
    assert suggest("SEQUENCE", ["sequence", "id"]) == "did you mean 'sequence'?"
    assert suggest("modelSeeds", ["seeds", "name"]) == "did you mean 'seeds'?"
    assert suggest("zzz", ["seeds", None]) == ""
