"""The small network of `tests/reference_model.py` in our own classes, for every model test."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from seedfold.config import from_dict
from seedfold.data_pipeline.features import Features, collate
from seedfold.model.seedfold import SeedFold

ROOT = Path(__file__).resolve().parents[2]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The independent float64 implementation."""
    return _load(ROOT / "tests" / "reference_model.py")


@pytest.fixture(scope="session")
def check_golden() -> ModuleType:
    """`scripts/check_golden.py`."""
    return _load(ROOT / "scripts" / "check_golden.py")


@pytest.fixture(scope="session")
def golden_folders() -> list[Path]:
    """Folders of tensors computed by Protenix's own classes."""
    folders = sorted((ROOT.parent / "shared" / "golden").glob("protenix_*"))
    if not folders:
        pytest.skip("no ../shared/golden beside this checkout")
    return folders


@pytest.fixture(scope="session")
def small_network(reference: ModuleType) -> Callable[..., SeedFold]:
    """Builds the reference's network in float64; arguments replace parts of its configuration."""

    def build(**changes: object) -> SeedFold:
        config = from_dict(SeedFold.Config, {**reference.CONFIG, **changes})
        network = SeedFold(config).double().eval()
        shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
        network.load_state_dict(reference.weights(shapes))
        return network

    return build


@pytest.fixture(scope="session")
def small_example(reference: ModuleType) -> Features:
    """The reference's example, without batch axis."""
    tensors = reference.example()
    return Features(**{name: tensors[name] for name in Features.axes()})


@pytest.fixture(scope="session")
def padded_example(small_example: Features) -> Features:
    """The same, a batch of one with padding on every axis and rubbish in the padding."""
    changes = {}
    for name, axes in Features.axes().items():
        value = getattr(small_example, name)
        shape = [
            2 * size + 1 if axis.startswith("N_") and axis != "N_templ" else size
            for size, axis in zip(value.shape, axes, strict=True)
        ]
        filled = torch.zeros(shape, dtype=value.dtype)
        if value.dtype != torch.bool:
            filled += 1
        filled[tuple(slice(s) for s in value.shape)] = value
        changes[name] = filled
    return collate([Features(**changes)])
