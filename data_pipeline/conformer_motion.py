"""Rigid motions of reference conformers. Source: AF3 SI 2.8.

Random ones hide from the network how the residues of one structure lie to each other. Ours are made
component by component and have nothing to hide; what remains is that training sees many turns.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from seedfold.data_pipeline.feature_options import Conformers

MAX_SHIFT = 1.0
"""Angstrom along each axis: the random motion of a reference conformer."""


def placed(
    pos: Float[np.ndarray, "N 3"],
    mask: Bool[np.ndarray, " N"],
    uid: Int[np.ndarray, " N"],
    seed: int,
    how: Conformers,
) -> Float[np.ndarray, "N 3"]:
    """The conformers of residues `uid`, as `FeatureOptions.conformers` says; 0 outside `mask`.

    `pos` is 0 outside `mask`; `seed`: of what is random.
    """
    if how == "apart":
        return moved(pos, mask, uid, seed)
    if how == "together":
        return moved_as_one(pos, mask, seed)
    return np.where(mask[:, None], _centred(pos, mask, uid), 0.0).astype(np.float32)


def moved(
    pos: Float[np.ndarray, "N 3"],
    mask: Bool[np.ndarray, " N"],
    uid: Int[np.ndarray, " N"],
    seed: int,
) -> Float[np.ndarray, "N 3"]:
    """Centres every residue's conformer, then shifts and turns it at random.

    `pos` is 0 outside `mask`.
    """
    rng = np.random.default_rng(seed)
    n = int(uid[-1]) + 1
    shift = rng.uniform(-MAX_SHIFT, MAX_SHIFT, size=(n, 3))
    shifted = _centred(pos, mask, uid) + shift[uid]
    turned = np.einsum("nij,nj->ni", _rotations(rng, n)[uid], shifted)
    return np.where(mask[:, None], turned, 0.0).astype(np.float32)


def moved_as_one(
    pos: Float[np.ndarray, "N 3"], mask: Bool[np.ndarray, " N"], seed: int
) -> Float[np.ndarray, "N 3"]:
    """Turns and shifts all conformers alike; none is centred."""
    rng = np.random.default_rng(seed)
    turned = pos @ _rotations(rng, 1)[0].T + rng.normal(size=3)
    return np.where(mask[:, None], turned, 0.0).astype(np.float32)


def _centred(
    pos: Float[np.ndarray, "N 3"], mask: Bool[np.ndarray, " N"], uid: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N 3"]:
    count = np.maximum(np.bincount(uid, weights=mask), 1)
    centre = np.stack([np.bincount(uid, weights=x) for x in pos.T], axis=-1)
    return pos - (centre / count[:, None])[uid]


def _rotations(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 3 3"]:
    """Uniformly random rotations, from unit quaternions."""
    q = rng.normal(size=(4, n))
    w, x, y, z = q / np.linalg.norm(q, axis=0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
