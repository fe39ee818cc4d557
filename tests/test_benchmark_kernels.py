"""scripts/benchmark_kernels.py: its floors, its contenders, and that nothing stops a run."""

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "benchmark_kernels.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_kernels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(benchmark):
    return benchmark.Place(torch.device("cpu"), torch.bfloat16)


# What the documentation of the two packages says, in PyTorch.


def cuequivariance_attention(q, k, v, bias, mask=None, scale=None):
    assert q.dim() == 5 and mask.shape == (*q.shape[:2], 1, 1, q.shape[3])
    logits = (q @ k.mT).float() * q.shape[-1] ** -0.5 + bias.float()
    return logits.where(mask, torch.tensor(-1e9)).softmax(-1).to(q.dtype) @ v


def cuequivariance_multiplication(x, direction, mask, **w):
    y = F.layer_norm(x, x.shape[-1:], w["norm_in_weight"], w["norm_in_bias"])
    ab = F.linear(y, w["p_in_weight"]) * F.linear(y, w["g_in_weight"]).sigmoid() * mask[..., None]
    sides = "bikd,bjkd->bijd" if direction == "outgoing" else "bkid,bkjd->bijd"
    o = torch.einsum(sides, *ab.chunk(2, -1))
    o = F.layer_norm(o, o.shape[-1:], w["norm_out_weight"], w["norm_out_bias"])
    return F.linear(o, w["p_out_weight"]) * F.linear(y, w["g_out_weight"]).sigmoid()


def trifast_attention(q, k, v, b, mask):
    logits = (q @ k.mT).float() * q.shape[-1] ** -0.5 + b.float()[:, :, None]
    return logits.masked_fill(mask[:, None, :, None], -1e9).softmax(-1).to(q.dtype) @ v


@pytest.fixture
def others(monkeypatch):
    cuequivariance = SimpleNamespace(
        triangle_attention=cuequivariance_attention,
        triangle_multiplicative_update=cuequivariance_multiplication,
    )
    monkeypatch.setitem(sys.modules, "cuequivariance_torch", cuequivariance)
    trifast = SimpleNamespace(triangle_attention=trifast_attention)
    monkeypatch.setitem(sys.modules, "trifast", trifast)


@pytest.mark.parametrize(
    ("op", "which", "microseconds"),
    [  # Counted by hand for one H200: tensor cores, exponentials, memory.
        ("softmax_core", "forward", (36.7, 61.0, 35.9)),
        ("softmax_core", "backward", (91.7, 61.0, 62.0)),
        ("gated_core", "forward", (36.7, 0, 35.4)),
        ("gated_core", "backward", (146.8, 0, 62.0)),
        ("block_linear_gated", "forward", (316, 0, 413)),
    ],
)
def test_floors(benchmark, op, which, microseconds):
    work = benchmark.work(benchmark.Case(op, 384, 128, 4), which)
    times = [1e6 * x / y for x, y in zip(work, benchmark.CEILINGS, strict=True)]
    assert times == pytest.approx(microseconds, rel=0.01)
    assert work.floor_ms()[0] == pytest.approx(max(microseconds) / 1e3, rel=0.01)


@pytest.mark.parametrize(
    ("op", "contender"),
    [
        ("softmax_core", "eager"),
        ("softmax_core", "cuequivariance"),
        ("softmax_core", "trifast"),
        ("gated_core", "eager"),
        ("softmax", "eager"),
        ("softmax", "cuequivariance"),
        ("softmax", "trifast"),
        ("linear_additive", "eager"),
        ("multiplication", "cuequivariance"),
    ],
)
def test_contenders_compute_the_same(benchmark, place, others, op, contender):
    case = benchmark.Case(op, 20, 32, 2)
    rows = benchmark.measure(case, contender, benchmark.PASSES, place, benchmark.exact(case, place))
    assert [(r.direction, r.reason) for r in rows] == [(which, "") for which in benchmark.PASSES]
    assert all(r.ms > 0 and 0 < r.error < 0.02 for r in rows)


def test_a_block_with_foreign_operations_is_the_same_block(benchmark, place, others):
    case = benchmark.Case("block_softmax", 6, 32, 2)
    ours = benchmark.weighted(case, "eager", place).eval()
    theirs = benchmark.foreign(copy.deepcopy(ours), "cuequivariance", torch.float32)
    z, mask = torch.randn(1, 6, 6, 32), torch.ones(1, 6, 6, dtype=torch.bool)
    assert sum(isinstance(x, benchmark.ForeignAttention) for x in theirs.children()) == 2
    assert sum(isinstance(x, benchmark.ForeignMultiplication) for x in theirs.children()) == 2
    torch.testing.assert_close(theirs(z, mask), ours(z, mask))


def test_failures_are_told_in_the_cells(benchmark, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "trifast", None)  # As if it were not installed.
    case = benchmark.Case("softmax_core", 8, 32, 2)
    rows = benchmark.measure(case, "trifast", ["forward"], place, None)
    rows += benchmark.measure(case._replace(op="gated_core"), "trifast", ["forward"], place, None)
    monkeypatch.setattr(benchmark, "prepare", lambda *_: 1 / 0)
    rows += benchmark.measure(case, "eager", ["forward", "both"], place, None)
    reasons = [row.reason for row in rows]
    assert [reason.split(":")[0] for reason in reasons] == [
        "not importable",
        "not offered",
        *["ZeroDivisionError"] * 2,
    ]
    printed = benchmark.tables(rows)
    assert all(f"| {reason.split(':')[0]} |" in printed for reason in reasons)
    assert "- eager, softmax_core: ZeroDivisionError: division by zero" in printed


def test_the_program_runs_without_a_gpu(tmp_path):
    pytest.importorskip("triton")
    options = ["--ops", "gated_core", "--against", "eager", "--json", tmp_path / "rows.json"]
    done = subprocess.run(
        [sys.executable, SCRIPT, "--check", "--markdown", *options],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "mean nothing" in done.stdout and "| gated_core | backward |" in done.stdout
    record = json.loads((tmp_path / "rows.json").read_text())
    assert {(r["contender"], r["direction"]) for r in record["rows"]} == {
        (contender, which)
        for contender in ("triton", "eager")
        for which in ("forward", "backward", "both")
    }
    assert all(r["ms"] > 0 and r["error"] < 2e-3 for r in record["rows"]), done.stdout


def test_no_case_starts_when_the_time_is_up(benchmark, monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    benchmark.main(["--check", "--ops", "softmax", "--n", "8", "16", "--budget-seconds", "0"])
    assert "Left out" in (printed := capsys.readouterr().out)
    assert "softmax c_z=32 n=8\nsoftmax c_z=32 n=16" in printed
