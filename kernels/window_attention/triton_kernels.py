"""Windowed attention, forward and backward. README.md has the maths.

A program holds all scores of one window and head, so that there is nothing to carry from one tile
to the next and nothing to keep for the backward pass but the operands. It reads its bias once for
several samples. Keys are gathered by their index: windows need not be regular.
"""

# pyright: reportCallIssue=false
# (Options of a launch, like num_warps, are not among the parameters of a kernel.)

from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from seedfold.kernels.tiles import GateCase

LOG2_E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(-1e4)
"""Of the bias: masks a key among others, leaves logits their precision in rows without others."""


class Tile(NamedTuple):
    """Samples that a program visits (0: as the GPU needs), its warps and pipeline stages."""

    samples: int = 0
    warps: int = 4
    stages: int = 2


class Collection(NamedTuple):
    """Atoms and channels of a program, and the places of an atom that it adds at a time."""

    atoms: int = 4
    places: int = 4
    channels: int = 128
    warps: int = 4


_PROGRAMS = 1056
"""Enough to fill the 132 multiprocessors of an H200."""


def _tile(n_queries: int, n_keys: int, backward: bool = False) -> Tile:
    """Warps such that a thread holds 32 scores of a window, in the backward pass 16."""
    scores = _padded(n_queries) * _padded(n_keys)
    warps = scores // (512 if backward else 1024)
    return Tile(warps=min(8, max(1, warps)))


