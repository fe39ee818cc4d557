"""Growth of a trained network: wider or deeper, and at first the same function.

A width grows by a whole factor k: every channel gets k copies, which leaves the mean and variance
of every LayerNorm as they were. Whatever writes a channel writes all its copies; whatever reads it
divides its weight among them by random numbers that sum to 1, which is what makes the copies learn
different things. A stack gets deeper by blocks whose output projections are zero. docs/growing.md
derives all of it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from seedfold.config import to_dict
from seedfold.data_pipeline.errors import InputError
from seedfold.model.relative_position import N_RELATIVE_POSITION
from seedfold.model.seedfold import SeedFold

_WIDTHS = ("c_z", "c_m", "trunk.template.c")
_HIDDEN_WIDTHS = (
    "*.pair.c_hidden_mul",
    "*.pair.triangle_attention.n_heads",
    "trunk.msa.n_heads",
    "trunk.msa.c_head",
)
_DEPTHS = {
    "trunk.template.n_blocks": "trunk.template_embedder.blocks",
    "trunk.msa.n_blocks": "trunk.msa_module.blocks",
    "trunk.pairformer.n_blocks": "trunk.pairformer.blocks",
    "diffusion.transformer.n_blocks": "diffusion_module.diffusion_transformer.blocks",
    "confidence.pairformer.n_blocks": "confidence_head.pairformer.blocks",
}
"""Option -> the stack it is the depth of."""
_WITHOUT_WEIGHTS = ("n_cycles", "sampler.*", "trunk.msa.n_msa", "*.dropout")
_KINDS = ("softmax", "linear_gated", "linear_additive", "local_window")
"""Exchangeable parts whose growth is known to be exact."""

_CONDITIONING = "diffusion_module.diffusion_conditioning."
_CONCATENATED = (_CONDITIONING + "layer_norm_z.weight", _CONDITIONING + "linear_z.weight")
_AVERAGING = re.compile(
    r"trunk\.msa_module\..*\.pair_weighted_averaging\.(linear_v|linear_gate|linear_out)\.weight"
)
_N_POSITION_FEATURES = 3.5
"""How many raw relative position features of a pair are 1: three, or four within an entity."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Where the numbers of a grown network come from.

    `origin`: name of a tensor -> its name in the source; `new_blocks`: what has no origin.
    """

    source: SeedFold.Config
    target: SeedFold.Config
    origin: dict[str, str]
    new_blocks: tuple[str, ...]
    shapes: dict[str, torch.Size]


def grow(
    state: Mapping[str, Tensor],
    source: SeedFold.Config,
    target: SeedFold.Config,
    generator: torch.Generator,
    *,
    z_variance: float | None = None,
) -> dict[str, Tensor]:
    """The weights of a larger network that computes what the smaller one does.

    Args:
        state: the weights of `source`, on the CPU.
        source: the configuration of the smaller network.
        target: that of the larger one: widths c_z, c_m and that of the templates, triangle heads
            and hidden channels, heads of the weighted averaging, and depths may be larger. Widths
            grow by whole factors.
        generator: on the CPU; decides how copies differ, and the weights of new blocks.
        z_variance: typical variance, over its channels, of the trunk's pair representation. Needed
            only where c_z grows and the diffusion conditioning takes raw relative positions: the
            result is then an approximation, which is best for pairs of that variance.

    Raises:
        InputError: if the networks differ in something that cannot grow, or if `state` does not
            hold the weights of `source`; the message names the option or the tensor.
    """
    _check_configs(source, target)
    raw = source.diffusion.conditioning.relative_positions == "raw" and source.c_z != target.c_z
    if raw and not (z_variance is not None and z_variance > 0):
        raise _no_exact_raw(z_variance)
    network = _skeleton(target)
    plan = _plan(state, source, target, network)
    with torch.no_grad():
        grown = {
            name: _grow_tensor(name, state[origin], plan, generator)
            for name, origin in plan.origin.items()
            if not (raw and name in _CONCATENATED)
        }
        if raw and z_variance is not None:
            grown.update(_grow_raw_conditioning(state, source, target, z_variance, generator))
        dtype = next(iter(state.values())).dtype
        for block in plan.new_blocks:
            grown.update(_identity_block(network, block, dtype, generator))
    return {name: grown[name] for name in plan.shapes}


def larger(
    config: SeedFold.Config,
    *,
    c_z: int | None = None,
    c_m: int | None = None,
    pairformer_blocks: int | None = None,
    diffusion_blocks: int | None = None,
) -> SeedFold.Config:
    """The configuration with other widths and depths; what is None stays as it is."""
    pairformer, transformer = config.trunk.pairformer, config.diffusion.transformer
    pairformer = replace(pairformer, n_blocks=pairformer_blocks or pairformer.n_blocks)
    transformer = replace(transformer, n_blocks=diffusion_blocks or transformer.n_blocks)
    return replace(
        config,
        c_z=c_z or config.c_z,
        c_m=c_m or config.c_m,
        trunk=replace(config.trunk, pairformer=pairformer),
        diffusion=replace(config.diffusion, transformer=transformer),
    )


def describe(source: SeedFold.Config, target: SeedFold.Config) -> list[str]:
    """What `grow` would change, a line for every option and one for the size of the network.

    Raises:
        InputError: if the networks differ in something that cannot grow.
    """
    _check_configs(source, target)
    lines = [f"{path}: {old} -> {new}" for path, old, new in _differences(source, target)]
    networks = (_skeleton(source), _skeleton(target))
    old, new = (sum(t.numel() for t in n.state_dict().values()) for n in networks)
    return [*lines, f"numbers in the file: {old:,} -> {new:,} ({new / old:.2f} times)"]


def _check_configs(source: SeedFold.Config, target: SeedFold.Config) -> None:
    for path, kind in _flat(to_dict(target)):
        if path.endswith(".kind") and kind not in _KINDS:
            raise InputError(
                f"model.{path}",
                f"'{kind}' cannot be grown",
                expected=f"one of {', '.join(_KINDS)}",
                todo="only the growth of these is known to leave the network's output as it is",
            )
    for path, old, new in _differences(source, target):
        _check_option(path, old, new)


def _check_option(path: str, old: Any, new: Any) -> None:
    """Refuses an option that may not differ, or not in this way."""
    expected, todo = "the same in both; this cannot grow", ""
    if path in _WIDTHS:
        allowed = new % old == 0
        expected = "a whole multiple of the source's width"
        todo = (
            "a LayerNorm keeps its mean and variance only if all channels have equally many copies"
        )
    elif path in _DEPTHS:
        allowed = 0 < old < new
        expected = "no fewer blocks, and at least one in both"
    else:
        allowed = any(fnmatch(path, pattern) for pattern in (*_HIDDEN_WIDTHS, *_WITHOUT_WEIGHTS))
    if not allowed:
        found = f"{old!r} in the source and {new!r} in the target"
        raise InputError(f"model.{path}", found, expected=expected, todo=todo)


def _differences(
    source: SeedFold.Config, target: SeedFold.Config
) -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of every option that differs."""
    old, new = dict(_flat(to_dict(source))), dict(_flat(to_dict(target)))
    for path in dict.fromkeys([*old, *new]):
        if old.get(path) != new.get(path):
            yield path, old.get(path), new.get(path)


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _no_exact_raw(z_variance: float | None) -> InputError:
    return InputError(
        "model.diffusion.conditioning.relative_positions",
        f"'raw' with a growing c_z and z_variance {z_variance}",
        expected="'encoded' in both networks, or a positive z_variance",
        todo="no widening is exact there: a LayerNorm spans z and 139 features that cannot be "
        "copied. Measure the variance of the trunk's z over its channels and pass it as z_variance "
        "for an approximation, or raise the depth only (docs/growing.md)",
    )


