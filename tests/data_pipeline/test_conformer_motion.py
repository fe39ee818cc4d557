import numpy as np
import pytest

from seedfold.data_pipeline.conformer_motion import MAX_SHIFT, moved, moved_as_one, placed


def distances(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, None] - x[None], axis=-1)


def handedness(x: np.ndarray) -> float:
    return float(np.linalg.det(x[1:4] - x[0]))


@pytest.fixture
def atoms():
    x = np.random.default_rng(0).normal(5, 3, (3000, 3))
    return x, np.repeat(np.arange(600), 5)


def test_every_conformer_is_moved_rigidly_and_alone(atoms):
    x, uid = atoms
    found = moved(x, np.ones(len(x), bool), uid, seed=1)
    for residue in range(5):
        at = uid == residue
        np.testing.assert_allclose(distances(found[at]), distances(x[at]), atol=1e-5)
        assert handedness(found[at]) == pytest.approx(handedness(x[at]), rel=1e-4)
    centres = found.reshape(600, 5, 3).mean(1)
    assert np.linalg.norm(centres, axis=1).max() <= MAX_SHIFT * 3**0.5 + 1e-5
    # Uniform in a cube: variance is (2 MAX_SHIFT)^2 / 12; turned, it is the same on every axis.
    np.testing.assert_allclose(centres.var(0), MAX_SHIFT**2 / 3, rtol=0.2)


def test_centres_leave_out_what_is_not_known(atoms):
    x, uid = atoms
    mask = np.arange(len(x)) % 5 > 0
    found = moved(np.where(mask[:, None], x, 0.0), mask, uid, seed=1)
    assert (found[~mask] == 0).all()
    kept = found[mask].reshape(600, 4, 3)
    assert np.linalg.norm(kept.mean(1), axis=1).max() <= MAX_SHIFT * 3**0.5 + 1e-5


def test_one_motion_keeps_all_distances(atoms):
    x, _ = atoms
    found = moved_as_one(x[:50], np.ones(50, bool), seed=2)
    np.testing.assert_allclose(distances(found), distances(x[:50]), atol=1e-4)
    assert handedness(found) == pytest.approx(handedness(x[:50]), rel=1e-4)
    assert np.abs(found - x[:50]).max() > 1


def test_still_conformers_are_centred_and_no_more(atoms):
    x, uid = atoms
    mask = np.arange(len(x)) % 5 > 0
    pos = np.where(mask[:, None], x, 0.0)
    found = placed(pos, mask, uid, 1, "still")
    known = x[mask].reshape(600, 4, 3)
    expected = known - known.mean(1, keepdims=True)
    np.testing.assert_allclose(found[mask].reshape(600, 4, 3), expected, atol=1e-5)
    assert (found[~mask] == 0).all()
    np.testing.assert_array_equal(placed(pos, mask, uid, 2, "still"), found)


def test_a_seed_decides(atoms):
    x, uid = atoms
    mask = np.ones(len(x), bool)
    np.testing.assert_array_equal(moved(x, mask, uid, 3), moved(x, mask, uid, 3))
    assert (moved(x, mask, uid, 3) != moved(x, mask, uid, 4)).any()
