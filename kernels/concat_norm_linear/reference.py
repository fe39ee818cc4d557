"""The definition, in plain PyTorch, by blocks of rows.

The concatenation is several times as large as the pair representation, and one-hot parts larger
still: neither ever exists as a whole while autograd is off.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seedfold.kernels.backend import by_example, by_rows


class OneHot(NamedTuple):
    """A part given by the index of its only 1."""

    index: Int[Tensor, "B N M"]
    n_classes: int


def concat_norm_linear(
    parts: Sequence[Float[Tensor, "B N M _"] | OneHot],
    *,
    norm_weight: Float[Tensor, " c"],
    weight: Float[Tensor, "c_out c"],
) -> Float[Tensor, "B N M c_out"]:
    """Returns W LN([part, part, ...]), with a LayerNorm that has a scale and no offset.

    The first part is dense and gives the dtype.
    """
    tensors = [p.index if isinstance(p, OneHot) else p for p in parts]
    z = tensors[0]
    assert z.is_floating_point()
    row_bytes = z.element_size() * z.shape[2] * (3 * len(norm_weight) + len(weight))
    # An index tensor has 8 bytes a class, the one-hot encoding is made from it at once.
    row_bytes += 8 * z.shape[2] * sum(p.n_classes for p in parts if isinstance(p, OneHot))

    def dense(part: Tensor, template: Tensor | OneHot) -> Tensor:
        if isinstance(template, OneHot):
            return F.one_hot(part.long(), template.n_classes).to(z.dtype)
        return part.to(z.dtype)

    def update(*example: Tensor) -> Tensor:
        *inputs, out = example

        def rows_of(rows: slice) -> Tensor:
            x = torch.cat([dense(x[rows], p) for x, p in zip(inputs, parts, strict=True)], -1)
            return F.linear(F.layer_norm(x, x.shape[-1:], norm_weight), weight)

        return by_rows(rows_of, row_bytes, out)

    return by_example(update, z.new_empty(*z.shape[:3], len(weight)), *tensors)
