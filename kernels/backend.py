"""Which implementation the operations use, and how much memory they may take at a time.

Both are settings of the process, read inside the operations, so that no model code carries them.
Operations run in blocks of rows that fit the memory, except while autograd records: it would keep
the intermediates of all blocks anyway.

An operation with fast kernels is a package with a module `fused`, which holds the same function
and an `example` of its arguments. Before its first use on a device the kernels are compiled and
compared with the reference on that example; where they fail or disagree, ``auto`` takes the
reference and says so once.
"""

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

IMPLEMENTATIONS = ("auto", "reference", "triton")
"""``auto`` takes the fastest that serves the given tensors; ``reference`` is plain PyTorch;
``triton`` takes the Triton kernels or raises `UnavailableError` with the reason."""

HALF = (torch.bfloat16, torch.float16)

_CPU_BLOCK = 8 * 2**20  # Bytes. Small enough to stay in the caches: larger blocks are slower.
_GPU_BLOCK = 2**30
_TOLERANCE = 0.05
"""Of the self-check: relative error in bf16. A wrong kernel is wrong by far more."""

_log = logging.getLogger("seedfold.kernels")
_implementation = "auto"
_budget: int | None = None
_verdicts: dict[tuple[str, torch.device], str] = {}
_told: set[str] = set()


class UnavailableError(RuntimeError):
    """Kernels that were asked for by name cannot serve the given tensors on this device."""


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


def compute_dtype(x: Tensor) -> torch.dtype:
    """What matrix products of `x` are computed in: autocast's dtype where it is on."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def triton_serves(op: Callable[..., Tensor], x: Tensor, refusal: str = "") -> bool:
    """Whether the Triton kernels of `op` are to be used for arguments like `x`.

    Args:
        op: the operation, a function of a package with a module `fused`.
        x: its main argument.
        refusal: why the kernels cannot serve the other arguments; empty if they can.

    Raises:
        UnavailableError: with the reason, if they are not but were asked for by name.
    """
    by_name = _implementation == "triton"
    if _implementation == "reference":
        return False
    # In single precision there are no tensor cores to win by: that, like a CPU, is no trouble.
    if not by_name and (x.device.type != "cuda" or compute_dtype(x) not in HALF):
        return False
    reason = refusal or unavailable(x.device) or _verdict(op, x.device)
    if not reason:
        return True
    if by_name:
        raise UnavailableError(
            f"kernels.use('triton'): {op.__name__} cannot run: {reason}; 'auto' or 'reference' can"
        )
    tell_once(f"{op.__name__}: plain PyTorch instead of Triton ({reason})")
    return False


def trouble(op: Callable[..., Tensor], device: torch.device) -> str:
    """Why `op` does not run its Triton kernels on `device` in half precision; empty if it does."""
    return unavailable(device) or _verdict(op, device)


def unavailable(device: torch.device) -> str:
    """Why no Triton kernel runs on `device`; empty if they do."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cpu":
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        return "" if interpreted else "on a CPU, where Triton only runs with TRITON_INTERPRET=1"
    if device.type != "cuda" or torch.version.cuda is None:
        return f"no NVIDIA GPU but '{device}'"
    major, minor = torch.cuda.get_device_capability(device)
    return "" if major >= 8 else f"compute capability {major}.{minor}, at least 8.0 is needed"


def tell_once(message: str) -> None:
    """Logs a message the first time it is given."""
    if message not in _told and not torch.compiler.is_compiling():
        _told.add(message)
        _log.warning(message)


def _verdict(op: Callable[..., Tensor], device: torch.device) -> str:
    """What is wrong with the kernels of `op` on `device`, found out once; empty if nothing is."""
    if device.type == "cpu" or torch.compiler.is_compiling():
        return _verdicts.get((op.__name__, device), "")
    key = (op.__name__, device)
    if key not in _verdicts:
        _verdicts[key] = ""  # The check itself uses the kernels.
        try:
            _verdicts[key] = self_check(op, device)
        except Exception as error:
            _verdicts[key] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return _verdicts[key]


def self_check(op: Callable[..., Tensor], device: torch.device) -> str:
    """Compares kernels and reference on the operation's example; returns the disagreement.

    Outputs with and without autograd and the gradients of all floating-point arguments.
    """
    example: Callable[..., tuple[dict[str, Tensor], dict[str, Any]]]
    example = importlib.import_module(f"{op.__module__}.fused").example
    tensors, settings = example(device, torch.bfloat16)

    def run(implementation: str, dtype: torch.dtype) -> dict[str, Tensor]:
        inputs = {
            name: x.detach().to(dtype).requires_grad_() if x.is_floating_point() else x
            for name, x in tensors.items()
        }
        floating = {name: x for name, x in inputs.items() if x.requires_grad}
        with use(implementation):
            out = op(**inputs, **settings)
            direction = torch.linspace(-1, 1, out.numel(), device=device).view_as(out).cos()
            gradients = torch.autograd.grad(out, list(floating.values()), direction.to(out.dtype))
            with torch.no_grad():
                lean = op(**inputs, **settings)
        named = {f"gradient of {name}": g for name, g in zip(floating, gradients, strict=True)}
        return {"output": out, "output without autograd": lean, **named}

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        expected = run("reference", torch.float32)
        found = run("triton", torch.bfloat16)
    for name, truth in expected.items():
        error = (found[name].float() - truth).norm() / truth.norm().clamp_min(1e-30)
        if not error.item() < _TOLERANCE:
            return f"{name} differs from the reference by {error.item():.2g}"
    return ""


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
