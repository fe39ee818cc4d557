"""SeedFold: structure prediction of biomolecular complexes.

`seedfold.predict("input.fasta")` folds; `seedfold.load_model(name)` gives the network itself.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedfold.jobs import predict
    from seedfold.models import load_model

# An uninstalled checkout finds `seedfold.kernels` and `seedfold.data_pipeline` beside this folder.
__path__.append(str(Path(__file__).resolve().parent.parent))

__version__ = "0.1.0"
__all__ = ["__version__", "load_model", "predict"]

_LAZY = {"predict": "seedfold.jobs", "load_model": "seedfold.models"}


def __getattr__(name: str) -> Any:
    # `import seedfold` stays instant: torch and the rest load with the first use.
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'seedfold' has no attribute {name!r}")
