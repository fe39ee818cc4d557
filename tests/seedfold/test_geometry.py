import math

import biotite.structure as struc
import numpy as np
import pytest
import torch

from seedfold.geometry import (
    alignment_error,
    centre_and_move,
    express_in_frames,
    frames_from_atoms,
    lddt,
    random_rotation,
    smooth_lddt,
    weighted_rigid_align,
)

F64 = torch.float64


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def points(n, generator, *batch):
    return torch.randn(*batch, n, 3, generator=generator, dtype=F64) * 8


def test_alignment_undoes_a_motion(generator):
    target = points(12, generator, 4)
    rotation = random_rotation(4, generator=generator, dtype=F64)
    x = target @ rotation.mT + 5
    weight = torch.rand(4, 12, generator=generator, dtype=F64)
    torch.testing.assert_close(weighted_rigid_align(x, target, weight), target)


def test_alignment_is_biotites(generator):
    """Unweighted least squares against biotite.structure.superimpose."""
    x, target = points(9, generator), points(9, generator)
    expected, _ = struc.superimpose(target.numpy(), x.numpy())
    found = weighted_rigid_align(x, target, torch.ones(9, dtype=F64))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)  # biotite: float32


def test_alignment_never_mirrors(generator):
    target = points(10, generator)
    mirrored = target * torch.tensor([1.0, 1.0, -1.0], dtype=F64)
    found = weighted_rigid_align(mirrored, target, torch.ones(10, dtype=F64))
    volume = [torch.linalg.det(p[1:4] - p[0]).sign() for p in (mirrored, found)]
    assert volume[0] == volume[1]


def test_weights_of_zero_are_left_out(generator):
    x, target = points(8, generator), points(8, generator)
    weight = torch.tensor([1.0] * 6 + [0.0] * 2, dtype=F64)
    moved = weighted_rigid_align(x, target, weight)
    expected = weighted_rigid_align(x[:6], target[:6], weight[:6])
    torch.testing.assert_close(moved[:6], expected)


def test_frame_of_a_right_angle():
    """Algorithm 29 by hand: atoms on the x and y axes, the bisector is the first axis."""
    a, b, c = (torch.tensor(p, dtype=F64) for p in ([1.0, 0, 0], [0.0, 0, 0], [0.0, 1, 0]))
    axes, origin = frames_from_atoms(a, b, c)
    h = math.sqrt(0.5)
    expected = torch.tensor([[h, h, 0], [-h, h, 0], [0, 0, 1]], dtype=F64)
    torch.testing.assert_close(axes, expected)
    local = express_in_frames(torch.tensor([[2.0, 0, 3]], dtype=F64), axes[None], origin[None])
    torch.testing.assert_close(local[0, 0], torch.tensor([2 * h, -2 * h, 3], dtype=F64))


def test_alignment_error_ignores_motion_and_sees_shifts(generator):
    x = points(6, generator)
    frame = points(3, generator, 2)
    rotation = random_rotation(generator=generator, dtype=F64)
    moved, moved_frame = x @ rotation.mT + 3, frame @ rotation.mT + 3
    moved = moved.clone()
    moved[4] += torch.tensor([0.0, 3.0, 4.0], dtype=F64)
    error = alignment_error(moved, moved_frame, x, frame)
    expected = torch.zeros(2, 6, dtype=F64)
    expected[:, 4] = 5.0
    torch.testing.assert_close(error, expected, atol=2e-4, rtol=0)


def test_rotations_are_haar():
    """Moments of a uniform rotation: E[R] = 0, E[R_ij^2] = 1/3, E[tr R] = 0, E[(tr R)^2] = 1."""
    r = random_rotation(40000, generator=torch.Generator().manual_seed(0), dtype=F64)
    torch.testing.assert_close(r @ r.mT, torch.eye(3, dtype=F64).expand_as(r))
    assert torch.linalg.det(r).min() > 0.999
    assert r.mean(0).abs().max() < 0.015
    assert (r**2).mean(0).sub(1 / 3).abs().max() < 0.015
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert abs(trace.mean()) < 0.02 and abs((trace**2).mean() - 1) < 0.03


def test_centring_looks_at_real_atoms_only(generator):
    x = points(5, generator)
    mask = torch.tensor([True, True, True, False, False])
    rotation = random_rotation(generator=generator, dtype=F64)
    shift = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    moved = centre_and_move(x, mask, rotation, shift)
    torch.testing.assert_close(moved[:3].mean(0), shift)
    torch.testing.assert_close(moved[0] - moved[1], rotation @ (x[0] - x[1]))


def test_lddt_is_biotites(generator):
    """Against biotite.structure.lddt, per atom, no exclusion of pairs within a residue."""
    truth = struc.AtomArray(40)
    truth.coord = (torch.rand(40, 3, generator=generator) * 25).numpy()
    truth.res_id[:] = np.arange(40)
    model = truth.copy()
    model.coord = truth.coord + torch.randn(40, 3, generator=generator).numpy()
    expected = struc.lddt(truth, model, aggregation="atom", exclude_same_residue=False)
    x, x_gt = (torch.from_numpy(a.coord).double() for a in (model, truth))
    found = lddt(x, x_gt, torch.ones(40, 40, dtype=torch.bool))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_smooth_lddt_by_hand():
    """Two atoms 3 A apart in the truth, 4.5 A in the model: an error of 1.5 A."""
    x, x_gt = torch.zeros(2, 3, dtype=F64), torch.zeros(2, 3, dtype=F64)
    x[1, 0], x_gt[1, 0] = 4.5, 3.0
    expected = sum(1 / (1 + math.exp(1.5 - t)) for t in (0.5, 1, 2, 4)) / 4
    pair_mask = torch.ones(2, 2, dtype=torch.bool)
    assert smooth_lddt(x, x_gt, pair_mask).item() == pytest.approx(expected, abs=1e-6)
    assert smooth_lddt(x, x_gt, pair_mask, radius=2.0).item() == 0.0


def test_smooth_lddt_has_gradients_where_atoms_coincide():
    x = torch.zeros(3, 3, dtype=F64, requires_grad=True)
    smooth_lddt(x, torch.rand(3, 3, dtype=F64), torch.ones(3, 3, dtype=torch.bool)).backward()
    assert x.grad is not None and x.grad.isfinite().all()
