"""Running an operation in blocks of rows that fit the memory budget.

While autograd records there is one block: it would keep the intermediates of all of them anyway.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from seedfold.kernels import backend

_CPU_BLOCK = 16 * 2**20  # Bytes. Small enough to stay in the caches: larger blocks are slower.
_GPU_BLOCK = 2**30


def blocks(n: int, bytes_each: int, device: torch.device) -> Iterator[slice]:
    """Cuts `n` rows, each of which takes `bytes_each` to work on, into blocks."""
    size = _CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK
    size = min(size, backend.budget() or size)
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
