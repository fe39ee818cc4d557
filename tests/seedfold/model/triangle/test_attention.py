import pytest
import torch

from seedfold.model.triangle import TriangleAttention


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("c_z", "config", "n_heads", "width"),
    [
        (128, {}, 4, 128),
        (256, {}, 8, 256),  # Protenix v2, SeedFold: heads grow with c_z.
        (32, {"n_heads": 4}, 4, 128),  # Protenix v1's template: 4 x 32 whatever c_z is.
        (512, {"n_heads": 8, "c_head": 64}, 8, 512),  # IntelliFold-2.
    ],
)
def test_heads(c_z, config, n_heads, width):
    attention = TriangleAttention(TriangleAttention.Config(**config), c_z)
    assert attention.linear_bias.weight.shape == (n_heads, c_z)
    assert attention.linear_q.weight.shape == (width, c_z)
    # q, k, v, gate and output of the width, a bias per head, one LayerNorm (AF3 SI, Alg. 14).
    assert count(attention) == 5 * c_z * width + n_heads * c_z + 2 * c_z


def test_a_width_without_whole_heads_is_refused():
    with pytest.raises(ValueError, match=r"c_z 48 and c_head 32"):
        TriangleAttention(TriangleAttention.Config(), 48)


def test_original_ending_bias_is_read_before_the_transpose(randomised, z, full):
    """z[1, 3] biases query 1 of the ending node there, and query 3 in the supplement."""
    changed = z.clone()
    changed[0, 1, 3] = -changed[0, 1, 3]

    def moved_queries(ending_bias):
        config = TriangleAttention.Config(ending_bias=ending_bias)
        attention = randomised(TriangleAttention(config, 64, ending=True))
        with torch.no_grad():
            before, after = (attention(x.transpose(1, 2), full) for x in (z, changed))
        # Row 3 of the transposed pairs holds the changed one itself.
        change = (after - before)[0].abs().amax(-1)[torch.arange(6) != 3]
        return (change > 1e-12).any(0).nonzero()[:, 0].tolist()

    assert moved_queries("original") == [1]
    assert moved_queries("transposed") == [3]


def test_the_starting_node_is_the_same_either_way(randomised, z, full):
    outputs = [
        randomised(TriangleAttention(TriangleAttention.Config(ending_bias=bias), 64))(z, full)
        for bias in ("original", "transposed")
    ]
    assert torch.equal(*outputs)
