"""The rules of docs/architecture.md as tests: who may import whom, and the doors."""

import ast
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "seedfold": "seedfold",
    "data_pipeline": "seedfold.data_pipeline",
    "kernels": "seedfold.kernels",
}

DOORS = {
    "gemmi": {"seedfold.data_pipeline.mmcif", "seedfold.data_pipeline.output"},
    "rdkit": {
        "seedfold.data_pipeline.molecules",
        "seedfold.evaluate.ligand_matching",
        "seedfold.evaluate.validity",
    },
    "posebusters": {"seedfold.evaluate.validity"},
    "Bio": {
        "seedfold.data_pipeline.alignments",
        "seedfold.data_pipeline.dialects.fasta",
        "seedfold.data_pipeline.templates",
    },
    "pyarrow": {
        "seedfold.data_pipeline.examples.manifest",
        "seedfold.evaluate.table_files",
    },
    "zstandard": {"seedfold.data_pipeline.examples.shards"},
    "fsspec": {"seedfold.data_pipeline.examples.shards"},
    "ray": {"seedfold.data_pipeline.prepare.engine", "seedfold.evaluate.cluster"},
    "foldcomp": {"seedfold.data_pipeline.prepare.foldcomp_database"},
    "pyhmmer": {
        "seedfold.data_pipeline.search.hmmer",
        "seedfold.data_pipeline.search.template_hits",
    },
    "matplotlib": {"seedfold.data_pipeline.prepare.pictures", "seedfold.evaluate.plots"},
    "triton": {"seedfold.kernels.tiles", "*.triton_kernels"},
    "lightning": {"seedfold.train.*"},
    "hydra": {"seedfold.train.compose"},
    "omegaconf": {"seedfold.train.compose"},
    "deepspeed": {"seedfold.train.zero"},
    "wandb": {"seedfold.train.curves"},
    "typer": {"seedfold.cli", "seedfold.weights.cli", "seedfold.commands.*"},
    "rich": {"seedfold.cli", "seedfold.progress"},
}

# Importer (longest matching prefix wins) -> first-party prefixes it may import.
MAY_IMPORT = {
    "seedfold.kernels": ("seedfold.kernels",),
    "seedfold.data_pipeline": ("seedfold.data_pipeline",),
    "seedfold.data_pipeline.features": (),
    "seedfold.data_pipeline.chemistry": (),
    "seedfold.data_pipeline.errors": (),
    "seedfold.geometry": (),
    "seedfold.config": ("seedfold.data_pipeline.errors",),
    "seedfold.loss": (
        "seedfold.loss",
        "seedfold.model",
        "seedfold.geometry",
        "seedfold.data_pipeline.features",
        "seedfold.data_pipeline.chemistry",
        "seedfold.data_pipeline.examples.symmetries",
    ),
    "seedfold.model": (
        "seedfold.model",
        "seedfold.geometry",
        "seedfold.config",
        "seedfold.kernels",
        "seedfold.data_pipeline.features",
        "seedfold.data_pipeline.chemistry",
    ),
}


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(p for p in parts if p != "__init__")])
            found[name] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names |= {
                f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module
                for a in node.names
            }
    return names


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_drawing(name):
    rules = [prefix for prefix in MAY_IMPORT if within(name, prefix)]
    if not rules:
        return
    allowed = MAY_IMPORT[max(rules, key=len)]
    for imported in imports(MODULES[name]):
        if within(imported, "seedfold"):
            assert any(within(imported, prefix) for prefix in allowed), f"{name} imports {imported}"


# What operations share, and the one whose kernels another is made of.
SHARED_BY_KERNELS = ("seedfold.kernels.backend", "seedfold.kernels.tiles", "seedfold.kernels.dense")
BUILT_ON = {"seedfold.kernels.pair_bias_attention": "seedfold.kernels.triangle_attention"}


@pytest.mark.parametrize("name", [n for n in MODULES if within(n, "seedfold.kernels")])
def test_no_kernel_imports_another(name):
    own = ".".join(name.split(".")[:3])
    allowed = [own, *SHARED_BY_KERNELS]
    allowed += [BUILT_ON[own] + ".triton_kernels"] if own in BUILT_ON else []
    for imported in imports(MODULES[name]):
        if within(imported, "seedfold.kernels") and name != "seedfold.kernels":
            assert any(within(imported, prefix) for prefix in allowed), imported


def test_kernels_are_imported_only_when_they_are_used():
    """Triton is slow to import and often not there: only `fused` modules reach kernels."""
    for name, path in MODULES.items():
        if name.rsplit(".")[-1] in ("fused", "triton_kernels"):
            continue
        at_import = {
            f"{node.module}.{alias.name}"
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not [i for i in at_import if ".fused" in i or ".triton_kernels" in i], name


@pytest.mark.parametrize("name", MODULES)
def test_heavy_dependencies_have_doors(name):
    for imported in imports(MODULES[name]):
        door = DOORS.get(imported.split(".")[0])
        assert door is None or any(fnmatch(name, d) for d in door), (
            f"{name} imports {imported}; its doors are {door}"
        )


def test_model_and_training_floor_need_no_chemistry():
    """Training runs where only torch, numpy and lightning are installed (architecture 2.5)."""
    for name in MODULES:
        if any(
            within(name, p) for p in ("seedfold.model", "seedfold.kernels", "seedfold.geometry")
        ):
            roots = {i.split(".")[0] for i in imports(MODULES[name])}
            assert not roots & {"gemmi", "rdkit", "biotite", "Bio"}, name


def imported_at_once(name: str) -> set[str]:
    """Modules that importing `name` imports, ours followed to their ends."""
    found, stack = set(), [name]
    while stack:
        for node in ast.parse(MODULES[stack.pop()].read_text()).body:
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
                names = inner or {str(node.module)}
            else:
                continue
            stack += [n for n in names - found if n in MODULES]
            found |= names
    return found


def test_what_training_reads_needs_no_chemistry():
    for name in MODULES:
        floors = ("data_pipeline.examples", "model", "loss", "train")
        if any(within(name, f"seedfold.{floor}") for floor in floors):
            roots = {i.split(".")[0] for i in imported_at_once(name)}
            assert not roots & {"gemmi", "rdkit", "biotite", "Bio", "pyhmmer", "ray"}, name


def test_packages_list_equals_the_tree():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tree = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert set(settings["packages"]) == tree


def test_every_module_has_a_test():
    missing = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if path.name.startswith("__"):
                continue
            relative = path.relative_to(ROOT)
            at = ROOT / "tests" / relative.parent / f"test_{path.name}"
            if folder == "kernels" and path.parent != ROOT / "kernels":
                at = ROOT / "tests" / "kernels" / f"test_{path.parent.name}.py"
            if not at.exists():
                missing.append(str(relative))
    assert not missing, f"without tests: {missing}"


def test_no_banned_names():
    banned = {"utils", "helpers", "misc", "common"}
    assert not [p for p in MODULES.values() if p.stem in banned]


def test_forward_takes_mathematics_only():
    """No chunk size, kernel choice or in-place flag in any `forward` (architecture 2.2)."""
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "forward":
                arguments = [a.arg for a in node.args.args + node.args.kwonlyargs]
                bad = [
                    a for a in arguments if a.startswith(("use_", "inplace", "chunk", "checkpoint"))
                ]
                assert not bad, f"{name}.forward takes {bad}"
