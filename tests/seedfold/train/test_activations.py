"""Counted activations against the tensors that autograd really keeps, and the peaks of a GPU."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from seedfold.config import from_dict, to_dict
from seedfold.data_pipeline.features import Features
from seedfold.model.pairformer import PairBlock
from seedfold.model.presets import pico
from seedfold.model.seedfold import SeedFold
from seedfold.model.trunk import TrunkState
from seedfold.train import activations as a
from seedfold.train.flops import Sizes, on_meta
from seedfold.train.module import StageConfig
from seedfold.train.plan import TRANSIENT, TRANSIENT_PAIRS

SIZES = Sizes(n_token=14, n_atom=75, n_msa=6, n_templates=2)
STAGE = StageConfig(n_copies=3, rollout_steps=1)


def deep(n_blocks: int = 5) -> SeedFold.Config:
    """Pico whose long stacks are longer than what is measured of them, the others short."""
    data = to_dict(pico())
    data["trunk"]["pairformer"]["n_blocks"] = n_blocks
    data["diffusion"]["transformer"]["n_blocks"] = n_blocks
    data["trunk"]["msa"]["n_blocks"] = 4
    return from_dict(SeedFold.Config, data)


def really_kept(network: SeedFold, f: Features, stage: StageConfig) -> int:
    """Bytes of all storages that autograd keeps in a step with numbers."""
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    x = torch.randn(1, stage.n_copies, f.n_atom, 3)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=stage.precision == "bf16"),
    ):
        state = network.embed(f, 1)
        state = TrunkState(s_inputs=state.s_inputs.float(), s=state.s.float(), z=state.z.float())
        out = [state, network.confidence_head(f, state, x[:, :1])]
        with torch.autocast("cpu", enabled=False):
            prepared = network.diffusion_module.prepare(f, state.s_inputs, state.s, state.z)
            denoised = network.diffusion_module(x, torch.ones(1, stage.n_copies), prepared)
            out += [denoised, network.distogram_head(state.z)]
        assert out
    return sum(kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_autograd_keeps_of_a_step(precision):
    stage = dataclasses.replace(STAGE, precision=precision)
    network = SeedFold(deep()).train()
    f = a.fake_features(SIZES)
    # Two template slots that differ, as the counted sizes say.
    f.template_restype[:, 1] = 1
    for mask in (f.token_mask, f.atom_mask, f.msa_mask):
        mask.fill_(True)
    found = a.activations(on_meta(deep()), stage, SIZES, gpu=False)
    assert found.all == pytest.approx(really_kept(network, f, stage), rel=0.02)
    assert found.largest < found.checkpointed + found.largest < found.all


def test_longer_stacks_add_blocks(monkeypatch):
    """By the middle one: a stack of 5 is one of 4 and half the difference of 6 and 4."""
    # All are measured on the same short network; once is enough.
    measured = a._forward(on_meta(deep(a.MEASURED)), STAGE, SIZES, False)
    monkeypatch.setattr(a, "_forward", lambda *_, **__: measured)
    four, five, six = (a.activations(on_meta(deep(n)), STAGE, SIZES, False).all for n in (4, 5, 6))
    assert five == pytest.approx((four + six) / 2) and five > four


def test_confidence_alone_keeps_its_head():
    stage = dataclasses.replace(STAGE, train="confidence")
    network = on_meta(pico())
    head = a.activations(network, stage, SIZES, False)
    step = a.activations(network, STAGE, SIZES, False)
    assert 0 < head.checkpointed < head.all < step.all / 2


def test_heads_without_kernels_keep_what_the_reference_does():
    data = to_dict(deep())
    data["trunk"]["pairformer"]["pair"]["triangle_attention"] |= {"c_head": 4}
    network = on_meta(from_dict(SeedFold.Config, data))
    stage = dataclasses.replace(STAGE, precision="bf16")
    found = [a.activations(network, stage, SIZES, gpu) for gpu in (True, False)]
    assert found[0] == found[1]
    with_kernels = a.activations(on_meta(deep()), stage, SIZES, gpu=True)
    assert with_kernels.all < a.activations(on_meta(deep()), stage, SIZES, gpu=False).all


@pytest.mark.parametrize(
    ("c_z", "n", "peak"), [(128, 384, 1666), (128, 768, 5692), (512, 384, 5732), (512, 768, 20352)]
)
def test_peak_of_a_pair_block_on_a_gpu(c_z, n, peak):
    """Counted and fitted, against the peaks in MiB above the input that docs/kernels.md has."""
    pytest.importorskip("triton")
    assert a._triton_imports()
    with torch.device("meta"):
        block = PairBlock(PairBlock.Config(), c_z).train()
    shapes = {name: weight.shape for name, weight in block.named_parameters()}
    with FakeTensorMode():
        weights = {name: torch.empty(shape, requires_grad=True) for name, shape in shapes.items()}
        kept = a._Kept({w.untyped_storage()._cdata for w in weights.values()})
        z = torch.empty(1, n, n, c_z, requires_grad=True)
        mask = torch.ones(1, n, n, dtype=torch.bool)
        with (
            torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
            a._triton_on_fake_tensors(),
        ):
            _ = functional_call(block, weights, (z, mask))
    pairs = 2 * n * n * c_z
    above = sum(kept.saved.values()) - 2 * pairs + TRANSIENT + TRANSIENT_PAIRS * pairs
    assert above / 2**20 == pytest.approx(peak, rel=0.1)
