"""The definition, in plain PyTorch, by blocks of tokens i.

Deviations: as in AlphaFold 3's code, the sum is projected, bias included, before it is divided by
the number of rows that both tokens are in.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.backend import by_example, by_rows

EPS = 1e-3


def outer_product_mean(
    m: Float[Tensor, "B N_msa N c_m"],
    msa_mask: Bool[Tensor, "B N_msa N"],
    *,
    norm_weight: Float[Tensor, " c_m"],
    norm_bias: Float[Tensor, " c_m"],
    weight_a: Float[Tensor, "c c_m"],
    weight_b: Float[Tensor, "c c_m"],
    weight_out: Float[Tensor, "c_z c_c"],
    bias_out: Float[Tensor, " c_z"],
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of the pair representation.

    W_out (sum over rows of a[row, i] x b[row, j]) / (number of rows with both i and j), where the
    outer product is flattened with the channels of `a` slowest. Masked entries of `m` count for
    nothing.
    """
    n, c, c_z = m.shape[2], weight_a.shape[0], weight_out.shape[0]
    row_bytes = m.element_size() * n * (2 * c * c + 2 * c_z)

    def project(m: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = F.layer_norm(m, m.shape[-1:], norm_weight, norm_bias)
        weights = mask[..., None].to(y.dtype)
        return F.linear(y, weight_a) * weights, F.linear(y, weight_b) * weights, weights[..., 0]

    def update(m: Tensor, mask: Tensor, out: Tensor) -> Tensor:
        a, b, present = project(m, mask)
        b = b.flatten(1)

        def rows_of(rows: slice) -> Tensor:
            outer = (a[:, rows].flatten(1).t() @ b).unflatten(0, (-1, c)).unflatten(-1, (n, c))
            outer = F.linear(outer.transpose(1, 2).flatten(-2), weight_out, bias_out)
            return outer / (present[:, rows].t() @ present + EPS)[..., None]

        return by_rows(rows_of, row_bytes, out)

    return by_example(update, m.new_empty(len(m), n, n, c_z), m, msa_mask)
