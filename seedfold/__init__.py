"""SeedFold: structure prediction of biomolecular complexes."""

from pathlib import Path

# An uninstalled checkout finds `seedfold.kernels` and `seedfold.data_pipeline` beside this folder.
__path__.append(str(Path(__file__).resolve().parent.parent))

__version__ = "0.1.0"
