"""The definition, in plain PyTorch.

The operands are projected into channel-major order, so that the sum over the third token is one
matrix product per channel. Without autograd the product replaces the first operand block by block:
besides its result the operation then holds two tensors as large as the pair representation.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.backend import blocks, by_rows


def triangle_multiplication(
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    edges: Literal["outgoing", "incoming"],
    *,
    norm_in_weight: Float[Tensor, " c_z"],
    norm_in_bias: Float[Tensor, " c_z"],
    weight_a: Float[Tensor, "c c_z"],
    weight_a_gate: Float[Tensor, "c c_z"],
    weight_b: Float[Tensor, "c c_z"],
    weight_b_gate: Float[Tensor, "c c_z"],
    norm_out_weight: Float[Tensor, " c"],
    norm_out_bias: Float[Tensor, " c"],
    weight_out: Float[Tensor, "c_z c"],
    weight_gate: Float[Tensor, "c_z c_z"],
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of `z`.

    With y = LN(z) and operands a, b = mask * sigmoid(W_gate y) * (W y), pair (i, j) gets
    sigmoid(W_gate y[i, j]) * W_out LN(x[i, j]) of x = sum_k a[i, k] * b[j, k] for outgoing edges
    and sum_k a[k, i] * b[k, j] for incoming ones. Masked pairs are left out of the sum.
    """
    n, (c, c_z) = z.shape[1], weight_a.shape
    row_bytes = z.element_size() * n * max(3 * c + 2 * c_z, c + 4 * c_z)

    def norm_in(z: Tensor) -> Tensor:
        return F.layer_norm(z, z.shape[-1:], norm_in_weight, norm_in_bias)

    def operands(z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y = norm_in(z).flatten(0, 1).t()
        a = (weight_a @ y) * torch.sigmoid(weight_a_gate @ y)
        b = (weight_b @ y) * torch.sigmoid(weight_b_gate @ y)
        return a.view(-1, *mask.shape) * mask, b.view(-1, *mask.shape) * mask  # [c rows N]

    def multiply(a: Tensor, b: Tensor) -> Tensor:
        return a @ b.mT if edges == "outgoing" else a.mT @ b

    def output(x: Tensor, z: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(1, 2, 0), x.shape[:1], norm_out_weight, norm_out_bias)
        return F.linear(x, weight_out) * torch.sigmoid(F.linear(norm_in(z), weight_gate))

    def product(z: Tensor, mask: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return multiply(*operands(z, mask))
        a, b = z.new_empty(c, n, n), z.new_empty(c, n, n)
        for rows in blocks(n, row_bytes, z.device):
            a[:, rows], b[:, rows] = operands(z[rows], mask[rows])
        for channels in blocks(c, z.element_size() * n * n, z.device):
            a[channels] = multiply(a[channels], b[channels])
        return a

    def update(x: Tensor, z: Tensor, out: Tensor) -> Tensor:
        return by_rows(lambda rows: output(x[:, rows], z[rows]), row_bytes, out)

    out, updates = z, []
    for i, example in enumerate(zip(z, pair_mask, strict=True)):
        x = product(*example)
        if i == 0:
            # Not before the operands have given back their memory. Laid out as z is, so that a
            # transposed z is added to without a copy.
            out = torch.empty_like(z)
        updates.append(update(x, z[i], out[i]))
    return torch.stack(updates) if torch.is_grad_enabled() else out
