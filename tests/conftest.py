"""Settings of every test run."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; more threads than cores make every matrix product slower.
    torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is in a shell's background jobs; tests interrupt processes, which inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

jaxtyped = jaxtyping.jaxtyped


def jaxtyped_if_outer(**options: Any) -> Callable[[Any], Any]:
    """`jaxtyped`, as the import hook puts it on every function, but not on functions in functions.

    Those would be made and wrapped anew by every call, which takes longer than what they compute.
    """

    def decorate(function: Any) -> Any:
        inner = "<locals>" in getattr(function, "__qualname__", "")
        return function if inner else jaxtyped(function, **options)

    return decorate


jaxtyping.jaxtyped = jaxtyped_if_outer


@pytest.fixture(scope="session")
def examples() -> Path:
    """The example inputs of the repository."""
    return ROOT / "examples"
