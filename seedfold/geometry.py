"""Geometry of atoms: alignment, frames, augmentation and the lDDT family.

Source: AF3 SI, Algorithms 19, 27, 28, 29, 30. Pure functions of torch tensors in any floating
dtype and with any leading axes; masks are boolean. Angstrom throughout.

Deviations: Algorithm 28 line 11 adds the mean of the target, which the SI forgets (Protenix
report, table 1).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_EPS = 1e-8


def masked_mean(
    x: Float[Tensor, "*B N c"], weight: Float[Tensor, "*#B N"]
) -> Float[Tensor, "*B 1 c"]:
    """Mean over the points, with weights; zero where all weights are zero."""
    total = weight.sum(-1)[..., None, None].clamp_min(_EPS)
    return (x * weight[..., None]).sum(-2, keepdim=True) / total


def weighted_rigid_align(
    x: Float[Tensor, "*B N 3"],
    target: Float[Tensor, "*#B N 3"],
    weight: Float[Tensor, "*#B N"],
) -> Float[Tensor, "*B N 3"]:
    """Moves `x` rigidly, without reflection, onto `target`. AF3 SI, Algorithm 28.

    The result carries no gradient, as in the algorithm: it is a target, not a prediction.
    """
    with torch.no_grad():
        weight = weight.to(x.dtype).expand(x.shape[:-1])
        target = target.expand(x.shape)
        x_mean, target_mean = masked_mean(x, weight), masked_mean(target, weight)
        h = (weight[..., None] * (target - target_mean)).mT @ (x - x_mean)
        u, _, vh = torch.linalg.svd(h)
        sign = torch.linalg.det(u @ vh).sign()
        u = torch.cat([u[..., :2], u[..., 2:] * sign[..., None, None]], -1)
        return (x - x_mean) @ (u @ vh).mT + target_mean


def frames_from_atoms(
    a: Float[Tensor, "*B 3"], b: Float[Tensor, "*B 3"], c: Float[Tensor, "*B 3"]
) -> tuple[Float[Tensor, "*B 3 3"], Float[Tensor, "*B 3"]]:
    """Frames of three points: axes as rows, and the origin `b`. AF3 SI, Algorithm 29, lines 1-6.

    The first axis bisects the angle at `b`, the second lies in the plane along c - a.
    """
    w1, w2 = _unit(a - b), _unit(c - b)
    e1, e2 = _unit(w1 + w2), _unit(w2 - w1)
    return torch.stack([e1, e2, torch.linalg.cross(e1, e2)], -2), b


def express_in_frames(
    x: Float[Tensor, "*B N 3"],
    axes: Float[Tensor, "*B M 3 3"],
    origin: Float[Tensor, "*B M 3"],
) -> Float[Tensor, "*B M N 3"]:
    """Coordinates of every point in every frame. AF3 SI, Algorithm 29, lines 7-10."""
    return (x[..., None, :, :] - origin[..., :, None, :]) @ axes.mT


def alignment_error(
    x: Float[Tensor, "*B N 3"],
    frame: Float[Tensor, "*B M 3 3"],
    x_gt: Float[Tensor, "*B N 3"],
    frame_gt: Float[Tensor, "*B M 3 3"],
) -> Float[Tensor, "*B M N"]:
    """How far each point is off when a frame is aligned, in Angstrom. AF3 SI, Algorithm 30.

    A frame is given by its three atoms, the second being the origin.
    """
    local, local_gt = (
        express_in_frames(points, *frames_from_atoms(*f.unbind(-2)))
        for points, f in ((x, frame), (x_gt, frame_gt))
    )
    return torch.sqrt(((local - local_gt) ** 2).sum(-1) + _EPS)


def random_rotation(
    *shape: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*B 3 3"]:
    """Rotations drawn uniformly (Haar) from `generator`, on its device.

    A normal 4-vector, normalised, is a uniform unit quaternion.
    """
    device = "cpu" if generator is None else generator.device
    q = torch.randn(*shape, 4, generator=generator, device=device, dtype=dtype)
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def centre_and_move(
    x: Float[Tensor, "*B N 3"],
    mask: Bool[Tensor, "*#B N"],
    rotation: Float[Tensor, "*#B 3 3"],
    translation: Float[Tensor, "*#B 3"],
) -> Float[Tensor, "*B N 3"]:
    """Centres the masked points, rotates and translates them. AF3 SI, Algorithm 19."""
    centred = x - masked_mean(x, mask.to(x.dtype))
    return centred @ rotation.mT + translation[..., None, :]


def lddt(
    x: Float[Tensor, "*B N 3"],
    x_gt: Float[Tensor, "*#B N 3"],
    pair_mask: Bool[Tensor, "*#B N N"],
    radius: Float[Tensor, "*#B #N #N"] | float = 15.0,
) -> Float[Tensor, "*B N"]:
    """Per-point lDDT, 0 to 1: the share of its neighbours' distances that are kept.

    Neighbours are the pairs of `pair_mask` closer than `radius` in the truth, the point itself
    excluded; a point without neighbours scores 0. Thresholds 0.5, 1, 2 and 4 A.
    """
    d, d_gt = torch.cdist(x, x), torch.cdist(x_gt, x_gt)
    error = (d - d_gt).abs()
    kept = torch.stack([error < t for t in (0.5, 1.0, 2.0, 4.0)]).to(x.dtype).mean(0)
    return _neighbour_mean(kept, d_gt, pair_mask, radius)


def smooth_lddt(
    x: Float[Tensor, "*B N 3"],
    x_gt: Float[Tensor, "*#B N 3"],
    pair_mask: Bool[Tensor, "*#B N N"],
    radius: Float[Tensor, "*#B #N #N"] | float = 15.0,
) -> Float[Tensor, " *B"]:
    """Differentiable lDDT of the whole, 0 to 1. AF3 SI, Algorithm 27 (whose loss is 1 minus it).

    Each threshold is a sigmoid of the distance error; the mean is over pairs, as in the SI.
    """
    d, d_gt = _distances(x), _distances(x_gt)
    error = (d - d_gt).abs()
    kept = torch.stack([torch.sigmoid(t - error) for t in (0.5, 1.0, 2.0, 4.0)]).mean(0)
    near = _neighbours(d_gt, pair_mask, radius).to(x.dtype).expand(kept.shape)
    return (kept * near).sum((-1, -2)) / near.sum((-1, -2)).clamp_min(1.0)


def _neighbours(d_gt: Tensor, pair_mask: Tensor, radius: Tensor | float) -> Tensor:
    others = ~torch.eye(d_gt.shape[-1], dtype=torch.bool, device=d_gt.device)
    return pair_mask & others & (d_gt < radius)


def _neighbour_mean(
    kept: Tensor, d_gt: Tensor, pair_mask: Tensor, radius: Tensor | float
) -> Tensor:
    near = _neighbours(d_gt, pair_mask, radius).to(kept.dtype).expand(kept.shape)
    return (kept * near).sum(-1) / near.sum(-1).clamp_min(1.0)


def _distances(x: Tensor) -> Tensor:
    # cdist has no finite gradient where two points coincide; this has.
    return torch.sqrt(((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1) + _EPS)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp_min(_EPS)
