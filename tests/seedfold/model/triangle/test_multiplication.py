import pytest
import torch

from seedfold.model.triangle import TriangleMultiplication


@pytest.mark.parametrize(("c_hidden", "width"), [(None, 64), (128, 128)])
def test_width(c_hidden, width):
    """Six matrices and two norms (AF3 SI, Algorithm 12); hidden width c_z, or Protenix v1's 128."""
    module = TriangleMultiplication(64, "outgoing", c_hidden)
    expected = 4 * 64 * width + width * 64 + 64 * 64 + 2 * 64 + 2 * width
    assert sum(p.numel() for p in module.parameters()) == expected


@pytest.mark.parametrize("edges", ["outgoing", "incoming"])
def test_an_edge_reaches_the_pairs_that_share_its_token(edges, randomised, z, full):
    """z[1, 4] is an outgoing edge of 1 and an incoming one of 4."""
    module = randomised(TriangleMultiplication(64, edges))
    changed = z.clone()
    changed[0, 1, 4] = -changed[0, 1, 4]
    with torch.no_grad():
        change = (module(changed, full) - module(z, full))[0].abs().amax(-1) > 1e-12
    shared = 1 if edges == "outgoing" else 4
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[shared] = expected[:, shared] = True
    expected[1, 4] = True  # Its own gate.
    assert torch.equal(change, expected)


@pytest.mark.parametrize("edges", ["outgoing", "incoming"])
def test_padding_changes_nothing(edges, randomised, z, full):
    module = randomised(TriangleMultiplication(64, edges))
    padded = torch.full((1, 8, 8, 64), 3.0, dtype=z.dtype)
    padded[:, :6, :6] = z
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :6, :6] = True
    found = module(padded, mask)[:, :6, :6]
    torch.testing.assert_close(found, module(z, full), rtol=1e-10, atol=1e-10)
