"""The hand of centres: closed forms, and amino acids as gemmi reads them."""

import itertools
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from seedfold.loss.diffusion import FLAT, Truth, chirality_loss

F64 = torch.float64
TETRAHEDRON = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1]], dtype=F64) / 3**0.5
STRUCTURE = Path(__file__).resolve().parents[3] / "examples" / "structures" / "6yqw.cif.gz"


def centre(length=1.53, directions=TETRAHEDRON):
    """A centre at the origin and its three neighbours [4 3]."""
    return torch.cat([torch.zeros(1, 3, dtype=F64), length * directions])


def truth_of(x, weight=None):
    """A truth [B N_truth N_atom 3] whose atoms are all known, or have weights."""
    weight = torch.ones(x.shape[:-1], dtype=F64) if weight is None else weight
    return Truth(x=x, weight=weight, resolved=weight > 0)


def loss(x, x_gt, weight=None):
    """Of one sample [N_atom 3] of one truth."""
    weight = None if weight is None else weight[None, None]
    return chirality_loss(x[None, None], truth_of(x_gt[None, None], weight)).item()


def test_closed_forms():
    x_gt = centre()
    assert loss(x_gt, x_gt) == pytest.approx(0, abs=1e-12)
    assert loss(-x_gt, x_gt) == pytest.approx(1)
    assert loss(x_gt * torch.tensor([1, 1, 0]), x_gt) == pytest.approx(0.5)
    # The triple product of directions at an angle t to an axis is 3 sqrt(3) / 2 sin^2 t cos t.
    for angle in (0.3, 1.2, 2.0):
        turns = torch.arange(3, dtype=F64) * 2 * torch.pi / 3
        up = torch.full_like(turns, np.cos(angle))
        cone = torch.stack([np.sin(angle) * turns.cos(), np.sin(angle) * turns.sin(), up], 1)
        hand = 3 * 3**0.5 / 2 * np.sin(angle) ** 2 * np.cos(angle)
        ideal = torch.linalg.det(TETRAHEDRON).item()
        expected = max(1 - hand / ideal, 0) / 2
        assert loss(centre(directions=cone), centre()) == pytest.approx(expected, abs=1e-9)


def test_lengths_and_motions_change_next_to_nothing():
    x_gt = centre()
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=F64, generator=torch.manual_seed(1)))[0]
    rotation *= torch.linalg.det(rotation)
    moved = centre(length=1.3) @ rotation.T + 40
    assert loss(moved, x_gt) == pytest.approx(0, abs=1e-2)
    assert loss(-moved, x_gt) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(
    "x_gt",
    [
        centre(directions=TETRAHEDRON * torch.tensor([1, 1, 0.05])),
        torch.cat([centre(), -centre()[1:].sum(0, keepdim=True)]),
        centre(length=2.3),
        centre()[:3],
    ],
    ids=["in one plane", "four neighbours", "too far away", "two neighbours"],
)
def test_what_is_no_centre_has_no_loss(x_gt):
    x = (-x_gt).requires_grad_()
    found = chirality_loss(x[None, None], truth_of(x_gt[None, None]))
    assert found.item() == 0
    assert not torch.autograd.grad(found.sum(), x)[0].any()


def test_a_mean_over_centres_times_their_weights():
    x_gt = torch.cat([centre(), centre() + 9, centre() + 18])
    x = torch.cat([centre(), -centre() + 9, -centre() + 18])
    assert loss(x, x_gt) == pytest.approx(2 / 3)
    weight = torch.ones(12, dtype=F64)
    weight[4:8] = 0.5
    assert loss(x, x_gt, weight) == pytest.approx(1.5 / 3)
    weight[5] = 0  # A neighbour that is not known: no centre.
    assert loss(x, x_gt, weight) == pytest.approx(1 / 2)


def test_samples_examples_and_truths_are_apart():
    """The second truth is the mirror image of the first."""
    x_gt = torch.stack([centre(), -centre()])
    x = torch.stack([x_gt, -x_gt])
    found = chirality_loss(x, truth_of(x_gt.expand(2, 2, 4, 3)))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0], [1, 1]], dtype=F64))
    found = chirality_loss(x, truth_of(x_gt[None, :1].expand(2, 1, 4, 3)))
    torch.testing.assert_close(found, torch.tensor([[0.0, 1], [1, 0]], dtype=F64))


def test_gradients_are_finite_differences():
    generator = torch.Generator().manual_seed(2)
    x_gt = torch.cat([centre(), centre() + 9])[None, None]
    x = x_gt + 0.5 * torch.randn(1, 3, 8, 3, dtype=F64, generator=generator)
    assert gradcheck(lambda x: chirality_loss(x, truth_of(x_gt)), x.requires_grad_())


def test_atoms_on_one_another_have_a_gradient():
    x = torch.zeros(1, 1, 4, 3, dtype=F64, requires_grad=True)
    found = chirality_loss(x, truth_of(centre()[None, None]))
    assert found.item() == pytest.approx(0.5)
    assert torch.autograd.grad(found.sum(), x)[0].isfinite().all()


def test_centres_of_a_real_protein():
    """Every CA but glycine's; gemmi measures the same hand of all."""
    structure = gemmi.read_structure(str(STRUCTURE))
    structure.remove_hydrogens()
    structure.remove_waters()
    structure.remove_alternative_conformations()
    atoms = [cra.atom for cra in structure[0].all()]
    x_gt = torch.tensor([a.pos.tolist() for a in atoms], dtype=F64)
    place = {id(a): i for i, a in enumerate(atoms)}
    n_centres = 0
    for residue in itertools.chain.from_iterable(structure[0]):
        named = {a.name: a for a in residue}
        if not {"N", "CA", "C", "CB"} <= named.keys():
            continue
        four = [named[name] for name in ("CA", "N", "C", "CB")]
        volume = gemmi.calculate_dihedral(*(named[n].pos for n in ("CB", "N", "C", "CA")))
        rows = [place[id(a)] for a in four]
        x = x_gt[rows]
        # CB on the other side of the plane of the others: the other hand.
        normal = torch.linalg.cross(x[1] - x[0], x[2] - x[0])
        flipped = x.clone()
        flipped[3] -= 2 * normal * ((x[3] - x[0]) @ normal) / (normal @ normal)
        assert loss(x, x) == pytest.approx(0, abs=1e-12)
        assert loss(flipped, x) == pytest.approx(1, abs=1e-9)
        assert volume < 0, "all are L amino acids"
        n_centres += 1
    assert n_centres == 97
    assert loss(-x_gt, x_gt) == pytest.approx(1)
    assert torch.linalg.det(TETRAHEDRON).abs() > FLAT
