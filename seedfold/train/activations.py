"""What a training step keeps for its backward pass, counted without computing it.

The real network runs forward on fake tensors, which have shapes and dtypes but no numbers, with
hooks that see every tensor that autograd keeps; on a machine with a GPU in mind, with the operators
that run there. Every stack of blocks is shortened to `MEASURED` blocks, whose middle one stands for
those left out.

Deviations from a step: one pass of the trunk, since those before it keep nothing; a rollout keeps
nothing either; the losses are left out.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from seedfold import kernels
from seedfold.config import from_dict, to_dict
from seedfold.data_pipeline.features import Features
from seedfold.kernels.backend import UnavailableError
from seedfold.model.seedfold import SeedFold
from seedfold.model.template import TemplatePairFeatures
from seedfold.model.trunk import TrunkState
from seedfold.train.flops import Sizes, on_meta
from seedfold.train.module import StageConfig
from seedfold.train.wrapping import BLOCKS

MEASURED = 3
"""First, middle and last block of a stack."""
_FUSED = (
    *("adaln", "linear_triangle_attention", "pair_bias_attention", "transition"),
    *("triangle_attention", "triangle_multiplication", "window_attention"),
)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes kept for the backward pass.

    `all`: of a step as it is; `checkpointed`: if every block keeps its inputs alone; then the
    largest block is there as well while its backward pass runs, `largest`.
    """

    all: int
    checkpointed: int
    largest: int


@dataclass
class _Kept:
    """Storages that autograd has kept so far, and what blocks added to them."""

    weights: set[int]
    saved: dict[int, int] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)
    blocks: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def keep(self, tensor: Tensor) -> Tensor:
        self._add(self.saved, tensor)
        return tensor

    def _add(self, storages: dict[int, int], tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            storages[storage._cdata] = storage.nbytes()

    def watch(self, block: nn.Module, stack: str) -> None:
        """Notes what a block of a stack keeps, and what it would as a checkpoint."""
        before = [0, 0]

        def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
            before[:] = sum(self.saved.values()), sum(self.inputs.values())
            for tensor in args:
                if isinstance(tensor, Tensor):
                    self._add(self.inputs, tensor)

        def leave(*_: Any) -> None:
            kept = sum(self.saved.values()) - before[0], sum(self.inputs.values()) - before[1]
            self.blocks.setdefault(stack, []).append(kept)

        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)


def activations(network: SeedFold, stage: StageConfig, sizes: Sizes, gpu: bool) -> Activations:
    """Counts what a training step of one example keeps.

    Args:
        network: On the meta device.
        stage: What a step computes.
        sizes: Of the example.
        gpu: Whether Triton's kernels serve what runs in half precision.
    """
    short = on_meta(from_dict(SeedFold.Config, _shortened(to_dict(network.config))))
    one_template = replace(sizes, n_templates=min(1, sizes.n_templates))
    try:
        kept = _forward(short, stage, one_template, gpu and _triton_imports())
    except UnavailableError:  # For heads of such a width there are no kernels.
        kept = _forward(short, stage, one_template, triton=False)
    everything, checkpointed = sum(kept.saved.values()), sum(kept.inputs.values())
    inside = largest = 0
    for stack, measured in kept.blocks.items():
        first, *rest = measured
        length = len(network.get_submodule(stack))  # pyright: ignore[reportArgumentType]
        runs = sizes.n_templates if stack.startswith("trunk.template_embedder") else 1
        missing = runs * length - len(measured)
        middle = rest[0] if rest else first
        everything += missing * middle[0]
        checkpointed += missing * middle[1]
        inside += sum(saved for saved, _ in measured)
        largest = max(largest, *(saved for saved, _ in measured))
    outside = sum(kept.saved.values()) - inside
    return Activations(all=everything, checkpointed=checkpointed + outside, largest=largest)


def _shortened(value: Any) -> Any:
    """Options of a network whose stacks are short."""
    if isinstance(value, dict):
        return {
            k: min(v, MEASURED) if k.endswith("n_blocks") else _shortened(v)
            for k, v in value.items()
        }
    return value


