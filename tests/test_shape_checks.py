"""That the hook of pyproject.toml, as tests/conftest.py narrows it, still checks shapes."""

import jaxtyping
import pytest
import torch

from seedfold.geometry import masked_mean


def test_a_wrong_shape_is_refused():
    """One that PyTorch itself would broadcast."""
    x = torch.ones(2, 5, 3)
    assert masked_mean(x, torch.ones(2, 5)).shape == (2, 1, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="weight"):
        masked_mean(x, torch.ones(2, 1))
