"""The training index: what a sampler and a loader need of a manifest, mapped into memory.

A folder of uncompressed `.npy` files and `index.json`: for every sampling unit its example, its
chains and the cumulative weight (17 bytes), for every example its place and its number of tokens
(20 bytes). Processes of one machine share the mapped pages, and nothing is parsed on opening.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer, UInt

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.shards import BLOCK, Shard
from seedfold.data_pipeline.examples.weights import SamplingUnits

FORMAT = 1

UNIT_COLUMNS = {
    "unit_example": np.uint32,
    "unit_n_chains": np.uint8,
    "unit_chain_1": np.uint16,
    "unit_chain_2": np.uint16,
    "unit_cumulative_weight": np.float64,
}
EXAMPLE_COLUMNS = {
    "example_shard": np.uint32,
    "example_block": np.uint32,
    "example_size": np.uint32,
    "example_crc32": np.uint32,
    "example_n_token": np.uint32,
}


@dataclass(frozen=True, kw_only=True)
class ExampleColumns:
    """Where the examples of a manifest lie, in its order; `shard` counts in `shards`."""

    shards: tuple[Shard, ...]
    shard: Integer[np.ndarray, " N_example"]
    offset: Integer[np.ndarray, " N_example"]
    size: Integer[np.ndarray, " N_example"]
    crc32: Integer[np.ndarray, " N_example"]
    n_token: Integer[np.ndarray, " N_example"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One sampling unit and the example it is cut from; `chains` has one or two positions."""

    example: int
    chains: tuple[int, ...]
    n_token: int
    shard: Shard
    offset: int
    size: int
    crc32: int


def build_index(
    folder: Path, examples: ExampleColumns, units: SamplingUnits, *, manifest_hash: str
) -> Path:
    """Writes the index; `folder` appears, or is replaced, when all of it is written.

    Raises:
        InputError: no unit, or none that could be drawn.
    """
    columns = {**_example_columns(examples), **_unit_columns(folder, examples, units)}
    about = {
        "format": FORMAT,
        "manifest": manifest_hash,
        "n_unit": len(units.example),
        "n_example": len(examples.size),
        "shards": [shard.to_dict() for shard in examples.shards],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{os.getpid()}.{folder.name}")
    try:
        temporary.mkdir()
        for name, column in columns.items():
            np.save(temporary / f"{name}.npy", column, allow_pickle=False)
        (temporary / "index.json").write_text(json.dumps(about, indent=1) + "\n")
        _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _replace(new: Path, folder: Path) -> None:
    # Nothing swaps two folders everywhere: between the two renames there is no index, never half.
    old = folder.with_name(f".{os.getpid()}.{folder.name}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def _example_columns(examples: ExampleColumns) -> dict[str, np.ndarray]:
    # Members of a tar start at whole blocks: counted so, 32 bits reach 2 TB.
    assert not (examples.offset % BLOCK).any(), "a member of a tar starts at a whole block"
    columns = {
        "example_shard": examples.shard,
        "example_block": examples.offset // BLOCK,
        "example_size": examples.size,
        "example_crc32": examples.crc32,
        "example_n_token": examples.n_token,
    }
    for name, column in columns.items():
        assert not len(column) or 0 <= column.min() <= column.max() < 2**32, name
    return {name: columns[name].astype(dtype) for name, dtype in EXAMPLE_COLUMNS.items()}


def _unit_columns(
    folder: Path, examples: ExampleColumns, units: SamplingUnits
) -> dict[str, np.ndarray]:
    weight = units.weight
    if not len(weight) or not np.isfinite(weight).all() or weight.min() < 0 or not weight.any():
        raise InputError(
            str(folder),
            f"{len(weight)} sampling units, none of which can be drawn or one of weight < 0",
            todo="look at the drops and failures of the manifest",
        )
    assert units.example.max() < len(examples.size), "a sampling unit of no example"
    columns = {
        "unit_example": units.example,
        "unit_n_chains": units.n_chains,
        "unit_chain_1": units.chain_1,
        "unit_chain_2": units.chain_2,
        "unit_cumulative_weight": np.cumsum(weight),
    }
    return {name: columns[name].astype(dtype) for name, dtype in UNIT_COLUMNS.items()}


class Index:
    """A mapped index; `index[unit]` is its record. Sent to another process it is opened there."""

    def __init__(self, folder: Path, about: Mapping[str, Any], columns: Mapping[str, np.ndarray]):
        self.folder, self.manifest_hash = folder, str(about["manifest"])
        self.shards = tuple(Shard.from_dict(fields) for fields in about["shards"])
        self.n_example: int = about["n_example"]
        self._columns = columns

    @classmethod
    def open(cls, folder: Path | str) -> "Index":
        """Maps an index.

        Raises:
            InputError: the folder holds none, one of another format, or a damaged one.
        """
        folder = Path(folder)
        todo = "build the index again"
        try:
            about = json.loads((folder / "index.json").read_text())
            if about["format"] != FORMAT:
                found = f"an index of format {about['format']}"
                raise InputError(str(folder), found, expected=f"format {FORMAT}", todo=todo)
            lengths = dict.fromkeys(UNIT_COLUMNS, about["n_unit"])
            lengths |= dict.fromkeys(EXAMPLE_COLUMNS, about["n_example"])
            types = UNIT_COLUMNS | EXAMPLE_COLUMNS
            columns = {n: _map(folder, n, types[n], length) for n, length in lengths.items()}
            return cls(folder, about, columns)
        except FileNotFoundError as error:
            missing = f"no file {Path(error.filename or '').name}"
            raise InputError(
                str(folder), missing, expected="a training index", todo=todo
            ) from error
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            found = f"index.json cannot be read ({error!r})"
            raise InputError(str(folder), found, todo=todo) from error

    def __reduce__(self) -> tuple:
        return Index.open, (self.folder,)

    def __len__(self) -> int:
        return len(self._columns["unit_example"])

    @property
    def cumulative_weight(self) -> Float[np.ndarray, " N_unit"]:
        """Running sum of the weights of the sampling units."""
        return self._columns["unit_cumulative_weight"]

    @property
    def n_token(self) -> UInt[np.ndarray, " N_example"]:
        """Tokens of each example."""
        return self._columns["example_n_token"]

    def first_units(self) -> Int[np.ndarray, " N"]:
        """One unit of every example that has any, in the order of the examples."""
        return np.unique(self._columns["unit_example"], return_index=True)[1]

    def __getitem__(self, unit: int) -> Record:
        column = self._columns
        example = int(column["unit_example"][unit])
        chains = (int(column["unit_chain_1"][unit]), int(column["unit_chain_2"][unit]))
        return Record(
            example=example,
            chains=chains[: int(column["unit_n_chains"][unit])],
            n_token=int(column["example_n_token"][example]),
            shard=self.shards[column["example_shard"][example]],
            offset=int(column["example_block"][example]) * BLOCK,
            size=int(column["example_size"][example]),
            crc32=int(column["example_crc32"][example]),
        )

    def pick(self, fraction: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """The unit at each fraction, in [0, 1), of the total weight; none of weight 0."""
        total = self.cumulative_weight
        return np.searchsorted(total, fraction * total[-1], side="right")


def _map(folder: Path, name: str, dtype: type, length: int) -> np.ndarray:
    try:
        column = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(str(folder), f"{name}.npy cannot be read ({error})") from error
    if column.dtype != dtype or column.shape != (length,):
        found = f"{name}.npy has {column.dtype} {column.shape}"
        raise InputError(str(folder), found, expected=f"{np.dtype(dtype)} ({length},)")
    return column