def _skeleton(config: SeedFold.Config) -> SeedFold:
    """The network without numbers."""
    with torch.device("meta"):
        return SeedFold(config)


def _plan(
    state: Mapping[str, Tensor],
    source: SeedFold.Config,
    target: SeedFold.Config,
    network: SeedFold,
) -> _Plan:
    """Pairs every tensor of the target with one of the source, and every one of the source."""
    _check_state(state, _skeleton(source).state_dict())
    moved, new_blocks = _placed_blocks(source, target)
    shapes = {name: t.shape for name, t in network.state_dict().items()}
    origin = {}
    for name in shapes:
        block = _block_of(name)
        if block not in new_blocks:
            origin[name] = moved.get(block, block) + name.removeprefix(block)
    used = set(origin.values())
    for name, found in origin.items():
        if found not in state:
            raise InputError("grow", f"nothing in the source becomes '{name}'")
    for name in state:
        if name not in used:
            raise InputError("grow", f"tensor '{name}' of the source has no place in the target")
    assert len(used) == len(origin)
    return _Plan(
        source=source, target=target, origin=origin, new_blocks=tuple(new_blocks), shapes=shapes
    )


def _check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name in sorted(set(state) ^ set(expected)):
        what = "too many" if name in state else "missing"
        raise InputError(
            "grow",
            f"tensor '{name}' is {what}",
            expected="the weights of the source's configuration",
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                "grow",
                f"tensor '{name}' has shape {tuple(tensor.shape)}",
                expected=f"{tuple(expected[name].shape)} by the source's configuration",
            )


