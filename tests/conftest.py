"""Settings of every test run."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; more threads than cores make every matrix product slower.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def examples() -> Path:
    """The example inputs of the repository."""
    return ROOT / "examples"
