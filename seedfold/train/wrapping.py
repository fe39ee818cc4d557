"""How the blocks of a built network compute: activation checkpointing, torch.compile.

Source: T. Chen et al., "Training deep nets with sublinear memory cost" (2016). Both are set on the
network from outside, block by block: numbers, names and dtypes of the weights stay as they are.

A block's `forward` is replaced on the object, not wrapped in a module, so that no name of the
state dict changes. Checkpointing is torch's kind without reentrance: autograd stays on in the first
pass, in which blocks would otherwise update `z` in place.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from seedfold.model.atom_mixer.local_vectors import VectorBlock
from seedfold.model.atom_mixer.local_window import AtomTransformerBlock
from seedfold.model.diffusion import DiffusionTransformerBlock
from seedfold.model.msa import MSABlock
from seedfold.model.pairformer import PairBlock, PairformerBlock
from seedfold.model.primitives import Transition

BLOCKS = (
    *(MSABlock, PairformerBlock, PairBlock, Transition),
    *(DiffusionTransformerBlock, AtomTransformerBlock, VectorBlock),
)
"""What is wrapped where it stands alone: a pair block in the template embedder, a transition in the
conditioning of the structure module."""


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost blocks of a network, of all its stacks."""
    for child in network.children():
        if isinstance(child, BLOCKS):
            yield child
        else:
            yield from blocks(child)


def checkpoint_activations(network: nn.Module) -> None:
    """Every block keeps its inputs alone, and is computed again in the backward pass.

    Dropout is drawn again from the state that the generators had, so that nothing changes.
    """
    for block in blocks(network):
        block.forward = _checkpointed(block.forward)


def compile_blocks(network: nn.Module, backend: str = "inductor") -> None:
    """Every block is compiled at its first use; equal blocks share the code.

    At a second size all are compiled once more, then for any size. To be called before
    `checkpoint_activations`, which then repeats the compiled block.
    """
    for block in blocks(network):
        block.forward = torch.compile(block.forward, backend=backend)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def repeatable(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args)
        return checkpoint(forward, *args, use_reentrant=False)

    return repeatable
