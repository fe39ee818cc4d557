import pytest
import torch

from seedfold import kernels
from seedfold.kernels import backend

CPU = torch.device("cpu")


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