def _forward(network: SeedFold, stage: StageConfig, sizes: Sizes, triton: bool) -> _Kept:
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    with FakeTensorMode():
        weights = {name: torch.empty(shape) for name, shape in shapes.items()}
        trained = {n: weights[n].requires_grad_() for n, _ in network.named_parameters()}
        kept = _Kept({w.untyped_storage()._cdata for w in trained.values()})
        for name, module in network.named_modules():
            stack = name.rpartition(".")[0]
            if isinstance(module, BLOCKS) and stack.endswith(("blocks", "_transitions")):
                kept.watch(module, stack)
        step = _Step(network.train(), stage, sizes, triton)
        with torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda x: x):
            _ = functional_call(step, {f"network.{n}": w for n, w in weights.items()}, ())
    return kept


class _Step(nn.Module):
    """The parts of a step that keep something, each on the kernels that it has."""

    def __init__(self, network: SeedFold, stage: StageConfig, sizes: Sizes, triton: bool):
        super().__init__()
        self.network, self.stage, self.sizes, self.triton = network, stage, sizes, triton

    def forward(self) -> list[Any]:
        """Returns everything, lest it be given back."""
        network, f = self.network, fake_features(self.sizes)
        head_alone = self.stage.train == "confidence"
        state = self._fake_state() if head_alone else self._trunk(f)
        out: list[Any] = [state]
        if self.stage.rollout_steps:
            with self._half():
                out.append(network.confidence_head(f, state, torch.empty(1, 1, f.n_atom, 3)))
        if head_alone:
            return out
        module, n_copies = network.diffusion_module, self.stage.n_copies
        prepared = module.prepare(f, state.s_inputs, state.s, state.z)
        x = torch.empty(1, n_copies, f.n_atom, 3)
        denoised = module(x, torch.empty(1, n_copies), prepared)
        return [*out, prepared, denoised, network.distogram_head(state.z)]

    def _trunk(self, f: Features) -> TrunkState:
        with self._half():
            s_inputs = self.network.input_embedder(f)
            state = self.network.trunk(f, s_inputs, 1, templates=_fake_templates(self.sizes))
        return TrunkState(s_inputs=s_inputs.float(), s=state.s.float(), z=state.z.float())

    def _fake_state(self) -> TrunkState:
        c, n = self.network.config, self.sizes.n_token
        return TrunkState(
            s_inputs=torch.empty(1, n, c.c_s_inputs),
            s=torch.empty(1, n, c.c_s),
            z=torch.empty(1, n, n, c.c_z),
        )

    @contextmanager
    def _half(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.stage.precision == "bf16":
                stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
                if self.triton:
                    stack.enter_context(_triton_on_fake_tensors())
            yield


def fake_features(sizes: Sizes) -> Features:
    """A batch of one example of this size, with whatever numbers."""
    of = {"N_token": sizes.n_token, "N_atom": sizes.n_atom, "N_msa": sizes.n_msa}
    of["N_templ"] = sizes.n_templates
    kinds: dict[str, torch.dtype] = {"Bool": torch.bool, "Int": torch.int64}
    tensors = {}
    for f in fields(Features):
        if f.name in Features.axes():
            shape = [of[a] if a in of else int(a) for a in Features.axes()[f.name]]
            dtype = kinds.get(
                str(f.type).rpartition("jaxtyping.")[2].partition("[")[0], torch.float32
            )
            tensors[f.name] = torch.zeros(1, *shape, dtype=dtype)
    return Features(**tensors)


def _fake_templates(sizes: Sizes) -> TemplatePairFeatures:
    n, slots = sizes.n_token, sizes.n_templates

    def pairs(dtype: torch.dtype, *more: int) -> Tensor:
        return torch.zeros(1, slots, n, n, *more, dtype=dtype)

    return TemplatePairFeatures(
        restype=torch.zeros(1, slots, n, dtype=torch.int64),
        distogram=pairs(torch.int64),
        distogram_mask=pairs(torch.bool),
        pseudo_beta_mask=pairs(torch.bool),
        unit_vector=pairs(torch.float32, 3),
        backbone_mask=pairs(torch.bool),
    )


def _triton_imports() -> bool:
    """Before `_triton_on_fake_tensors`, so that kernels are not defined as interpreted ones."""
    try:
        for name in _FUSED:
            importlib.import_module(f"seedfold.kernels.{name}.fused")
    except ImportError:
        return False
    return True


@contextmanager
def _triton_on_fake_tensors() -> Iterator[None]:
    """The kernels' operators on the CPU, where fake tensors are: nothing runs."""
    name = "TRITON_INTERPRET"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        with kernels.use("triton"):
            yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
