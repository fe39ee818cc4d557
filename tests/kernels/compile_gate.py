"""Compiles the Triton kernels for GPUs that are not there and reads their machine code.

    python tests/kernels/compile_gate.py                      # all kernels/*/triton_kernels.py
    python tests/kernels/compile_gate.py FILE... --json
    python tests/kernels/compile_gate.py --quick              # one or two cases of each kernel

Every file has a function `gate_cases() -> list[GateCase]` (kernels/tiles.py). Each case is compiled
for sm_80 and sm_90 and must hold all its values in registers (nothing spilled to local memory) and,
where it says so, multiply matrices on the tensor cores. Shared memory must fit an H100 or H200
(sm_90); a case too large for an A100 (sm_80) is reported as being for sm_90 only. The exit status
is 1 if anything failed.

Triton brings the compiler and the tools, so that this runs on any Linux machine. It is a program
of its own because the other tests set TRITON_INTERPRET, with which kernels are not compiled at all.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
TARGETS = (80, 90)
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
SERIALISED = "wgmma.mma_async instructions are serialized"
MATRIX_INSTRUCTION = {80: "HMMA", 90: "HGMMA"}
STRIDE = re.compile("stride|_(row|at|head)$")
"""The names of arguments that are strides."""
WIDTHS = {"compiled": 11, "registers": 9, "local": 5, "shared": 6, "matrix": 6, "instructions": 12}
"""Columns of the table and their widths. Local and shared memory in bytes; `matrix` counts HMMA
or HGMMA instructions."""


class Job(NamedTuple):
    """Case number `index` of a file, for compute capability `target`."""

    path: Path
    index: int
    target: int


def main() -> int:
    """Compiles everything; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description="Compile gate of the Triton kernels")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print a list of results")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only the first case of each kernel, and its last for sm_90",
    )
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("TRITON_INTERPRET is set: nothing would be compiled")
    files = arguments.files or sorted(KERNELS.glob("*/triton_kernels.py"))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        jobs = list_jobs([Path(file).resolve() for file in files], arguments.quick)
        # Forked, the processes have the modules already.
        with multiprocessing.get_context("fork").Pool(arguments.processes) as pool:
            results = pool.map(examine, jobs, chunksize=1)
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        print_table(results)
        print(f"{len(results)} compilations in {time.perf_counter() - start:.0f} s")
    return int(any(result["problems"] for result in results))


def list_jobs(files: list[Path], quick: bool) -> list[Job]:
    """All cases of all files, for each of their targets; `quick` as in the help."""
    jobs = []
    for file in files:
        cases = load(file).gate_cases()
        kernels = [case.kernel for case in cases]
        for i, case in enumerate(cases):
            first, last = case.kernel not in kernels[:i], case.kernel not in kernels[i + 1 :]
            for target in case.targets:
                if not quick or first or (last and target == max(TARGETS)):
                    jobs.append(Job(file, i, target))
    return jobs


def load(file: Path) -> ModuleType:
    """The module of a file, under its proper name if it is one of the kernels."""
    if file.is_relative_to(KERNELS):
        return importlib.import_module(f"seedfold.kernels.{file.parent.name}.{file.stem}")
    if file.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
    return sys.modules[file.stem]


def examine(job: Job) -> dict[str, Any]:
    """Compiles a case; returns what was found, in words under `problems` and `note`."""
    case = load(job.path).gate_cases()[job.index]
    result = {
        "file": f"{job.path.parent.name}/{job.path.name}",
        "kernel": case.kernel.__name__,
        "case": job.index,
        "target": f"sm_{job.target}",
        "problems": [],
        "note": "",
    }
    start = time.perf_counter()
    try:
        result |= properties(case, job.target)
    except Exception as error:
        result["problems"] = [f"does not compile: {innermost(error)}"]
        return result
    result["compiled"] = f"{time.perf_counter() - start:.1f} s"
    result["problems"], result["note"] = judge(case, job.target, result)
    return result


def innermost(error: BaseException) -> str:
    """The first cause of an error, without the code that Triton shows with it."""
    while error.__cause__ is not None:
        error = error.__cause__
    told = [line for line in str(error).splitlines() if line.strip(" ^")]
    return ": ".join([type(error).__name__, *told[-1:]])


