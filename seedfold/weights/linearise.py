"""From softmax to linear triangle attention: initial weights, and fitting layer by layer.

A linear layer (seedfold/model/triangle/linear_attention.py) has the weights of a softmax layer and
a LayerNorm more. It starts with the same projections, which decide what is compared with what.
Its output projection is then fitted in closed form to what the softmax layer gives for the same
input, and all of its weights by gradient descent on the same objective. Each layer is fitted
by itself, to inputs that the softmax network produces: no layer waits for another.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.model.pairformer import PairBlock, PairformerStack
from seedfold.model.seedfold import SeedFold
from seedfold.model.triangle import (
    AdditiveTriangleAttention,
    GatedTriangleAttention,
    TriangleAttention,
)

Kind = Literal["linear_gated", "linear_additive"]
LinearAttention = GatedTriangleAttention | AdditiveTriangleAttention

CLASSES: dict[str, Any] = {
    "linear_gated": GatedTriangleAttention,
    "linear_additive": AdditiveTriangleAttention,
}
EPS = 1e-8


def linear_config(config: SeedFold.Config, kind: Kind) -> SeedFold.Config:
    """The configuration with linear attention of the same heads in the Pairformer of the trunk.

    The other pair stacks are shallow and keep softmax.

    Raises:
        ValueError: if the Pairformer's attention is not softmax.
    """
    pair = config.trunk.pairformer.pair
    softmax = pair.triangle_attention
    if not isinstance(softmax, TriangleAttention.Config):
        raise ValueError(f"linear_config: found '{softmax.kind}' attention; expected 'softmax'")
    linear = CLASSES[kind].Config(n_heads=softmax.n_heads, c_head=softmax.c_head)
    pair = replace(pair, triangle_attention=linear)
    trunk = replace(config.trunk, pairformer=replace(config.trunk.pairformer, pair=pair))
    return replace(config, trunk=trunk)


def initialise(linear: LinearAttention, softmax: TriangleAttention) -> None:
    """Copies the weights; the LayerNorm that softmax attention lacks is the identity's."""
    linear.load_state_dict(softmax.state_dict(), strict=False)
    nn.init.ones_(linear.layer_norm_out.weight)
    nn.init.zeros_(linear.layer_norm_out.bias)


def linearised(network: SeedFold, kind: Kind) -> SeedFold:
    """A network with linear attention in the Pairformer and the weights of `network`."""
    grown = SeedFold(linear_config(network.config, kind))
    missing, unexpected = grown.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected and all(".layer_norm_out." in name for name in missing), missing
    grown.to(next(network.parameters()).dtype)
    for softmax, linear in attention_pairs(network, grown):
        initialise(linear, softmax)
    return grown


def attention_pairs(
    network: SeedFold, linear_network: SeedFold
) -> Iterator[tuple[TriangleAttention, LinearAttention]]:
    """The attentions of both Pairformers, block by block, starting before ending node."""
    for a, b in zip(_pair_blocks(network), _pair_blocks(linear_network), strict=True):
        yield a.triangle_attention_starting, b.triangle_attention_starting
        yield a.triangle_attention_ending, b.triangle_attention_ending


def _pair_blocks(network: SeedFold) -> list[PairBlock]:
    stack: PairformerStack = network.trunk.pairformer
    return [block.pair_block for block in stack.blocks]  # type: ignore[union-attr]


def relative_error(
    found: Float[Tensor, "B N N c_z"],
    target: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
) -> Float[Tensor, ""]:
    """||found - target||^2 / ||target||^2 over real pairs: the distillation objective."""
    real = pair_mask[..., None]
    difference = (found - target).square() * real
    return difference.sum() / ((target.square() * real).sum() + EPS)


def fit_output(
    linear: LinearAttention,
    softmax: TriangleAttention,
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    ridge: float = 1e-4,
) -> None:
    """Sets the output projection to the one that minimises `relative_error` on `z`.

    Least squares over all real pairs; `ridge`, relative to the mean square of the features, keeps
    directions that hardly occur from being fitted to noise.
    """
    with torch.no_grad():
        target = softmax(z, pair_mask)[pair_mask].double()
        features = _before_projection(linear, z, pair_mask)[pair_mask].double()
        gram = features.T @ features
        gram.diagonal().add_(ridge * gram.diagonal().mean() + EPS)
        solution = torch.linalg.solve(gram, features.T @ target)
        linear.linear_out.weight.copy_(solution.T)


def _before_projection(
    linear: LinearAttention, z: Float[Tensor, "B N N c_z"], pair_mask: Bool[Tensor, "B N N"]
) -> Float[Tensor, "B N N c"]:
    """The features that the output projection reads, c_z of them at a time."""
    c_z, c = linear.linear_out.weight.shape
    own, parts = linear.linear_out.weight, []
    try:
        for start in range(0, c, c_z):
            choice = torch.eye(c_z, c, dtype=own.dtype, device=own.device).roll(start, dims=1)
            linear.linear_out.weight = nn.Parameter(choice, requires_grad=False)
            parts.append(linear(z, pair_mask))
    finally:
        linear.linear_out.weight = own
    return torch.cat(parts, dim=-1)[..., :c]


def distil(
    linear: LinearAttention,
    softmax: TriangleAttention,
    batches: Iterable[tuple[Tensor, Tensor]],
    learning_rate: float = 1e-3,
) -> list[float]:
    """One step of Adam for every (z, pair_mask); returns the objective before each of them."""
    optimiser = torch.optim.Adam(linear.parameters(), lr=learning_rate)
    losses = []
    for z, pair_mask in batches:
        with torch.no_grad():
            target = softmax(z, pair_mask)
        loss = relative_error(linear(z, pair_mask), target, pair_mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
