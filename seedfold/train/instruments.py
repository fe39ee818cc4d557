"""What can be read off a network while it trains: gradient norms, activations, attention logits.

Source: SeedFold (arXiv 2512.24354): above c_z 256 gradient norms explode and the loss collapses.
Everything is read by hooks from outside, of every stack of the network on its own, and stays on the
device until it is asked for. Nothing that the network computes is changed.

Logits never exist as a whole (the kernels keep them on the chip), so that they are computed again
from what goes into an attention, some rows at a time: about half of the attention's own cost. Of
linear attentions, which have none, it is the largest phi(q) . phi(k), what the sums are made of.
Where padding is not known to an attention, the queries of padding are looked at too. Inside of
compiled blocks nothing is seen but gradients.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from seedfold.model.atom_mixer.local_vectors import VectorAttention
from seedfold.model.atom_mixer.local_window import WindowAttention
from seedfold.model.attention import AttentionPairBias
from seedfold.model.msa import MSAPairWeightedAveraging
from seedfold.model.triangle import (
    AdditiveTriangleAttention,
    GatedTriangleAttention,
    TriangleAttention,
)

STACKS: Mapping[str, str] = {
    "input_embedder": "input_embedder",
    "template": "trunk.template_embedder",
    "msa": "trunk.msa_module",
    "pairformer": "trunk.pairformer",
    "recycling": "trunk",
    "conditioning": "diffusion_module.diffusion_conditioning",
    "atom_encoder": "diffusion_module.atom_attention_encoder",
    "diffusion_transformer": "diffusion_module",
    "atom_decoder": "diffusion_module.atom_attention_decoder",
    "distogram": "distogram_head",
    "confidence": "confidence_head",
}
"""Name of a stack -> its place in the network; the longest place that fits counts."""
NOTHING = -math.inf
"""Of a stack in which there is no such thing."""
_MOST_LOGITS = 2**24
"""Held at a time."""


def stack_of(name: str) -> str | None:
    """The stack of a weight or module of this name; None where it holds several."""
    places = {place: stack for stack, place in STACKS.items() if f"{name}.".startswith(f"{place}.")}
    if not places or any(place.startswith(f"{name}.") for place in STACKS.values()):
        return None
    return places[max(places, key=len)]


def gradient_norms(network: nn.Module) -> Float[Tensor, " N_stack"]:
    """Norm of the gradient of every stack, in the order of `STACKS`."""
    found: dict[str, list[Tensor]] = {}
    for name, weight in network.named_parameters():
        stack = stack_of(name)
        assert stack is not None, f"{name} belongs to no stack"
        if weight.grad is not None:
            found.setdefault(stack, []).append(weight.grad)
    device = next(network.parameters()).device
    norms = {stack: nn.utils.get_total_norm(grads) for stack, grads in found.items()}
    return _in_order(norms, device)


class Maxima:
    """The largest activations and logits of every stack, in all passes from `start` to `stop`.

    Args:
        network: What is looked at.
    """

    def __init__(self, network: nn.Module):
        self.network = network
        self._handles: list[RemovableHandle] = []
        self._activations: dict[str, Tensor] = {}
        self._logits: dict[str, Tensor] = {}

    def start(self) -> None:
        """Begins to look."""
        assert not self._handles, "it looks already"
        for name, module in self.network.named_modules():
            stack = stack_of(name) if name else None
            if stack is None:
                continue
            seen = partial(self._see_output, stack)
            self._handles.append(module.register_forward_hook(seen))
            if logits := LOGITS.get(type(module)):
                seen = partial(self._see_input, stack, logits)
                self._handles.append(module.register_forward_pre_hook(seen))

    def stop(self) -> Float[Tensor, "2 N_stack"]:
        """Ends it: the largest absolute activation and the largest logit of every stack."""
        for handle in self._handles:
            handle.remove()
        device = next(self.network.parameters()).device
        found = [_in_order(values, device) for values in (self._activations, self._logits)]
        self._handles, self._activations, self._logits = [], {}, {}
        return torch.stack(found)

    @torch.no_grad()
    def _see_output(self, stack: str, _module: nn.Module, _args: Any, output: Any) -> None:
        for x in output if isinstance(output, tuple) else (output,):
            if isinstance(x, Tensor) and x.is_floating_point() and x.numel():
                _raise(self._activations, stack, torch.stack(x.aminmax()).abs().amax())

    @torch.no_grad()
    def _see_input(
        self, stack: str, logits: Callable[..., Iterator[Tensor]], module: nn.Module, args: Any
    ) -> None:
        for part in logits(module, *args):
            _raise(self._logits, stack, part.amax())


def _raise(maxima: dict[str, Tensor], stack: str, value: Tensor) -> None:
    value = value.detach().float()
    maxima[stack] = torch.maximum(maxima[stack], value) if stack in maxima else value


def _in_order(values: Mapping[str, Tensor], device: torch.device) -> Float[Tensor, " N_stack"]:
    nothing = torch.tensor(NOTHING, device=device)
    return torch.stack([values.get(stack, nothing).to(nothing) for stack in STACKS])


def _of_triangles(
    module: TriangleAttention,
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
) -> Iterator[Tensor]:
    z = module.layer_norm(z)
    q, k = (_heads(linear(z), module.n_heads) for linear in (module.linear_q, module.linear_k))
    bias = module.linear_bias(z).permute(0, 3, 1, 2)
    bias = bias.transpose(2, 3) if module.transpose_bias else bias
    for rows, part in _products(q * q.shape[-1] ** -0.5, k):
        yield _masked(part + bias[:, None], pair_mask[:, rows])


def _of_linear_triangles(
    module: GatedTriangleAttention | AdditiveTriangleAttention,
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
) -> Iterator[Tensor]:
    z = module.layer_norm(z)
    q, k = (_heads(linear(z), module.n_heads) for linear in (module.linear_q, module.linear_k))
    for rows, part in _products(q.relu(), k.relu()):
        yield _masked(part, pair_mask[:, rows])


def _of_tokens(
    module: AttentionPairBias,
    a: Float[Tensor, "B *S N_token c_a"],
    bias: Float[Tensor, "B N_head N_token N_token"],
    s: Float[Tensor, "B *#S N_token c_s"] | None = None,
) -> Iterator[Tensor]:
    a = module.norm_a(a) if s is None else module.norm_a(a, s)
    a = a if a.dim() == 4 else a[:, None]
    q, k = (_heads(linear(a), module.n_heads) for linear in (module.linear_q, module.linear_k))
    for _, part in _products(q * q.shape[-1] ** -0.5, k):
        yield part + bias[:, None]


def _of_windows(
    module: WindowAttention,
    a: Float[Tensor, "B *S N_atom c_atom"],
    c: Float[Tensor, "B *#S N_atom c_atom"],
    bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
    key_index: Int[Tensor, "N_block n_keys"],
) -> Iterator[Tensor]:
    queries, keys = module.normalised(a, c)
    q, k = (
        _heads(x if x.dim() == 4 else x[:, None], module.n_heads)
        for x in (module.linear_q(queries), module.linear_k(keys))
    )  # [B S N_head N_atom c]
    n_block, n_queries = bias.shape[-3:-1]
    at = torch.arange(n_block * n_queries, device=q.device).clamp_max(q.shape[-2] - 1)
    for one in range(q.shape[1]):
        windows = q[:, one][:, :, at.view(n_block, n_queries)] * q.shape[-1] ** -0.5
        yield windows @ k[:, one][:, :, key_index].mT + bias


def _of_vectors(
    module: VectorAttention,
    a: Float[Tensor, "B *S N_atom c_atom"],
    _v: Float[Tensor, "B *S N_atom 3 n_vectors"],
    _x: Float[Tensor, "B *S N_atom 3"],
    c: Float[Tensor, "B *#S N_atom c_atom"],
    bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
    key_index: Int[Tensor, "N_block n_keys"],
) -> Iterator[Tensor]:
    # Distances only make them less.
    return _of_windows(module, a, c, bias, key_index)


def _of_msa_rows(
    module: MSAPairWeightedAveraging,
    _m: Float[Tensor, "B N_msa N_token c_m"],
    z: Float[Tensor, "B N_token N_token c_z"],
    pair_mask: Bool[Tensor, "B N_token N_token"],
) -> Iterator[Tensor]:
    logits = module.linear_z(module.layer_norm_z(z))
    yield logits.masked_fill(~pair_mask[..., None], NOTHING)


LOGITS: Mapping[Any, Callable[..., Iterator[Tensor]]] = {
    TriangleAttention: _of_triangles,
    GatedTriangleAttention: _of_linear_triangles,
    AdditiveTriangleAttention: _of_linear_triangles,
    AttentionPairBias: _of_tokens,
    WindowAttention: _of_windows,
    VectorAttention: _of_vectors,
    MSAPairWeightedAveraging: _of_msa_rows,
}
"""Kind of attention -> its logits, some at a time, from itself and the inputs of its `forward`."""


def _heads(x: Tensor, n_heads: int) -> Float[Tensor, "B R N_head N c"]:
    return x.unflatten(-1, (n_heads, -1)).transpose(-2, -3)


def _products(
    q: Float[Tensor, "B R N_head N c"], k: Float[Tensor, "B R N_head N c"]
) -> Iterator[tuple[slice, Float[Tensor, "B rows N_head N N"]]]:
    """Every query with every key of its row, some rows at a time."""
    n_rows, of_row = q.shape[1], q[:, 0, ..., 0].numel() * k.shape[-2]
    step = max(1, _MOST_LOGITS // of_row)
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        yield rows, q[:, rows] @ k[:, rows].mT


def _masked(
    logits: Float[Tensor, "B rows N_head N N"], mask: Bool[Tensor, "B rows N"]
) -> Float[Tensor, "B rows N_head N N"]:
    real = mask[:, :, None, :, None] & mask[:, :, None, None, :]
    return logits.masked_fill(~real, NOTHING)
