"""Projection against closed forms, brute force and the stereochemistry of a real structure."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.ideal_geometry import dihedral
from seedfold.data_pipeline.mmcif import read_structure
from seedfold.data_pipeline.query import Document
from seedfold.data_pipeline.restraints import restraints
from seedfold.data_pipeline.stereochemistry import check
from seedfold.geometry import weighted_rigid_align
from seedfold.model.guidance import Guidance, Limits, torsion_and_gradient

PART = Path(__file__).resolve().parents[2] / "data/7w06_part.cif"
CPU = torch.device("cpu")


def limits_for(n_atom: int, *, pairs=(), quads=(), torsions=(), radius: float = 0.0) -> Limits:
    """Rows are (atoms, least, most), of torsions (atoms, side)."""
    return Limits(
        pairs=torch.tensor([p[0] for p in pairs], dtype=torch.int64).reshape(-1, 2),
        least=torch.tensor([p[1] for p in pairs], dtype=torch.float64),
        most=torch.tensor([p[2] for p in pairs], dtype=torch.float64),
        quads=torch.tensor([q[0] for q in quads], dtype=torch.int64).reshape(-1, 4),
        least_volume=torch.tensor([q[1] for q in quads], dtype=torch.float64),
        most_volume=torch.tensor([q[2] for q in quads], dtype=torch.float64),
        torsions=torch.tensor([t[0] for t in torsions], dtype=torch.int64).reshape(-1, 4),
        side=torch.tensor([t[1] for t in torsions], dtype=torch.int64),
        twist=torch.full((len(torsions),), np.radians(15), dtype=torch.float64),
        radii=torch.full((n_atom,), radius, dtype=torch.float64),
        near=torch.zeros(0, dtype=torch.int64),
    )


@pytest.fixture(scope="module")
def real():
    """A crystal structure without unknown atoms, its coordinates, its limits."""
    structure = read_structure(Document(name="7w06", path=PART))
    x = torch.from_numpy(structure.atoms.coord).double()
    assert x.isfinite().all()
    values = dataclasses.asdict(restraints(structure))
    return structure, x, Limits(**{n: torch.from_numpy(v) for n, v in values.items()})


@pytest.mark.parametrize("distance, expected", [(0.5, 1.0), (1.2, 1.2), (3.0, 1.5)])
def test_a_pair_goes_to_its_nearest_limit_about_its_middle(distance, expected):
    limits = limits_for(2, pairs=[((0, 1), 1.0, 1.5)])
    x = torch.tensor([[[1.0, 2, 3], [1, 2, 3 + distance]]], dtype=torch.float64)
    moved = Guidance(limits=limits, step=1.0, momentum=0.0).project(x, 1)
    middle = 3 + distance / 2
    heights = torch.tensor([middle - expected / 2, middle + expected / 2], dtype=torch.float64)
    torch.testing.assert_close(moved[0, :, 2], heights)
    torch.testing.assert_close(moved[0, :, :2], x[0, :, :2])


def test_an_atom_goes_by_the_mean_of_the_limits_that_it_breaks():
    # In a row, 1 too far from both sides: the outer atoms come, the middle one stays.
    limits = limits_for(3, pairs=[((0, 1), 0.0, 1.0), ((1, 2), 0.0, 1.0), ((0, 2), 0.0, 9.0)])
    x = torch.tensor([[[-2.0, 0, 0], [0, 0, 0], [2, 0, 0]]], dtype=torch.float64)
    moved = Guidance(limits=limits, step=1.0, momentum=0.0).project(x, 1)
    expected = torch.tensor([-1.5, 0, 1.5], dtype=torch.float64)
    torch.testing.assert_close(moved[0, :, 0], expected)


def test_a_volume_is_turned_inside_out_without_moving_its_centre():
    limits = limits_for(4, quads=[((0, 1, 2, 3), 2.0, 3.0)])
    x = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, -1]]], dtype=torch.float64)
    moved = Guidance(limits=limits, step=1.0, momentum=0.0).project(x, 100)[0]
    volume = torch.linalg.det(moved[1:] - moved[0])
    assert 2.0 - 1e-6 <= volume <= 3.0 + 1e-6
    torch.testing.assert_close(moved.mean(0), x[0].mean(0))


@pytest.mark.parametrize("start", [20.0, 70.0, -95.0, 170.0])
@pytest.mark.parametrize("side", [1, 0, -1])
def test_torsions_come_to_the_side_that_they_belong_to(start, side):
    # Four atoms in a row, bonds of 1.4, angles of 120 degrees.
    tau, h = np.radians(start), 1.4 * np.sin(np.radians(60))
    row = [[-0.7, h, 0], [0, 0, 0], [1.4, 0, 0], [2.1, h * np.cos(tau), h * np.sin(tau)]]
    x = torch.tensor([row], dtype=torch.float64)
    bonds = [((k, k + 1), 1.38, 1.42) for k in range(3)]
    angles = [((k, k + 2), 2.4, 2.45) for k in range(2)]
    limits = limits_for(4, pairs=[*bonds, *angles], torsions=[((0, 1, 2, 3), side)])
    moved = Guidance(limits=limits).project(x, 200)
    found = abs(dihedral(moved.numpy())[0])
    cis = side == 1 or (side == 0 and abs(start) < 90)
    assert found < 15.1 if cis else found > 164.9
    distance = (moved[0, limits.pairs[:, 0]] - moved[0, limits.pairs[:, 1]]).norm(dim=-1)
    assert (distance > limits.least - 0.01).all() and (distance < limits.most + 0.01).all()


def test_torsions_and_their_gradients():
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(20, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    torsion, grad = torsion_and_gradient(x)
    np.testing.assert_allclose(np.degrees(torsion.detach()), dihedral(x.detach().numpy()))
    (expected,) = torch.autograd.grad(torsion.sum(), x)
    torch.testing.assert_close(grad, expected)


def test_atoms_are_pushed_apart_unless_bonds_are_between():
    x = torch.tensor([[[0.0, 0, 0], [0.6, 0, 0], [0, 0.7, 0]]], dtype=torch.float64)
    limits = dataclasses.replace(limits_for(3, radius=1.0), near=torch.tensor([0 * 3 + 1]))
    moved = Guidance(limits=limits).project(x, 200)[0]
    distance = torch.cdist(moved, moved)
    assert distance[0, 2] >= 2 - 1e-3 and distance[1, 2] >= 2 - 1e-3
    assert distance[0, 1] < 1.5


def test_close_pairs_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr("seedfold.model.guidance._BLOCK", 7)
    generator = torch.Generator().manual_seed(3)
    x = 5 * torch.rand(2, 30, 3, generator=generator, dtype=torch.float64)
    bonded = torch.tensor([2 * 30 + 5, 4 * 30 + 9])
    limits = dataclasses.replace(limits_for(30, radius=0.6), near=bonded)
    pairs, apart = Guidance(limits=limits)._close_pairs(x)
    expected = {
        (k * 30 + i, k * 30 + j)
        for k in range(2)
        for i in range(30)
        for j in range(i + 1, 30)
        if (x[k, i] - x[k, j]).norm() < 1.2 + 1.0 and i * 30 + j not in bonded.tolist()
    }
    assert {tuple(p) for p in pairs.tolist()} == expected
    assert len(pairs) == len(expected) > 20
    assert (apart == 1.2).all()


def test_a_real_structure_stays_as_it_is(real):
    _, x, limits = real
    moved = Guidance(limits=limits.to(CPU, x.dtype))(x[None, None], 0.0)[0, 0]
    assert (moved - x).norm(dim=-1).mean() < 0.03


def test_noise_is_mended(real):
    # Judged by other limits than those projected on, and by the truth.
    structure, x, limits = real
    noise = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    noisy = x + 0.35 * noise
    outliers = check(structure, noisy[0].numpy()).outliers
    assert min(outliers[k] for k in ("bond_lengths", "bond_angles", "chirality")) > 0
    moved = Guidance(limits=limits.to(CPU, x.dtype)).project(noisy, 200)
    weight = torch.ones(x.shape[0], dtype=x.dtype)
    for k in range(2):
        report = check(structure, moved[k].numpy())
        assert report.ok, report.worst
        error, before = (
            (weighted_rigid_align(x, y, weight) - y).norm(dim=-1).mean()
            for y in (moved[k], noisy[k])
        )
        assert error < 0.85 * before


def test_the_hand_is_set_right_from_the_mirror_image(real):
    structure, x, limits = real
    moved = Guidance(limits=limits.to(CPU, x.dtype)).project(-x[None], 1000)[0]
    report = check(structure, moved.numpy())
    assert report.checked["chirality"] > 10
    assert report.outliers["chirality"] == 0


def test_every_sample_is_by_itself(real):
    _, x, limits = real
    guidance = Guidance(limits=limits.to(CPU, torch.float32))
    noise = torch.randn(3, *x.shape, generator=torch.Generator().manual_seed(6))
    noisy = x.float() + 0.5 * noise
    together = guidance.project(noisy, 20)
    torch.testing.assert_close(guidance.project(noisy[1:2], 20)[0], together[1], rtol=0, atol=0)


def test_high_noise_is_left_alone_and_other_molecules_are_refused(real):
    _, x, limits = real
    guidance = Guidance(limits=limits.to(CPU, torch.float32), begin=4.0)
    noisy = torch.randn(1, 1, len(x), 3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(guidance(noisy, 4.1), noisy)
    assert not torch.equal(guidance(noisy, 4.0), noisy)
    with pytest.raises(ValueError, match=r"expected one example of \d+ atoms"):
        guidance(noisy[:, :, 1:], 4.0)


def test_numbers_that_are_none_stay_visible(real):
    _, x, limits = real
    broken = x.clone()
    broken[3] = np.nan
    moved = Guidance(limits=limits.to(CPU, x.dtype)).project(broken[None], 2)
    assert not moved.isfinite().all()
