"""`seedfold doctor`: versions, devices, kernels and weights, in one page to send along."""

import os
import platform
from importlib import metadata

import torch

from seedfold import __version__
from seedfold.checkpoint import read_info
from seedfold.kernels import WITH_KERNELS
from seedfold.kernels.backend import trouble, unavailable
from seedfold.memory import GIB, available
from seedfold.models import BUNDLED, BUNDLED_FILE

PACKAGES = (
    "torch", "numpy", "gemmi", "biopython", "biotite", "rdkit", "safetensors", "jaxtyping",
    "typer", "rich", "triton", "lightning", "hydra-core", "deepspeed",
)  # fmt: skip


def report() -> str:
    """The page as text."""
    sections = {
        "seedfold": [f"version     {__version__}", f"python      {platform.python_version()}"],
        "machine": _machine(),
        "packages": [f"{name:<12}{_version(name)}" for name in PACKAGES],
        "kernels": _kernels(),
        "weights": [f"{BUNDLED:<12}bundled, {_bundled()}"],
    }
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items()
    )


def _machine() -> list[str]:
    cpu = torch.device("cpu")
    lines = [
        f"system      {platform.platform()}",
        f"cpu         {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, {available(cpu) / GIB:.1f} GiB available",
    ]
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        name = torch.cuda.get_device_name(i)
        lines.append(f"cuda:{i}      {name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    if torch.cuda.device_count() == 0:
        lines.append("cuda        none")
    lines.append(f"mps         {'yes' if torch.mps.is_available() else 'none'}")
    return lines


def _kernels() -> list[str]:
    """Whether Triton's kernels are used; on a GPU each is compiled and checked for that."""
    if not torch.cuda.is_available():
        return ["triton      not used: its kernels are for NVIDIA GPUs; plain PyTorch here"]
    device = torch.device("cuda")
    if reason := unavailable(device):
        return [f"triton      not used, plain PyTorch instead: {reason}"]
    troubles = {op.__name__: trouble(op, device) for op in WITH_KERNELS}
    bad = [f"{name}: plain PyTorch instead: {why}" for name, why in troubles.items() if why]
    n_good = len(troubles) - len(bad)
    return [f"triton      {n_good} of {len(troubles)} operations agree with PyTorch", *bad]


def _bundled() -> str:
    if not BUNDLED_FILE.is_file():
        return "UNTRAINED: for trying out the program only"
    try:
        return read_info(BUNDLED_FILE).notice or "trained"
    except ValueError as error:
        return f"but damaged: {error}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
