"""The page that goes with a bug report."""

import platform
from importlib import metadata

import torch

from seedfold import __version__
from seedfold.doctor import report


def test_the_page_names_what_matters():
    page = report()
    assert __version__ in page and platform.python_version() in page
    assert torch.__version__ in page and metadata.version("gemmi") in page
    assert "reference" in page and "UNTRAINED" in page
    assert ("cuda        none" in page) == (torch.cuda.device_count() == 0)