def properties(case: Any, target: int) -> dict[str, int]:
    """Compiles a case and reads registers, memory and instructions off the machine code."""
    import triton
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = case.kernel.arg_names
    signature = {n: case.signature.get(n, "constexpr") for n in names}
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if is_aligned(name, signature[name])
    }
    told_by_ptxas = io.StringIO()
    with (
        knobs.nvidia.scope(),
        knobs.compilation.scope(),
        contextlib.redirect_stdout(told_by_ptxas),
    ):
        knobs.nvidia.dump_ptxas_log = True
        knobs.compilation.always_compile = True
        compiled = triton.compile(
            ASTSource(case.kernel, signature, case.constexprs, attributes),
            target=GPUTarget("cuda", target, 32),
            options={"num_warps": case.num_warps, "num_stages": case.num_stages},
        )
    assert "ptxas info" in told_by_ptxas.getvalue(), "nothing is known of what ptxas did"
    usage, code = disassemble(compiled.asm["cubin"])
    return {
        # Hopper's matrix instructions run on by themselves; ptxas gives that up for a whole kernel,
        # with a note (C7510 to C7515), if it cannot tell their registers apart (see `settled` in
        # kernels/tiles.py).
        "serialised": int(SERIALISED in told_by_ptxas.getvalue()),
        "registers": usage["REG"],
        "local": usage["STACK"] + usage["LOCAL"],
        "shared": compiled.metadata.shared,
        "matrix": len(re.findall(rf"\b{MATRIX_INSTRUCTION[target]}\b", code)),
        "instructions": len(re.findall(r"/\*[0-9a-f]{4,}\*/ +\S", code)),
    }


def is_aligned(name: str, kind: str) -> bool:
    """Whether a launch would find the argument to be a multiple of 16, as pointers and strides are.

    Of tensors whose number of tokens is: other numbers of tokens are compiled apart.
    """
    return kind[0] == "*" or kind == "i64" or (kind == "i32" and bool(STRIDE.search(name)))


def disassemble(cubin: bytes) -> tuple[dict[str, int], str]:
    """Resource usage (REG, STACK, SHARED, LOCAL) and instructions of machine code."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        cuobjdump, nvdisasm = knobs.nvidia.cuobjdump.path, knobs.nvidia.nvdisasm.path
        usage, code = (
            subprocess.run([*tool, file.name], capture_output=True, text=True, check=True).stdout
            for tool in ([cuobjdump, "--dump-resource-usage"], [nvdisasm, "-c"])
        )
    return {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", usage)}, code


def judge(case: Any, target: int, found: dict[str, Any]) -> tuple[list[str], str]:
    """What is wrong with a compiled case, and what is to be known about it."""
    limit = SHARED_LIMIT[target]
    if found["shared"] > limit and target < max(TARGETS):
        return [], f"sm_{max(TARGETS)} only: more than {limit} bytes of shared memory"
    problems = []
    if found["shared"] > limit:
        problems.append(f"{found['shared']} bytes of shared memory, {limit} are there")
    if found["local"] > case.max_local:
        problems.append(f"{found['local']} bytes of local memory: values are spilled")
    if found["registers"] > case.max_registers:
        problems.append(f"{found['registers']} registers, expected {case.max_registers} at most")
    if case.tensor_cores and not found["matrix"]:
        problems.append(f"no {MATRIX_INSTRUCTION[target]}: the tensor cores are not used")
    if found["serialised"] and not case.may_serialise:
        problems.append("ptxas makes the matrix instructions wait for one another")
    return problems, ""


def print_table(results: list[dict[str, Any]]) -> None:
    """One line a compilation; failures are spelt out."""
    name_width = max((len(title(r)) for r in results), default=0)
    print(" " * name_width, *(f"{name:>{width}}" for name, width in WIDTHS.items()))
    for result in results:
        cells = [f"{result.get(name, '-'):>{width}}" for name, width in WIDTHS.items()]
        remark = "; ".join(f"FAILED: {p}" for p in result["problems"]) or result["note"]
        print(f"{title(result):{name_width}}", *cells, "", remark)


def title(result: dict[str, Any]) -> str:
    """Which compilation it is."""
    return f"{result['file']} {result['kernel']}[{result['case']}] {result['target']}"


if __name__ == "__main__":
    sys.exit(main())
