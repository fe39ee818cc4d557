"""Tables of names, by which the weights of another program become ours.

A `Table` maps a donor's module names to ours. A value is either our name, and what follows (weight,
bias) stays as it is, or a pair of our name and the table for what is inside. A part ``*`` stands
for a number, which is carried over. Longer names are tried first.
"""

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

Table: TypeAlias = Mapping[str, "str | tuple[str, Table]"]


def translate(name: str, table: Table) -> str | None:
    """Our name for the donor's tensor `name`; None if the table does not know it."""
    parts = name.split(".")
    for key in sorted(table, key=lambda k: -k.count(".")):
        pattern = key.split(".")
        numbers = _match(pattern, parts)
        if numbers is None:
            continue
        value, rest = table[key], ".".join(parts[len(pattern) :])
        if isinstance(value, str):
            inner = rest
        else:
            value, inner_table = value
            inner = translate(rest, inner_table)
        if inner is None:
            continue
        return ".".join(filter(None, [_fill(value, numbers), inner]))
    return None


def _match(pattern: list[str], parts: list[str]) -> list[str] | None:
    """The numbers that the stars of `pattern` stand for at the start of `parts`, if it fits."""
    if len(parts) < len(pattern):
        return None
    numbers = []
    for expected, part in zip(pattern, parts, strict=False):
        if expected == "*" and part.isdigit():
            numbers.append(part)
        elif expected != part:
            return None
    return numbers


def _fill(name: str, numbers: list[str]) -> str:
    for number in numbers:
        name = name.replace("*", number, 1)
    return name


def convert(
    source: Mapping[str, Tensor], table: Table, expected: Mapping[str, Tensor], donor: str
) -> dict[str, Tensor]:
    """Renames every tensor of `source` by `table`, one to one onto the names and shapes expected.

    Args:
        source: the donor's tensors.
        table: its names.
        expected: what our network has under its own names; only shapes and dtypes are read.
        donor: what to call the source in messages.

    Raises:
        ValueError: naming the tensor that is unknown, missing, doubled or of another shape.
    """
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in source.items():
        target = translate(name, table)
        if target is None or target not in expected:
            raise ValueError(
                f"{donor}: tensor '{name}' {tuple(tensor.shape)} has no place in this network; "
                "expected the weights of the configuration that was given"
            )
        if target in found:
            raise ValueError(f"{donor}: '{name}' and '{origin[target]}' both fill '{target}'")
        shape = tuple(expected[target].shape)
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{donor}: tensor '{name}' has shape {tuple(tensor.shape)}; expected {shape} for "
                f"'{target}'"
            )
        found[target], origin[target] = tensor.to(expected[target].dtype), name
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(
            f"{donor}: nothing fills '{missing[0]}' {tuple(expected[missing[0]].shape)}"
            + (f" and {len(missing) - 1} others" if len(missing) > 1 else "")
        )
    return found
