"""Which implementation the operations use, and how much memory they may take at a time.

Both are settings of the process, read inside the operations, so that no model code carries them.
Operations run in blocks of rows that fit the memory, except while autograd records: it would keep
the intermediates of all blocks anyway.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

IMPLEMENTATIONS = ("auto", "reference")
"""``auto`` takes the fastest that serves the given tensors; ``reference`` is plain PyTorch."""

_CPU_BLOCK = 8 * 2**20  # Bytes. Small enough to stay in the caches: larger blocks are slower.
_GPU_BLOCK = 2**30

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


def blocks(n: int, bytes_each: int, device: torch.device) -> Iterator[slice]:
    """Cuts `n` rows, each of which takes `bytes_each` to work on, into blocks."""
    size = _CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK
    size = min(size, _budget or size)
    step = n if torch.is_grad_enabled() else max(1, size // bytes_each)
    for start in range(0, n, step or 1):
        yield slice(start, min(n, start + step))


def by_rows(update: Callable[[slice], Tensor], bytes_each: int, out: Tensor) -> Tensor:
    """Returns `update` of all rows, written to `out` unless autograd records."""
    if torch.is_grad_enabled():
        return update(slice(0, len(out)))
    for rows in blocks(len(out), bytes_each, out.device):
        out[rows] = update(rows)
    return out


def by_example(update: Callable[..., Tensor], out: Tensor, *inputs: Tensor) -> Tensor:
    """Returns ``update(*inputs[b], out[b])`` of every example, written to `out` as in `by_rows`."""
    updates = [update(*example) for example in zip(*inputs, out, strict=True)]
    return torch.stack(updates) if torch.is_grad_enabled() else out
