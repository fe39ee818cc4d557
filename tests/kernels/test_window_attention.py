import pytest
import torch

from seedfold.kernels import window_attention


@pytest.mark.parametrize("batch", [(1,), (2,), (1, 3), (2, 3)])
def test_windows_are_a_mask_on_full_attention(batch):
    """Every query attends as in dense attention in which all other keys are forbidden."""
    generator = torch.Generator().manual_seed(3)
    n_atom, n_queries, n_head, c = 11, 4, 2, 3
    n_block = 3
    q, k, v = torch.randn(3, *batch, n_head, n_atom, c, generator=generator).double()
    key_index = torch.tensor([[0, 1, 2, 3, 4, 0], [2, 3, 4, 5, 6, 7], [6, 7, 8, 9, 10, 10]])
    bias = torch.randn(batch[0], n_head, n_block, n_queries, 6, generator=generator).double()
    bias[..., 0, :, 5] = -1e9
    bias[..., 2, :, 5] = -1e9
    found = window_attention(q, k, v, bias, key_index)
    dense = torch.full((batch[0], n_head, n_atom, n_atom), -torch.inf, dtype=q.dtype)
    for i in range(n_atom):
        block, row = divmod(i, n_queries)
        for column, j in enumerate(key_index[block].tolist()):
            if bias[0, 0, block, row, column] > -1e8:
                dense[..., i, j] = bias[..., block, row, column]
    while dense.dim() < q.dim():
        dense = dense.unsqueeze(1)
    weights = (torch.einsum("...ic,...jc->...ij", q, k) / c**0.5 + dense).softmax(-1)
    torch.testing.assert_close(found, weights @ v)


def test_gradients():
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(1, 1, 5, 2, generator=generator).double() for _ in range(3))
    bias = torch.randn(1, 1, 2, 3, 4, generator=generator).double()
    key_index = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    inputs = [t.requires_grad_() for t in (q, k, v, bias)]
    assert torch.autograd.gradcheck(lambda *t: window_attention(*t, key_index), inputs)
