"""The counted FLOPs against torch's counter, which sees every product of the real modules."""

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seedfold.config import from_dict, to_dict
from seedfold.data_pipeline.features import Features, collate
from seedfold.model.pairformer import PairBlock
from seedfold.model.presets import nano, protenix
from seedfold.model.seedfold import SeedFold
from seedfold.train.data import DataConfig, Examples
from seedfold.train.flops import (
    Sizes,
    forward_flops,
    on_meta,
    pair_block,
    pairformer_block,
    peak_flops,
    step_flops,
)
from seedfold.train.module import StageConfig

N_COPIES = 3


def with_attention(config: SeedFold.Config, kind: str) -> SeedFold.Config:
    """The network with another triangle attention in every pair stack."""

    def changed(value):
        if isinstance(value, dict):
            if "triangle_attention" in value:
                c_head = value["triangle_attention"]["c_head"]
                value = {**value, "triangle_attention": {"kind": kind, "c_head": c_head}}
            return {key: changed(inner) for key, inner in value.items()}
        return value

    return from_dict(SeedFold.Config, changed(to_dict(config)))


def small_protenix() -> SeedFold.Config:
    return protenix(
        c_z=32,
        c_s=48,
        c_m=16,
        c_token_input=32,
        c_token_diffusion=64,
        c_atom=32,
        c_atompair=8,
        pairformer_blocks=1,
        pairformer_heads=4,
        msa_blocks=2,
        template_c=16,
        diffusion_transformer_blocks=2,
        diffusion_transformer_heads=4,
        confidence_blocks=1,
        confidence_heads=4,
    )


def small(**changes: dict) -> SeedFold.Config:
    """Nano with single blocks; options of parts of it are replaced."""
    data = to_dict(nano())
    data["trunk"]["pairformer"]["n_blocks"] = data["diffusion"]["transformer"]["n_blocks"] = 1
    for path, options in changes.items():
        part = data
        for name in path.split("__"):
            part = part[name]
        part |= options
    return from_dict(SeedFold.Config, data)


def other_options() -> SeedFold.Config:
    encoded = {"relative_positions": "encoded", "single_inputs": "encoded", "norms": "separate"}
    slots = {"n_slots": 24, "key_adaln": "shared", "extra_factor": True}
    return small(
        diffusion__conditioning=encoded,
        diffusion__atom_mixer=slots,
        confidence={"raw_distance": True},
        trunk__msa={"n_blocks": 2, "n_msa": 2, "last_block_updates_msa": True},
    )


def local_window() -> SeedFold.Config:
    data = to_dict(small())
    data["diffusion"]["atom_mixer"] = {"kind": "local_window"}
    return from_dict(SeedFold.Config, data)


CONFIGS = {
    "softmax": small,
    "local_window": local_window,
    "linear_gated": lambda: with_attention(small(), "linear_gated"),
    "linear_additive": lambda: with_attention(small(), "linear_additive"),
    "protenix": small_protenix,
    "other options": other_options,
}


@pytest.fixture(scope="session")
def real_example(source) -> Features:
    """A crop of a real structure, with an alignment of a made-up depth."""
    f = Examples(DataConfig(sources=(source,), n_token=24), seed=1)[(0, 0)].f
    f = dataclasses.replace(f, labels=None)
    rows = {name: getattr(f, name) for name in ("msa", "msa_mask", "has_deletion")}
    rows["deletion_value"] = f.deletion_value
    more = {name: x[:1].expand(7, *x.shape[1:]) for name, x in rows.items()}
    return collate([dataclasses.replace(f, **more)])


