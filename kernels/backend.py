"""Which implementation the operations use, and how much memory they may take at a time.

Both are settings of the process, read inside the operations, so that no model code carries them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

IMPLEMENTATIONS = ("auto", "reference")
"""``auto`` takes the fastest that serves the given tensors; ``reference`` is plain PyTorch."""

_implementation = "auto"
_budget: int | None = None


@contextmanager
def use(implementation: str) -> Iterator[None]:
    """Makes all operations inside the context use one of `IMPLEMENTATIONS`.

    Raises:
        ValueError: if there is no such implementation.
    """
    global _implementation
    if implementation not in IMPLEMENTATIONS:
        known = ", ".join(f"'{name}'" for name in IMPLEMENTATIONS)
        raise ValueError(f"kernels.use: found '{implementation}'; expected one of {known}")
    before, _implementation = _implementation, implementation
    try:
        yield
    finally:
        _implementation = before


@contextmanager
def memory_budget(n_bytes: int) -> Iterator[None]:
    """Bounds the intermediate results that an operation holds at a time when autograd is off.

    Inputs, outputs and operands as large as the pair representation come on top. An operation
    takes less where smaller blocks are faster. Results depend on the budget by rounding only; too
    small a budget means one row at a time.

    Raises:
        ValueError: if `n_bytes` is not positive.
    """
    global _budget
    if n_bytes <= 0:
        raise ValueError(f"kernels.memory_budget: found {n_bytes}; expected a positive number")
    before, _budget = _budget, n_bytes
    try:
        yield
    finally:
        _budget = before


def implementation() -> str:
    """The implementation that is asked for."""
    return _implementation


def budget() -> int | None:
    """The memory budget in bytes; None leaves it to the device's default."""
    return _budget
