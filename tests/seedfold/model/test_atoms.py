import pytest
import torch

from seedfold.data_pipeline.features import collate
from seedfold.model.atoms import gather_tokens, mean_over_atoms


@pytest.mark.parametrize("samples", [(), (3,)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_means_and_back(samples, dtype):
    """Token by token, over the real atoms only; the last token of example 1 has none."""
    x = torch.randn(2, *samples, 7, 4, generator=torch.Generator().manual_seed(0)).double()
    index = torch.tensor([[0, 0, 1, 2, 2, 2, 0], [0, 1, 1, 1, 0, 0, 0]], dtype=dtype)
    mask = torch.tensor([[True] * 6 + [False], [True] * 4 + [False] * 3])
    found = mean_over_atoms(x, index, mask, 3)
    for b in range(2):
        for t in range(3):
            mine = [x[b, ..., i, :] for i in range(7) if mask[b, i] and index[b, i] == t]
            expected = sum(mine) / len(mine) if mine else torch.zeros(*samples, 4).double()
            torch.testing.assert_close(found[b, ..., t, :], expected)
    back = gather_tokens(found, index)
    for b in range(2):
        for i in range(7):
            assert torch.equal(back[b, ..., i, :], found[b, ..., index[b, i], :])


def test_atoms_without_reference_say_nothing(small_network, small_example):
    """ref_mask = False: the conditioning is zero, whatever stands in the features."""
    embedding = small_network().input_embedder.atom_attention_encoder.atom_features
    c = embedding(collate([small_example]))[0]
    assert torch.equal((c == 0).all(-1), ~small_example.ref_mask)


def test_element_offset_moves_the_class(small_network, small_example):
    """Protenix counts hydrogen as class 0, we store atomic numbers."""
    plain, moved = small_network(), small_network(element_offset=-1)
    weight = plain.input_embedder.atom_attention_encoder.atom_features.linear_element.weight
    other = moved.input_embedder.atom_attention_encoder.atom_features
    with torch.no_grad():
        other.linear_element.weight.copy_(weight.roll(-1, 1))
        f = collate([small_example])
        expected = plain.input_embedder.atom_attention_encoder.atom_features(f)
        torch.testing.assert_close(other(f), expected)
