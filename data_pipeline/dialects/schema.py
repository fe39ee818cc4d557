"""The little of JSON Schema (draft 2020-12) that the readers need, with errors that help.

A dialect is written down as a schema and read by `check`; what a dialect accepts and what its
published schema says are therefore the same thing. Supported keywords: ``type`` (one or several),
``properties`` (closed), ``required``, ``items``, ``prefixItems``, ``minItems``, ``maxItems``,
``enum``, ``minimum``, ``maximum``, ``pattern``, ``minProperties``, ``maxProperties``; ``oneOf`` and
``not`` with a list of ``{"required": [...]}`` inside.

Deviations: a null for an optional property means that it is absent; a YAML scalar that reads as
a number, date or truth value (``ccd: 017``, ``id: NO``) is taken as written where text is due.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any

import yaml

from seedfold.data_pipeline.dialects.place import Place, describe

Schema = dict[str, Any]

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "object": ((dict,), "a mapping"),
    "array": ((list,), "a list"),
    "string": ((str,), "a text"),
    "integer": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
}


def text(description: str = "", **keywords: Any) -> Schema:
    """Returns the schema of a text that is not blank."""
    return {"type": "string", "pattern": r"\S", "description": description, **keywords}


def array(items: Schema, description: str = "", **keywords: Any) -> Schema:
    """Returns the schema of a list."""
    return {"type": "array", "items": items, "description": description, **keywords}


def text_or_list(description: str) -> Schema:
    """Returns the schema of one text or a list of texts."""
    return {**text(description), "type": ["string", "array"], "items": text(), "minItems": 1}


def mapping(
    required: dict[str, Schema],
    optional: dict[str, Schema] | None = None,
    description: str = "",
    **keywords: Any,
) -> Schema:
    """Returns the schema of a mapping with these keys and no others."""
    nullable = {key: _nullable(schema) for key, schema in (optional or {}).items()}
    return {
        "type": "object",
        "description": description,
        "properties": {**required, **nullable},
        "required": list(required),
        "additionalProperties": False,
        **keywords,
    }


def one_key(choices: dict[str, Schema], description: str = "") -> Schema:
    """Returns the schema of a mapping with exactly one of these keys."""
    return {
        **mapping({}, description=description, minProperties=1, maxProperties=1),
        "properties": choices,
    }


def exactly_one(*keys: str) -> list[Schema]:
    """Returns the ``oneOf`` that demands one of several keys."""
    return [{"required": [key]} for key in keys]


def check(value: Any, schema: Schema, place: Place) -> Any:
    """Returns the value without nulls and with texts as written, or raises `InputError`."""
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    value = _typed(value, types, schema, place)
    if isinstance(value, dict) and "properties" in schema:
        return _check_mapping(value, schema, place)
    if isinstance(value, list) and ("items" in schema or "prefixItems" in schema):
        return _check_list(value, schema, place)
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found = describe(value) if value.strip() else "an empty text"
        raise place.error(found, expected=schema["description"] or "a text that is not blank")
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(str(choice) for choice in schema["enum"] if choice is not None)
        raise place.error(describe(value), expected=known, todo=suggest(value, schema["enum"]))
    if isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        least, most = schema.get("minimum"), schema.get("maximum")
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise place.error(describe(value), expected=f"a number {limits}")
    return value


def suggest(word: Any, known: Iterable[Any]) -> str:
    """Returns ``did you mean '...'?`` if something known is spelt alike, else nothing."""
    lower = {str(choice).lower(): str(choice) for choice in known if choice is not None}
    close = difflib.get_close_matches(str(word).lower(), lower, n=1, cutoff=0.6)
    return f"did you mean '{lower[close[0]]}'?" if close else ""


def _nullable(schema: Schema) -> Schema:
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [*types, "null"], **enum}


def _is(value: Any, name: str) -> bool:
    if name == "null":
        return value is None
    return isinstance(value, _TYPES[name][0]) and isinstance(value, bool) == (name == "boolean")


def _typed(value: Any, types: list[str], schema: Schema, place: Place) -> Any:
    if any(_is(value, name) for name in types):
        return value
    if "integer" in types and isinstance(value, float) and value.is_integer():
        return int(value)
    scalar = place.node if isinstance(place.node, yaml.ScalarNode) else None
    if "string" in types and value is not None and scalar is not None:
        return scalar.value
    expected = " or ".join(_TYPES[name][1] for name in types if name != "null")
    todo = "put quotes around it" if "string" in types and scalar is None and place.node else ""
    raise place.error(describe(value), expected=_with_hint(expected, schema), todo=todo)


def _check_mapping(value: dict[Any, Any], schema: Schema, place: Place) -> dict[str, Any]:
    properties: dict[str, Schema] = schema["properties"]
    for key in value:
        if key not in properties:
            raise place.error(
                f"unknown key {str(key)[:40]!r}",
                expected=_list(properties, "only"),
                todo=suggest(key, properties),
            )
    for key in schema["required"]:
        if key not in value:
            raise place.error(f"the key '{key}' is missing", expected=_list(schema["required"]))
    given = [key for key in properties if key in value]
    if not schema.get("minProperties", 0) <= len(given) <= schema.get("maxProperties", len(given)):
        found = f"both {' and '.join(given[:2])}" if given else "an empty mapping"
        raise place.error(found, expected=_list(properties, "exactly one of"))
    found_value = {key: check(value[key], properties[key], place.child(key)) for key in given}
    result = {key: item for key, item in found_value.items() if item is not None}
    _check_alternatives(result, schema, place)
    return result


def _check_alternatives(value: dict[str, Any], schema: Schema, place: Place) -> None:
    if "oneOf" in schema:
        keys = [branch["required"][0] for branch in schema["oneOf"]]
        given = [key for key in keys if key in value]
        if len(given) != 1:
            found = f"both {' and '.join(given[:2])}" if given else f"none of {_list(keys)}"
            raise place.error(found, expected=_list(keys, "exactly one of"))
    for branch in schema.get("not", {}).get("anyOf", []):
        if all(key in value for key in branch["required"]):
            raise place.error(
                f"both {' and '.join(branch['required'])}", expected="only one of them"
            )


def _check_list(value: list[Any], schema: Schema, place: Place) -> list[Any]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        count = f"{least}" if least == most else f"at least {least}"
        raise place.error(describe(value), expected=_with_hint(f"a list of {count}", schema))
    items = schema.get("prefixItems", [schema.get("items")] * len(value))
    return [check(item, items[i], place.child(i)) for i, item in enumerate(value)]


def _with_hint(expected: str, schema: Schema) -> str:
    hint = schema.get("description", "")
    if hint[1:2].islower():
        hint = hint[0].lower() + hint[1:]
    return f"{expected}: {hint}" if hint else expected


def _list(keys: Iterable[str], before: str = "") -> str:
    return f"{before} {', '.join(keys)}".strip()
