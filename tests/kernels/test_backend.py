import sys
import types

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seedfold import kernels
from seedfold.kernels import backend

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


def test_unknown_implementation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'tritn'.*'auto', 'reference'"), kernels.use("tritn"):
        pass


def test_settings_end_with_their_context_even_after_an_error():
    with pytest.raises(KeyError), kernels.use("reference"), kernels.memory_budget(100):
        assert backend.implementation() == "reference"
        raise KeyError
    assert backend.implementation() == "auto"
    with torch.no_grad():
        assert len(list(backend.blocks(10, 20, CPU))) == 1


def test_budget_must_be_positive():
    with pytest.raises(ValueError, match="found 0; expected a positive number"):
        kernels.memory_budget(0).__enter__()


@pytest.mark.parametrize(("budget", "sizes"), [(60, [3, 3, 3, 1]), (1, [1] * 10), (10**9, [10])])
def test_blocks_cover_all_rows_within_the_budget(budget, sizes):
    with torch.no_grad(), kernels.memory_budget(budget):
        found = list(backend.blocks(10, 20, CPU))
    assert [rows.stop - rows.start for rows in found] == sizes
    assert [i for rows in found for i in range(10)[rows]] == list(range(10))


def test_autograd_sees_one_block():
    with kernels.memory_budget(1):
        assert list(backend.blocks(10, 20, CPU)) == [slice(0, 10)]
    assert list(backend.blocks(0, 20, CPU)) == []


def on_gpu(dtype=torch.bfloat16):
    """A tensor without data on a GPU that need not be there."""
    with FakeTensorMode():
        return torch.empty(2, dtype=dtype, device=GPU)


def double(x):
    """An operation with two implementations, of which `kernel_factor` is the faster one's."""
    return x * (2.0 if backend.implementation() == "reference" else kernel_factor)


kernel_factor = 2.0


@pytest.fixture
def operation(monkeypatch):
    """Makes `double` an operation with kernels on a GPU that is there; returns it."""
    fused = types.ModuleType("fused")
    fused.example = lambda device, dtype: ({"x": torch.arange(1.0, 9.0)}, {})
    monkeypatch.setitem(sys.modules, "an_operation.fused", fused)
    monkeypatch.setitem(sys.modules, "an_operation", types.ModuleType("an_operation"))
    monkeypatch.setattr(double, "__module__", "an_operation")
    monkeypatch.setattr(backend, "unavailable", lambda device: "")
    monkeypatch.setattr(backend, "_verdicts", {})
    monkeypatch.setattr(backend, "_told", set())
    check = backend.self_check
    monkeypatch.setattr(backend, "self_check", lambda op, device: check(op, CPU))
    return double


def test_kernels_that_agree_are_used(operation, caplog):
    assert backend.triton_serves(operation, on_gpu())
    assert backend.trouble(operation, GPU) == ""
    assert not caplog.records


def test_kernels_that_disagree_are_left_with_one_warning(operation, monkeypatch, caplog):
    monkeypatch.setattr(sys.modules[__name__], "kernel_factor", 2.2)
    assert not backend.triton_serves(operation, on_gpu())
    assert not backend.triton_serves(operation, on_gpu())
    (record,) = caplog.records
    assert "double: plain PyTorch instead of Triton" in record.message
    assert "output differs from the reference by 0.1" in record.message
    with (
        kernels.use("triton"),
        pytest.raises(backend.UnavailableError, match=r"differs.*'auto' or 'reference' can"),
    ):
        backend.triton_serves(operation, on_gpu())


def test_kernels_that_fail_are_left_with_the_reason(operation, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "kernel_factor", None)
    assert "TypeError: unsupported operand" in backend.trouble(operation, GPU)


def test_the_check_is_made_once(operation, monkeypatch):
    assert backend.triton_serves(operation, on_gpu())
    monkeypatch.setattr(backend, "self_check", None)
    assert backend.triton_serves(operation, on_gpu())


def test_single_precision_and_the_reference_do_without_kernels_and_without_a_word(
    operation, caplog
):
    with kernels.use("reference"):
        assert not backend.triton_serves(operation, on_gpu())
    assert not backend.triton_serves(operation, on_gpu(torch.float32))
    assert not caplog.records
    with kernels.use("triton"):
        assert backend.triton_serves(operation, on_gpu(torch.float32))


def test_refused_arguments_name_the_reason(operation):
    with kernels.use("triton"), pytest.raises(backend.UnavailableError, match="heads of 80"):
        backend.triton_serves(operation, on_gpu(), refusal="heads of 80 channels")


def test_a_cpu_needs_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "TRITON_INTERPRET=1" in backend.unavailable(CPU)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backend.unavailable(CPU) == ""
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    assert backend.unavailable(CPU) == "triton is not installed"