def attend(
    q: Float[Tensor, "B S N H c"],
    k: Float[Tensor, "B S N H c"],
    v: Float[Tensor, "B S N H c"],
    bias: Float[Tensor, "B H W n_queries n_keys"],
    key_index: Int[Tensor, "W n_keys"],
    tile: Tile | None = None,
) -> Float[Tensor, "B S N H c"]:
    """Attention of every window; the operands have contiguous channels, else any strides."""
    n_queries, n_keys = bias.shape[-2:]
    tile = tile or _tile(n_queries, n_keys)
    o = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    grid, samples = _grid(q, bias, tile)
    _attend[grid](
        q, k, v, bias, key_index, o,
        *q.stride()[:4], *k.stride()[:4], *v.stride()[:4], *bias.stride()[:4],
        *q.shape[1:4], n_queries, n_keys, samples, q.shape[-1] ** -0.5,
        C=q.shape[-1], CHANNELS=_padded(q.shape[-1]),
        QUERIES=_padded(n_queries), KEYS=_padded(n_keys),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return o


def attend_backward(
    d_o: Float[Tensor, "B S N H c"],
    q: Float[Tensor, "B S N H c"],
    k: Float[Tensor, "B S N H c"],
    v: Float[Tensor, "B S N H c"],
    bias: Float[Tensor, "B H W n_queries n_keys"],
    key_index: Int[Tensor, "W n_keys"],
    tile: Tile | None = None,
    collection: Collection | None = None,
) -> tuple[
    Float[Tensor, "B S N H c"],
    Float[Tensor, "2 B S N H c"],
    Float[Tensor, "B H W n_queries n_keys"],
]:
    """Returns the gradients of q, of k and v together, and of bias, all contiguous.

    Those of k and v are first made for every place in a window, then added up by atom.
    """
    (n_batch, n_samples, n_atom, n_head, c), n_places = q.shape, key_index.numel()
    n_queries, n_keys = bias.shape[-2:]
    tile = tile or _tile(n_queries, n_keys, backward=True)
    (n_block, _, n_programs), samples = _grid(q, bias, tile)
    n_parts = n_programs // n_batch
    d_q = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    places = (2, n_batch, n_samples, n_places, n_head, c)
    d_places = torch.empty(places, dtype=q.dtype, device=q.device)
    d_bias = torch.empty((n_parts, *bias.shape), dtype=torch.float32, device=q.device)
    _attend_backward[(n_block, n_head, n_programs)](
        d_o, q, k, v, bias, key_index, d_q, *d_places, d_bias,
        *d_o.stride()[:4], *q.stride()[:4], *k.stride()[:4], *v.stride()[:4], *bias.stride()[:4],
        *q.shape[1:4], n_queries, n_keys, samples, c**-0.5,
        C=c, CHANNELS=_padded(c), QUERIES=_padded(n_queries), KEYS=_padded(n_keys),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    d_keys = collect(d_places, key_index, n_atom, collection)
    return d_q, d_keys, d_bias.sum(0).to(bias.dtype)


def collect(
    d_places: Float[Tensor, "2 B S N_place H c"],
    key_index: Int[Tensor, "W n_keys"],
    n_atom: int,
    collection: Collection | None = None,
) -> Float[Tensor, "2 B S {n_atom} H c"]:
    """Sums over the places that name an atom, in their order."""
    *batch, n_places, n_head, c = d_places.shape
    atom, place = key_index.flatten().sort(stable=True)
    # Where the places of every atom begin among them, and where those of the last one end.
    first = torch.searchsorted(atom, torch.arange(n_atom + 1, device=atom.device, dtype=atom.dtype))
    out = torch.empty((*batch, n_atom, n_head, c), dtype=d_places.dtype, device=d_places.device)
    part = collection or Collection()
    channels = min(part.channels, _padded(n_head * c))
    n_rows = d_places.shape[:3].numel()
    _collect[(triton.cdiv(n_atom, part.atoms), n_rows, triton.cdiv(n_head * c, channels))](
        d_places, place, first, out, n_atom, n_places, n_head * c,
        ATOMS=part.atoms, PLACES=part.places, CHANNELS=channels, num_warps=part.warps,
    )  # fmt: skip
    return out


def _grid(q: Tensor, bias: Tensor, tile: Tile) -> tuple[tuple[int, int, int], int]:
    """Programs (windows, heads, parts of the samples of all examples) and samples of a part."""
    (n_batch, n_samples), (n_head, n_block) = q.shape[:2], bias.shape[1:3]
    # Reading the bias once for many samples is worth less than programs for the whole GPU.
    parts = min(n_samples, -(-_PROGRAMS // (n_batch * n_head * n_block)))
    samples = tile.samples or -(-n_samples // parts)
    return (n_block, n_head, n_batch * -(-n_samples // samples)), samples


def _padded(n: int) -> int:
    """The size of a tile that holds n: a power of two that tensor cores take."""
    return max(16, 1 << (n - 1).bit_length())


@triton.jit
@no_type_check
def _members(
    key_index, window, n_atom, n_queries, n_keys, QUERIES: tl.constexpr, KEYS: tl.constexpr
):
    """Atoms of the queries and keys of a window, and which rows of the tiles have one."""
    query, place = tl.arange(0, QUERIES), tl.arange(0, KEYS)
    atom = window * n_queries + query
    key = tl.load(key_index + window * n_keys + place, mask=place < n_keys, other=0)
    return atom, key.to(tl.int64), (query < n_queries) & (atom < n_atom), place < n_keys


@triton.jit
@no_type_check
def _bias_tile(bias, stride_query, n_queries, n_keys, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """Bias of a window in base 2, -inf in the keys that fill up the tile: [KEYS, QUERIES].

    Keys come first in all tiles: there are enough of them to spread over the warps.
    """
    query, key = tl.arange(0, QUERIES)[:, None], tl.arange(0, KEYS)[None, :]
    inside = (query < n_queries) & (key < n_keys)
    x = tl.load(bias + query * stride_query + key, mask=inside, other=0.0).to(tl.float32)
    x = tl.where(key < n_keys, tl.maximum(x, LOWEST) * LOG2_E, float("-inf"))
    return tl.trans(x)


@triton.jit
@no_type_check
def _weights(q, k, bias, scale):
    """softmax(k q^T + bias) over the keys: [KEYS, QUERIES]."""
    logits = tl.dot(k, tl.trans(q), input_precision="ieee") * (scale * LOG2_E) + bias
    p = tl.exp2(logits - tl.max(logits, 0)[None, :])
    return p * (1 / tl.sum(p, 0))[None, :]


@triton.jit
@no_type_check
def _attend(
    q, k, v, bias, key_index, o,
    q_b, q_s, q_n, q_h, k_b, k_s, k_n, k_h, v_b, v_s, v_n, v_h, bias_b, bias_h, bias_w, bias_q,
    n_samples, n_atom, n_head, n_queries, n_keys, samples, scale,
    C: tl.constexpr, CHANNELS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """One program: a window and head in `samples` samples."""
    window, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    n_parts = tl.cdiv(n_samples, samples)
    b = (tl.program_id(2) // n_parts).to(tl.int64)
    start = (tl.program_id(2) % n_parts) * samples

    channel = tl.arange(0, CHANNELS)
    atom, key, has_query, has_key = _members(
        key_index, window, n_atom, n_queries, n_keys, QUERIES, KEYS
    )
    query_inside = has_query[:, None] & (channel < C)[None, :]
    key_inside = has_key[:, None] & (channel < C)[None, :]
    tile = _bias_tile(
        bias + b * bias_b + head * bias_h + window * bias_w, bias_q, n_queries, n_keys,
        QUERIES, KEYS,
    )  # fmt: skip
    q += b * q_b + head * q_h + atom[:, None] * q_n + channel[None, :]
    k += b * k_b + head * k_h + key[:, None] * k_n + channel[None, :]
    v += b * v_b + head * v_h + key[:, None] * v_n + channel[None, :]
    for i in range(start, tl.minimum(start + samples, n_samples)):
        s = tl.cast(i, tl.int64)
        q_tile = tl.load(q + s * q_s, mask=query_inside, other=0.0)
        k_tile = tl.load(k + s * k_s, mask=key_inside, other=0.0)
        v_tile = tl.load(v + s * v_s, mask=key_inside, other=0.0)
        p = _weights(q_tile, k_tile, tile, scale)
        o_tile = tl.dot(tl.trans(p.to(v_tile.dtype)), v_tile, input_precision="ieee")
        at = ((b * n_samples + s) * n_atom + atom) * n_head + head
        to = o + at[:, None] * C + channel[None, :]
        tl.store(to, o_tile.to(o.dtype.element_ty), mask=query_inside)


@triton.jit
@no_type_check
def _attend_backward(
    d_o, q, k, v, bias, key_index, d_q, d_k, d_v, d_bias,
    do_b, do_s, do_n, do_h, q_b, q_s, q_n, q_h, k_b, k_s, k_n, k_h, v_b, v_s, v_n, v_h,
    bias_b, bias_h, bias_w, bias_q,
    n_samples, n_atom, n_head, n_queries, n_keys, samples, scale,
    C: tl.constexpr, CHANNELS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """One program, as above: d_q of its atoms, d_k and d_v of its places, a part of d_bias."""
    window, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    n_parts = tl.cdiv(n_samples, samples)
    b = (tl.program_id(2) // n_parts).to(tl.int64)
    part = tl.program_id(2) % n_parts
    start = part * samples

    channel = tl.arange(0, CHANNELS)
    atom, key, has_query, has_key = _members(
        key_index, window, n_atom, n_queries, n_keys, QUERIES, KEYS
    )
    query_inside = has_query[:, None] & (channel < C)[None, :]
    key_inside = has_key[:, None] & (channel < C)[None, :]
    tile = _bias_tile(
        bias + b * bias_b + head * bias_h + window * bias_w, bias_q, n_queries, n_keys,
        QUERIES, KEYS,
    )  # fmt: skip
    d_o += b * do_b + head * do_h + atom[:, None] * do_n + channel[None, :]
    q += b * q_b + head * q_h + atom[:, None] * q_n + channel[None, :]
    k += b * k_b + head * k_h + key[:, None] * k_n + channel[None, :]
    v += b * v_b + head * v_h + key[:, None] * v_n + channel[None, :]
    n_block = tl.num_programs(0)
    d_tile = tl.zeros([KEYS, QUERIES], tl.float32)
    for i in range(start, tl.minimum(start + samples, n_samples)):
        s = tl.cast(i, tl.int64)
        q_tile = tl.load(q + s * q_s, mask=query_inside, other=0.0)
        k_tile = tl.load(k + s * k_s, mask=key_inside, other=0.0)
        v_tile = tl.load(v + s * v_s, mask=key_inside, other=0.0)
        do_tile = tl.load(d_o + s * do_s, mask=query_inside, other=0.0)
        p = _weights(q_tile, k_tile, tile, scale)
        d_p = tl.dot(v_tile, tl.trans(do_tile), input_precision="ieee")
        d_logits = p * (d_p - tl.sum(p * d_p, 0)[None, :])
        d_tile += d_logits

        d_logits = d_logits.to(q_tile.dtype)
        dq_tile = tl.dot(tl.trans(d_logits), k_tile, input_precision="ieee") * scale
        dk_tile = tl.dot(d_logits, q_tile, input_precision="ieee") * scale
        dv_tile = tl.dot(p.to(do_tile.dtype), do_tile, input_precision="ieee")
        sample = b * n_samples + s
        at = ((sample * n_atom + atom) * n_head + head)[:, None] * C + channel[None, :]
        tl.store(d_q + at, dq_tile.to(d_q.dtype.element_ty), mask=query_inside)
        at = (sample * n_block + window) * n_keys + tl.arange(0, KEYS)
        at = (at * n_head + head)[:, None] * C + channel[None, :]
        tl.store(d_k + at, dk_tile.to(d_k.dtype.element_ty), mask=key_inside)
        tl.store(d_v + at, dv_tile.to(d_v.dtype.element_ty), mask=key_inside)

    query, place = tl.arange(0, QUERIES), tl.arange(0, KEYS)
    n_batch = tl.num_programs(2) // n_parts
    row = (((part * n_batch + b) * n_head + head) * n_block + window) * n_queries + query
    at = row[:, None] * n_keys + place[None, :]
    inside = (query < n_queries)[:, None] & (place < n_keys)[None, :]
    tl.store(d_bias + at, tl.trans(d_tile), mask=inside)


@triton.jit
@no_type_check
def _collect(
    d_places, place, first, out, n_atom, n_places, n_channels,
    ATOMS: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One program: ATOMS atoms of a sample; most are named by equally many windows."""
    atom = tl.program_id(0) * ATOMS + tl.arange(0, ATOMS)
    row = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    start = tl.load(first + atom, mask=atom < n_atom, other=0)
    stop = tl.load(first + atom + 1, mask=atom < n_atom, other=0)
    total = tl.zeros([ATOMS, CHANNELS], tl.float32)
    for i in range(0, tl.max(stop - start, 0), PLACES):
        turn = start[:, None] + i + tl.arange(0, PLACES)[None, :]
        named = turn < stop[:, None]
        at = row * n_places + tl.load(place + turn, mask=named, other=0)
        inside = named[:, :, None] & (channel < n_channels)[None, None, :]
        x = d_places + at[:, :, None] * n_channels + channel[None, None, :]
        total += tl.sum(tl.load(x, mask=inside, other=0.0).to(tl.float32), 1)
    to = out + (row * n_atom + atom)[:, None] * n_channels + channel[None, :]
    inside = (atom < n_atom)[:, None] & (channel < n_channels)[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=inside)


def gate_cases() -> list[GateCase]:
    """AlphaFold 3's windows, with a bias in half and in single precision."""
    kernels = (_attend, _attend_backward)
    windows = [_window_case(kernel, bias) for kernel in kernels for bias in ("*bf16", "*fp32")]
    return [*windows, _collect_case()]


def _window_case(kernel: Any, bias: str) -> GateCase:
    names = kernel.arg_names
    signature = {n: "i64" for n in names if n[-2:] in ("_b", "_s", "_n", "_h", "_w", "_q")}
    signature |= {n: "i32" for n in names if n.startswith("n_") or n == "samples"}
    signature |= {
        n: "*bf16" for n in names if n in ("q", "k", "v", "o", "d_o", "d_q", "d_k", "d_v")
    }
    signature |= {"bias": bias, "key_index": "*i64", "scale": "fp32"}
    signature |= {"d_bias": "*fp32"} if "d_bias" in names else {}
    tile = _tile(32, 128, backward=kernel is _attend_backward)
    sizes = {"C": 32, "CHANNELS": 32, "QUERIES": 32, "KEYS": 128}
    return GateCase(kernel, signature, sizes, tile.warps, tile.stages)


def _collect_case() -> GateCase:
    signature = dict.fromkeys(("d_places", "out"), "*bf16")
    signature |= dict.fromkeys(("place", "first"), "*i64")
    signature |= dict.fromkeys(("n_atom", "n_places", "n_channels"), "i32")
    part = Collection()
    sizes = {"ATOMS": part.atoms, "PLACES": part.places, "CHANNELS": part.channels}
    return GateCase(_collect, signature, sizes, part.warps, 3, tensor_cores=False)