def counted(function) -> int:
    """FLOPs of products while a function runs; attention as the products that it is made of."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@torch.no_grad()
def parts_of(network: SeedFold, f: Features) -> dict[str, int]:
    state = network.embed(f, 1)
    module, x = network.diffusion_module, torch.randn(1, N_COPIES, f.n_atom, 3)
    prepared = module.prepare(f, state.s_inputs, state.s, state.z)
    once, twice = (counted(lambda n=n: network.embed(f, n)) for n in (1, 2))
    one, many = (
        counted(lambda n=n: module(x[:, :n], torch.ones(1, n), prepared)) for n in (1, N_COPIES)
    )
    copy = (many - one) // (N_COPIES - 1)
    centres = x[:, 0, : f.n_token]
    distances = counted(lambda: torch.cdist(centres, centres))
    return {
        "inputs": 2 * once - twice,
        "trunk_pass": twice - once,
        "prepare": counted(lambda: module.prepare(f, state.s_inputs, state.s, state.z)),
        "call": one - copy,
        "copy": copy,
        "distogram": counted(lambda: network.distogram_head(state.z)),
        "confidence": counted(lambda: network.confidence_head(f, state, x[:, :1])) - distances,
    }


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "with templates") for name in CONFIGS), ("softmax", "real")]
)
def test_parts_are_what_torch_counts(name, kind, request):
    if kind == "real":
        f = request.getfixturevalue("real_example")
    else:
        f = collate([request.getfixturevalue("small_example").to(torch.float32)])
    network = SeedFold(CONFIGS[name]()).eval()
    found = dataclasses.asdict(forward_flops(network, Sizes.of(f)))
    assert found == parts_of(network, f)
    assert dataclasses.asdict(forward_flops(on_meta(network.config), Sizes.of(f))) == found


def test_a_step_is_its_parts_and_their_gradients():
    network = on_meta(small())
    sizes = Sizes(n_token=24, n_atom=200, n_msa=3, n_templates=2)
    p = forward_flops(network, sizes)
    stage = StageConfig(n_cycles=4, n_copies=5, rollout_steps=2)
    step = step_flops(network, stage, sizes, n_cycles=3)
    denoised = p.call + 5 * p.copy
    learnt = p.inputs + p.trunk_pass + p.prepare + denoised + p.distogram + p.confidence
    rollout = p.prepare + 2 * (p.call + p.copy)
    assert step.model == 3 * learnt + 2 * p.trunk_pass + rollout
    means = [step_flops(network, stage, sizes, n_cycles=n).model for n in (1, 2, 3, 4)]
    assert step_flops(network, stage, sizes).model == sum(means) / 4
    short = StageConfig(n_cycles=4, n_copies=5, rollout_steps=0)
    no_rollout = step_flops(network, short, sizes, n_cycles=3).model
    assert no_rollout == step.model - rollout - 3 * p.confidence
    last = StageConfig(n_cycles=4, n_copies=5, rollout_steps=2, train="confidence")
    heads = step_flops(network, last, sizes, n_cycles=3).model
    assert heads == p.inputs + 3 * p.trunk_pass + rollout + 3 * p.confidence


def test_gradients_are_two_products_each():
    """Of a Pairformer block, whose inputs all need one, by torch's counter.

    Its attention is linear: softmax appends channels for its mask while autograd records.
    """
    network = SeedFold(with_attention(small(), "linear_gated")).train()
    block, n = network.trunk.pairformer.blocks[0], 16
    s = torch.randn(1, n, network.config.c_s, requires_grad=True)
    z = torch.randn(1, n, n, network.config.c_z, requires_grad=True)

    def step():
        with torch.enable_grad():
            out = block(s, z, torch.ones(1, n, dtype=torch.bool))
            (out[0].sum() + out[1].sum()).backward()

    assert counted(step) == 3 * pairformer_block(block, n)


def test_scaling_rows_at_their_crops():
    """The closed form of docs/kernels.md for a pair block: 68 n^2 c^2 + 12 n^3 c, heads aside."""
    for c in (128, 512):
        with torch.device("meta"):
            block = PairBlock(PairBlock.Config(), c)
        for n in (384, 640):
            heads = 2 * 2 * n**2 * c * (c // 32)
            assert pair_block(block, n) == 68 * n**2 * c**2 + 12 * n**3 * c + heads


def test_peaks_by_the_names_that_cuda_gives():
    assert peak_flops("NVIDIA H200") == peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA GeForce GTX 1080") is None
