import dataclasses

import pytest
import torch
import torch.nn.functional as F

from seedfold.data_pipeline.features import Features, collate
from seedfold.kernels import OneHot
from seedfold.model.relative_position import (
    RelativePositionEncoding,
    raw_parts,
    relative_positions,
)


@pytest.fixture
def f(small_example) -> Features:
    """Tokens 0-2 and 3-5: two copies of one chain; 6: a nucleotide; 7-10: a ligand's atoms."""
    return collate([small_example])


def test_classes_of_known_pairs(f):
    positions = relative_positions(f)
    expected = {
        # (i, j): residue offset + 32 or 65, token offset + 32 or 65, same entity, copy + 2 or 5
        (0, 0): (32, 32, True, 2),
        (2, 0): (34, 65, True, 2),
        (0, 2): (30, 65, True, 2),
        (0, 3): (65, 65, True, 1),
        (3, 0): (65, 65, True, 3),
        (0, 6): (65, 65, False, 5),
        (9, 7): (32, 34, True, 2),
        (7, 10): (32, 29, True, 2),
    }
    for (i, j), classes in expected.items():
        assert tuple(x[0, i, j].item() for x in positions) == classes, (i, j)


def test_far_residues_share_a_class(f):
    f = dataclasses.replace(f, residue_index=f.residue_index * 100)
    positions = relative_positions(f).residue[0]
    assert positions[0, 2] == 0 and positions[2, 0] == 64


def test_cyclic_chains_count_the_shorter_way_around(f):
    index = torch.arange(1, 12)[None]
    one_chain = torch.zeros_like(index)
    f = dataclasses.replace(f, residue_index=index, asym_id=one_chain, cyclic_period=one_chain + 11)
    positions = relative_positions(f).residue[0] - 32
    assert positions[10, 0] == -1 and positions[0, 10] == 1
    assert positions[5, 0] == 5 and positions[6, 0] == -5
    assert torch.equal(positions, -positions.T)
    # Every residue sees the ring alike.
    assert torch.equal(positions.roll((3, 3), (0, 1)), positions)


def test_a_cyclic_chain_leaves_others_alone(f):
    period = torch.where(f.asym_id == 0, 3, 0)
    ring = relative_positions(dataclasses.replace(f, cyclic_period=period)).residue
    line = relative_positions(f).residue
    changed = (ring != line)[0].nonzero().tolist()
    assert changed == [[0, 2], [2, 0]]


def test_encoding_is_the_linear_map_of_the_one_hot_features(f):
    encoding = RelativePositionEncoding(8).double()
    features = torch.cat(
        [
            F.one_hot(p.index, p.n_classes).double() if isinstance(p, OneHot) else p
            for p in raw_parts(relative_positions(f), torch.float64)
        ],
        -1,
    )
    assert features.shape[-1] == 139
    assert torch.equal(features.sum(-1), 3 + (f.entity_id[:, :, None] == f.entity_id[:, None]))
    expected = encoding.linear(features)
    torch.testing.assert_close(encoding(f), expected, rtol=1e-12, atol=1e-12)
