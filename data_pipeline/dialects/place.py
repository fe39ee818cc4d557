"""Where in an input something stands: from bytes on disk to text, data and error messages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Document

_MAGIC = {
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\xfd7zXZ": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"%PDF": "a PDF document",
}


@dataclass(frozen=True)
class Place:
    """A place in an input file: ``input.yaml:7: sequences[1].protein``."""

    file: Path
    path: tuple[str | int, ...] = ()
    line: int | None = None
    label: str = ""
    node: yaml.Node | None = None
    """The YAML node that stands here: source of line numbers and of texts as written."""

    def __str__(self) -> str:
        steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path]
        spot = self.label or "".join(steps).removeprefix(".")
        line = "" if self.line is None else f":{self.line}"
        return f"{self.file}{line}: {spot}" if spot else f"{self.file}{line}"

    def child(self, key: str | int) -> "Place":
        """Returns the place of an item of the mapping or list that stands here."""
        node = line = None
        if isinstance(self.node, yaml.SequenceNode) and isinstance(key, int):
            node = self.node.value[key]
            line = node.start_mark.line + 1
        elif isinstance(self.node, yaml.MappingNode):
            for key_node, value_node in self.node.value:
                if key_node.value == key:
                    node, line = value_node, key_node.start_mark.line + 1
        return replace(self, path=(*self.path, key), node=node, line=line or self.line)

    def error(self, found: str, *, expected: str = "", todo: str = "") -> InputError:
        """Makes, but does not raise, the error for what was found here."""
        return InputError(str(self), found, expected=expected, todo=todo)


def read_text(path: Path) -> str:
    """Reads a text file as UTF-8 with ``\\n`` line ends."""
    place = Place(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise place.error("no such file", todo="check the path") from None
    except IsADirectoryError:
        raise place.error("this is a folder", expected="an input file") from None
    except OSError as error:
        raise place.error(f"cannot be read ({error.strerror})") from None
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise place.error(f"this is {what}", expected="plain text", todo="unpack it first")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise replace(place, line=line).error(
            f"byte {data[error.start]:#04x} is not UTF-8 text",
            expected="FASTA, YAML or JSON as plain text",
        ) from None
    if "\0" in text:
        raise place.error(
            "this is a binary file (it holds NUL bytes)", expected="FASTA, YAML or JSON text"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise place.error("the file is empty", expected="at least one sequence")
    return text


def load_json(text: str, file: Path) -> tuple[Any, Place]:
    """Parses JSON; syntax errors and repeated keys become `InputError`."""
    place = Place(file)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_repeats([key for key, _ in pairs], place)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique), place
    except json.JSONDecodeError as error:
        spot = replace(place, line=error.lineno, label=f"column {error.colno}")
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise spot.error("the JSON ends too early", todo="is the file truncated?") from None
        todo = "in a SMILES write every backslash twice" if "escape" in error.msg else ""
        raise spot.error(f"not valid JSON ({error.msg})", todo=todo) from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise place.error("the JSON is nested too deeply or holds a huge number") from None


def load_yaml(text: str, file: Path) -> tuple[Any, Place]:
    """Parses one YAML document; the place knows lines and the texts as written."""
    place = Place(file)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        place = replace(place, node=node)
        _refuse_repeated_keys(node, place, set())
        return (None if node is None else loader.construct_document(node)), place
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is None:
            raise place.error(f"not valid YAML ({error})") from None
        if error.problem and "stream end" in error.problem:
            raise place.error("the YAML ends too early", todo="is the file truncated?") from None
        spot = replace(place, line=mark.line + 1, label=f"column {mark.column + 1}")
        raise spot.error(
            f"not valid YAML ({error.problem})",
            todo="indent with blanks only, and quote SMILES and other texts that hold [ ] : # or @",
        ) from None
    except yaml.reader.ReaderError as error:
        raise place.error(f"not text: {error.reason}", todo="remove control characters") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise place.error(f"not valid YAML ({error})") from None


def open_document(place: Place, written: str) -> Document:
    """Returns the file named at a place; relative paths start at the input file's folder."""
    path = place.file.parent / Path(written).expanduser()
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise place.error(
            f"the file '{written}' {problem} (looked for {path})",
            todo="give the path relative to the input file, or an absolute one",
        )
    return Document(name=written, path=path)


def describe(value: Any) -> str:
    """Says in words what was found, for messages; short whatever the value."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value!s:.24}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "a mapping" if isinstance(value, dict) else f"the value '{value!s:.40}'"


def _refuse_repeated_keys(node: yaml.Node | None, place: Place, seen: set[int]) -> None:
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        _refuse_repeats([str(key.value) for key, _ in node.value], replace(place, line=line))
        children: Sequence[yaml.Node] = [value for _, value in node.value]
    else:
        children = node.value
    for child in children:
        _refuse_repeated_keys(child, place, seen)


def _refuse_repeats(keys: Sequence[str], place: Place) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen and key != "<<":
            raise place.error(f"the key {key!r} is given twice in one mapping", todo="keep one")
        seen.add(key)
