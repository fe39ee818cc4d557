"""Mappings to frozen configuration dataclasses and back, strictly.

Every configurable class has a nested ``Config`` dataclass; a parent's Config holds its children's.
Where a part comes in variants, the field is annotated ``Annotated[Any, TABLE]`` with a `Variants`
table, and the ``kind`` of the mapping chooses the class. Unknown options, wrong types and unknown
kinds are refused with the path of the culprit and a suggestion.
"""

import dataclasses
import difflib
import importlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

Config = TypeVar("Config")


class Variants(dict[str, type]):
    """A table from ``kind`` to class; a kind ``package.module:Class`` is imported instead."""

    def resolve(self, kind: str, path: str = "config") -> type:
        """Returns the class of `kind`.

        Raises:
            ValueError: if there is no such kind; the message names `path` and the known kinds.
        """
        if kind in self:
            return self[kind]
        if ":" in kind:
            module, _, name = kind.partition(":")
            try:
                return getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise ValueError(f"{path}.kind: cannot import '{kind}': {error}") from error
        known = ", ".join(self)
        raise ValueError(
            f"{path}.kind: unknown kind '{kind}'; known: {known}, or 'package.module:Class'"
        )

    def build(self, config: Any, *args: Any, **kwargs: Any) -> Any:
        """Constructs the class that `config.kind` names with `config` and the other arguments."""
        return self.resolve(config.kind)(config, *args, **kwargs)


def from_dict(cls: type[Config], data: Mapping[str, Any], path: str = "model") -> Config:
    """Builds `cls` and everything nested in it from a mapping; what is left out has its default.

    Raises:
        ValueError: for an unknown option, a wrong type or an unknown kind.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{path}: found {data!r}; expected a mapping of options")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            advice = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(fields)}"
            raise ValueError(f"{path}.{key}: {cls.__qualname__} has no such option; {advice}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{path}.{name}", _default(field))
        elif _default(field) is dataclasses.MISSING:
            raise ValueError(f"{path}.{name}: missing; {cls.__qualname__} has no default for it")
    return cls(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """The inverse of `from_dict`: plain mappings, lists and scalars."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _value(hint: Any, data: Any, path: str, default: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        table = next((a for a in args[1:] if isinstance(a, Variants)), None)
        return (
            _value(args[0], data, path, default)
            if table is None
            else _variant(table, data, path, default)
        )
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), data, path)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        rest = [a for a in args if a is not type(None)]
        if len(rest) != 1:
            raise TypeError(f"{path}: only 'X | None' unions can be configured, not {hint}")
        return _value(rest[0], data, path, default)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise _wrong_type(path, data, "a list")
        return tuple(_value(args[0], v, f"{path}[{i}]", None) for i, v in enumerate(data))
    if origin is Literal:
        if data not in args:
            raise _wrong_type(path, data, "one of " + ", ".join(map(repr, args)))
        return data
    return _scalar(hint, data, path)


def _scalar(hint: Any, data: Any, path: str) -> Any:
    # bool is an int in Python; an option of one kind given the other is a mistake.
    right = isinstance(data, (int, float) if hint is float else hint)
    if not right or (isinstance(data, bool) and hint is not bool):
        raise _wrong_type(path, data, getattr(hint, "__name__", str(hint)))
    return float(data) if hint is float else data


def _variant(table: Variants, data: Any, path: str, default: Any) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong_type(path, data, "a mapping of options with a 'kind'")
    kind = data.get("kind", getattr(default, "kind", None))
    if not isinstance(kind, str):
        raise _wrong_type(f"{path}.kind", kind, "str")
    rest = {key: value for key, value in data.items() if key != "kind"}
    config = from_dict(table.resolve(kind, path).Config, rest, path)  # type: ignore[attr-defined]
    # An imported class is known by its address, whatever its own Config calls it.
    return dataclasses.replace(config, kind=kind)


def _wrong_type(path: str, data: Any, expected: str) -> ValueError:
    return ValueError(f"{path}: found {data!r}; expected {expected}")