def _placed_blocks(
    source: SeedFold.Config, target: SeedFold.Config
) -> tuple[dict[str, str], list[str]]:
    """Target block -> source block, and the new blocks.

    Old blocks are spread evenly over the new depth; the last stays the last, since the last block
    of the MSA module may lack the half that nothing reads.
    """
    old, new = dict(_flat(to_dict(source))), dict(_flat(to_dict(target)))
    moved, added = {}, []
    for option, stack in _DEPTHS.items():
        n_old, n_new = old[option], new[option]
        places = {(b + 1) * n_new // n_old - 1: b for b in range(n_old)}
        moved.update({f"{stack}.{i}": f"{stack}.{b}" for i, b in places.items()})
        added.extend(f"{stack}.{i}" for i in range(n_new) if i not in places)
    return moved, added


def _block_of(name: str) -> str:
    """The block of a growing stack that a tensor is in; empty if it is in none."""
    for stack in _DEPTHS.values():
        if name.startswith(stack + "."):
            return ".".join(name.split(".")[: stack.count(".") + 2])
    return ""


def _grow_tensor(name: str, old: Tensor, plan: _Plan, generator: torch.Generator) -> Tensor:
    """Copies rows, which write, and divides columns, which read, among their copies."""
    shape = plan.shapes[name]
    if old.shape == shape and not _AVERAGING.fullmatch(name):
        return old.clone()
    rows = _copies(name, 0, old.shape[0], shape[0], plan)
    grown = old[rows]
    if old.dim() == 2:
        columns = _copies(name, 1, old.shape[1], shape[1], plan)
        grown = _divided(grown.double(), columns, generator)
    assert grown.shape == shape
    return grown.to(old.dtype)


def _copies(name: str, axis: int, old: int, new: int, plan: _Plan) -> Tensor:
    """Index in the source of every channel of the target."""
    source, target = plan.source, plan.target
    if name in _CONCATENATED and axis == _concatenated_axis(name):
        # Both halves, z and the encoded relative positions, grow for themselves.
        half = _tiled(name, source.c_z, target.c_z)
        return torch.cat([half, source.c_z + half])
    if _AVERAGING.fullmatch(name) and axis == (1 if "linear_out" in name else 0):
        (heads, width), (new_heads, new_width) = _averaging_heads(source), _averaging_heads(target)
        head = _tiled(name, heads, new_heads)
        return (head[:, None] * width + _tiled(name, width, new_width)).flatten()
    return _tiled(name, old, new)


def _concatenated_axis(name: str) -> int:
    """Which axis of a tensor runs over the concatenation of z and relative positions."""
    return 1 if "linear" in name else 0


def _averaging_heads(config: SeedFold.Config) -> tuple[int, int]:
    """Number and width of the heads of the MSA's weighted averaging."""
    msa = config.trunk.msa
    return msa.n_heads, msa.c_head or config.c_m // msa.n_heads


def _tiled(name: str, old: int, new: int) -> Tensor:
    """0 1 2 0 1 2: whole repeats, so that heads stay together."""
    if new % old:
        raise InputError(
            "grow",
            f"tensor '{name}' would go from {old} to {new} channels or heads",
            expected="a whole multiple of the source's number",
        )
    return torch.arange(new) % old


def _divided(weight: Tensor, columns: Tensor, generator: torch.Generator) -> Tensor:
    """Each column divided among its copies, anew in every row.

    The shares of the k copies sum to 1 and have the mean square 1 / k: a row then has the length
    that it had, which is also that of a row initialised at the new width.
    """
    k = len(columns) // weight.shape[1]
    if k == 1:
        return weight[:, columns]
    noise = torch.randn(
        len(weight), len(columns), generator=generator, dtype=weight.dtype, device=generator.device
    )
    mean = torch.zeros_like(weight).index_add_(1, columns, noise) / k
    return weight[:, columns] * (1 / k + (noise - mean[:, columns]) / math.sqrt(k))


def _grow_raw_conditioning(
    state: Mapping[str, Tensor],
    source: SeedFold.Config,
    target: SeedFold.Config,
    z_variance: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The LayerNorm over z and raw relative positions, and the linear behind it.

    Centring and the scale of the norm move into the linear, which makes the numerator exact; the
    denominator is put right for pairs whose z has mean 0 and variance `z_variance`.
    """
    norm, linear = (state[name] for name in _CONCATENATED)
    weight = linear.double() * norm.double()
    weight = weight - weight.mean(1, keepdim=True)
    deviation = [_concatenated_deviation(c, z_variance) for c in (source.c_z, target.c_z)]
    weight = weight * (deviation[1] / deviation[0])
    channels = _tiled(_CONCATENATED[1], source.c_z, target.c_z)
    z, positions = weight[channels].split([source.c_z, N_RELATIVE_POSITION], dim=1)
    weight = torch.cat([_divided(z, channels, generator), positions], dim=1)
    scale = torch.ones(weight.shape[1], dtype=norm.dtype)
    return dict(zip(_CONCATENATED, (scale, weight.to(linear.dtype)), strict=True))


def _concatenated_deviation(c_z: int, z_variance: float) -> float:
    """Standard deviation over z, of mean 0, and raw relative positions together."""
    n = c_z + N_RELATIVE_POSITION
    mean = _N_POSITION_FEATURES / n
    return math.sqrt((c_z * z_variance + _N_POSITION_FEATURES) / n - mean**2)


def _identity_block(
    network: SeedFold, prefix: str, dtype: torch.dtype, generator: torch.Generator
) -> dict[str, Tensor]:
    """A freshly initialised block that adds nothing: its output projections are zero.

    Weights that training from scratch starts from zero are random here: behind a zero projection
    they would have to wait for each other.
    """
    block = network.get_submodule(prefix).to_empty(device="cpu")
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
            if isinstance(module, nn.Linear):
                _open_or_close(module, closed=name.endswith("linear_out"))
    return {f"{prefix}.{name}": t.to(dtype) for name, t in block.state_dict().items()}


def _open_or_close(linear: nn.Linear, closed: bool) -> None:
    if closed:
        for parameter in linear.parameters():
            nn.init.zeros_(parameter)
    elif not linear.weight.any():
        nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
