"""Weights on disk: one safetensors file with everything needed to use it.

The header carries the configuration of the network, how its features are to be made, its name, the
licence of the weights and the version that wrote them; nothing is pickled. Files are written under
a temporary name and renamed, so that a file that exists is whole.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seedfold import __version__
from seedfold.config import from_dict, to_dict
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.model.seedfold import SeedFold

FORMAT = "seedfold"


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint says about itself.

    `inputs` is how features are made for the network; `version` is that of the program that wrote
    the file. `notice` is one line that every output repeats: its first words up to a semicolon are
    the mark that stands beside the name, e.g. ``demonstration weights; far from accurate: ...``.
    """

    name: str
    config: SeedFold.Config
    licence: str = ""
    trained: bool = True
    notice: str = ""
    version: str = __version__
    inputs: FeatureOptions = field(default_factory=FeatureOptions)


def header(info: CheckpointInfo) -> dict[str, str]:
    """The metadata of a safetensors file that say `info`; `read_info` is the inverse."""
    assert info.notice == " ".join(info.notice.split()), "a notice is one line"
    return {
        "format": FORMAT,
        "version": info.version,
        "name": info.name,
        "licence": info.licence,
        "trained": json.dumps(info.trained),
        "notice": info.notice,
        "config": json.dumps(to_dict(info.config)),
        "inputs": json.dumps(to_dict(info.inputs)),
    }


def save_checkpoint(path: Path, state_dict: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    """Writes `state_dict` and `info`, the whole file or nothing."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in state_dict.items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=header(info))
        temporary.chmod(0o644)


def read_info(path: Path) -> CheckpointInfo:
    """The header of a checkpoint, without its tensors.

    Raises:
        ValueError: if it is not a checkpoint of ours or its configuration cannot be read.
    """
    with _opened(path) as file:
        return _info(path, file.metadata() or {})


def load_checkpoint(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> tuple[SeedFold, CheckpointInfo]:
    """Builds the network of a checkpoint and fills it, in evaluation mode.

    Args:
        path: a file written by `save_checkpoint`.
        device: where the network goes.
        dtype: of the parameters; that of the file where None.

    Raises:
        ValueError: if the file is not a checkpoint of ours, or its tensors and its configuration
            do not fit; the message names the file and the tensor.
    """
    with _opened(path) as file:
        info = _info(path, file.metadata() or {})
        with torch.device("meta"):
            model = SeedFold(info.config)
        _check(path, file, model.state_dict())
        tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
    model.load_state_dict(tensors, assign=True)
    return model.to(dtype).eval(), info


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected the weights of a network (.safetensors)")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path}: cannot be read as safetensors ({error}); it is damaged or of another format; "
            "download it again, or convert weights of other programs first"
        ) from error


def _info(path: Path, metadata: Mapping[str, str]) -> CheckpointInfo:
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: holds tensors but no SeedFold network; expected a file written by SeedFold; "
            "convert weights of other programs first"
        )
    try:
        config = from_dict(SeedFold.Config, json.loads(metadata["config"]))
        # Files from before the entry are of networks that want the defaults.
        inputs = from_dict(FeatureOptions, json.loads(metadata.get("inputs", "{}")), "inputs")
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: the configuration in it cannot be read ({error}); it was written by version "
            f"{metadata.get('version', 'unknown')}; convert or export it again with this one"
        ) from error
    return CheckpointInfo(
        name=metadata.get("name", path.stem),
        config=config,
        licence=metadata.get("licence", ""),
        trained=metadata.get("trained") != "false",
        notice=" ".join(metadata.get("notice", "").split()),
        version=metadata.get("version", ""),
        inputs=inputs,
    )


def _check(path: Path, file: Any, expected: Mapping[str, Tensor]) -> None:
    """Compares names and shapes before anything large is read."""
    found = set(file.keys())
    for name in sorted(found ^ set(expected)):
        what = "has a tensor too many" if name in found else "lacks the tensor"
        raise ValueError(
            f"{path}: {what}, '{name}'; these are the weights of another network than the one "
            "described in the file"
        )
    for name, tensor in expected.items():
        shape = tuple(file.get_slice(name).get_shape())
        if shape != tuple(tensor.shape):
            raise ValueError(
                f"{path}: tensor '{name}' has shape {shape}; expected {tuple(tensor.shape)}"
            )
