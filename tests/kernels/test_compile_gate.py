"""The kernels compiled for an A100 and an H100, and the proof that the gate can be failed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("triton") is None,
    reason="Triton is not installed",
)


LONG = os.environ.get("SEEDFOLD_LONG") == "1"


def gate(*arguments: Path | str) -> list[dict]:
    """What the gate finds, in a process in which Triton compiles and does not interpret."""
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, HERE / "compile_gate.py", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, 1) and done.stdout, done.stderr
    results = json.loads(done.stdout)
    assert done.returncode == any(r["problems"] for r in results)
    return results


def test_kernels_compile_without_spilling_and_use_tensor_cores():
    """The first and the last case of each kernel, mostly its smallest and largest; or all cases."""
    results = gate(*([] if LONG else ["--quick"]))
    failed = {
        f"{r['file']} {r['kernel']}[{r['case']}] {r['target']}": r["problems"]
        for r in results
        if r["problems"]
    }
    assert not failed, "\n".join(f"{name}: {'; '.join(x)}" for name, x in failed.items())
    assert {r["file"] for r in results} == {
        f"{path.parent.name}/{path.name}" for path in KERNELS.glob("*/triton_kernels.py")
    }


# What each of gate_examples.py must be told, on sm_80 and sm_90; "" is nothing.
FAULTS = {
    "sound": ("", ""),
    "spilled": ("spilled", "spilled"),
    "too many registers": ("registers", "registers"),
    "too much memory": ("", "shared memory"),
    "too much memory on sm_80": ("", ""),
    "no tensor cores": ("no HMMA", "no HGMMA"),
    "no need of tensor cores": ("", ""),
    "entangled": ("", "wait for one another"),
    "not compiled": ("does not compile", "does not compile"),
}


def test_the_gate_finds_faults():
    results = iter(gate(HERE / "gate_examples.py"))
    for name, faults in FAULTS.items():
        for fault in faults:
            found = next(results)
            assert bool(found["problems"]) == bool(fault), (name, found)
            assert fault in "; ".join(found["problems"]), (name, found)
            assert ("only" in found["note"]) == (
                found["target"] == "sm_80" and name.startswith("too much memory")
            )
    assert next(results, None) is None
