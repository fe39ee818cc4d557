"""How many floating-point operations a training step is, counted from the network itself.

Only matrix products count, two operations for a multiplication and its addition: every matrix of
the network times the rows that it is applied to, and the products of activations (triangles,
attention, outer products). A test compares with torch's own counter on real features. Looking up
the row of a class in a matrix is no product, and neither is anything in the losses.

Source of the factors of a step: the gradients of a product are two products of its size. These are
model FLOPs: what activation checkpointing computes again is counted apart (PaLM, arXiv 2204.02311,
appendix B).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seedfold.data_pipeline.features import Features
from seedfold.model.atom_mixer import LocalVectors, LocalWindow
from seedfold.model.confidence import ConfidenceHead
from seedfold.model.diffusion import DiffusionModule
from seedfold.model.msa import MSAModule
from seedfold.model.seedfold import SeedFold
from seedfold.model.template import TemplateEmbedder
from seedfold.model.triangle import AdditiveTriangleAttention
from seedfold.model.trunk import Trunk
from seedfold.train.module import StageConfig

PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
}
"""Dense bf16 FLOP/s of tensor cores: NVIDIA's data sheets, half of what they print with sparsity.
The first name that is part of the device's counts."""


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 FLOP/s of a device by its name, as CUDA tells it; None where it is unknown."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of one example: tokens, atoms, rows of its alignment, and template slots that differ."""

    n_token: int
    n_atom: int
    n_msa: int
    n_templates: int

    @classmethod
    def of(cls, f: Features) -> "Sizes":
        """Of a batch, padding included; equal template slots are embedded once."""
        slots = (f.template_restype, f.template_backbone_mask, f.template_pseudo_beta)
        flat = torch.cat([slot.flatten(2).double() for slot in slots], dim=-1)
        return cls(
            n_token=f.n_token,
            n_atom=f.n_atom,
            n_msa=f.msa.shape[-2],
            n_templates=len(flat.unique(dim=1)[0]) if flat.shape[1] else 0,
        )


@dataclass(frozen=True, kw_only=True)
class ForwardFlops:
    """Of the parts of the network, forward, for one example.

    `inputs`: once a step; `trunk_pass`: each; `prepare`: what the diffusion module makes of the
    trunk's result; `call` and `copy`: each time that it runs, and for each copy that it then
    denoises; `confidence`: for each structure that is judged.
    """

    inputs: int
    trunk_pass: int
    prepare: int
    call: int
    copy: int
    distogram: int
    confidence: int


@dataclass(frozen=True, kw_only=True)
class StepFlops:
    """Of one example in a training step; `recomputed`, at most, if activations are checkpointed."""

    model: float
    recomputed: float


def on_meta(config: SeedFold.Config) -> SeedFold:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return SeedFold(config)


def step_flops(
    network: SeedFold, stage: StageConfig, sizes: Sizes, n_cycles: int | None = None
) -> StepFlops:
    """FLOPs of an example in a training step.

    Args:
        network: On any device.
        stage: What a step computes.
        sizes: Of the example, cropped.
        n_cycles: Passes of the trunk; None is the mean of the number that is drawn.
    """
    parts = forward_flops(network, sizes)
    without = (stage.n_cycles + 1) / 2 - 1 if n_cycles is None else n_cycles - 1
    everything = stage.train == "all"
    rollout = parts.prepare + stage.rollout_steps * (parts.call + parts.copy)
    judged = parts.confidence if stage.rollout_steps else 0
    once = without * parts.trunk_pass + (rollout if stage.rollout_steps else 0)
    trunk = parts.inputs + parts.trunk_pass
    copies = parts.call + stage.n_copies * parts.copy
    if not everything:
        return StepFlops(model=float(once + trunk + 3 * judged), recomputed=float(judged))
    with_gradient = trunk + parts.prepare + copies + parts.distogram + judged
    again = parts.trunk_pass + copies + judged
    return StepFlops(model=float(once + 3 * with_gradient), recomputed=float(again))


def forward_flops(network: SeedFold, sizes: Sizes) -> ForwardFlops:
    """FLOPs of the network's parts for an example of this size."""
    n, diffusion = sizes.n_token, network.diffusion_module
    encoder = network.input_embedder.atom_attention_encoder
    atoms = _AtomMixer(encoder.atom_mixer, sizes)
    inputs = _atom_features(encoder, sizes) + atoms.prepare + atoms.call + atoms.copy
    inputs += 2 * sizes.n_atom * _matrices(encoder.linear_token)
    call, copy = _diffusion_step(diffusion, sizes)
    return ForwardFlops(
        inputs=inputs + _trunk_start(network.trunk, sizes),
        trunk_pass=_trunk_pass(network.trunk, sizes),
        prepare=_diffusion_prepare(diffusion, sizes),
        call=call,
        copy=copy,
        distogram=2 * n * n * _matrices(network.distogram_head),
        confidence=_confidence(network.confidence_head, sizes),
    )


def _matrices(*modules: nn.Module | None) -> int:
    """Numbers in all matrices of the modules."""
    linears = (m for module in modules if module is not None for m in module.modules())
    return sum(m.weight.numel() for m in linears if isinstance(m, nn.Linear))


def _trunk_start(trunk: Trunk, sizes: Sizes) -> int:
    n = sizes.n_token
    frames = 2 * 3 * 3 * n * n * sizes.n_templates
    single = _matrices(trunk.linear_s_init, trunk.linear_z_init_i, trunk.linear_z_init_j)
    return 2 * n * single + 2 * n * n * _matrices(trunk.linear_token_bonds) + frames


def _trunk_pass(trunk: Trunk, sizes: Sizes) -> int:
    n = sizes.n_token
    recycled = 2 * n * _matrices(trunk.linear_s) + 2 * n * n * _matrices(trunk.linear_z)
    blocks: Any = trunk.pairformer.blocks
    return (
        recycled
        + _templates(trunk.template_embedder, sizes)
        + _msa(trunk.msa_module, sizes)
        + sum(pairformer_block(block, n) for block in blocks)
    )


def _templates(embedder: TemplateEmbedder, sizes: Sizes) -> int:
    n, blocks = sizes.n_token, list(embedder.blocks)
    if not blocks or not sizes.n_templates:
        return 0
    c = embedder.linear_features.out_features
    features = 2 * n * n * 5 * c  # The five that are no classes.
    each = features + sum(pair_block(block, n) for block in blocks)
    ends = 2 * n * n * _matrices(embedder.linear_z, embedder.linear_out)
    return ends + sizes.n_templates * each


def _msa(module: MSAModule, sizes: Sizes) -> int:
    n, n_msa = sizes.n_token, min(sizes.n_msa, module.n_msa)
    c_m = module.linear_m.out_features
    start = 2 * n * _matrices(module.linear_s) + 2 * n_msa * n * 2 * c_m
    return start + sum(msa_block(block, n, n_msa) for block in module.blocks)


def msa_block(block: Any, n: int, n_msa: int) -> int:
    """Of one `MSABlock`."""
    outer = block.outer_product_mean
    c = outer.linear_a.out_features
    flops = pair_block(block.pair_block, n) + 2 * n_msa * n * _matrices(
        outer.linear_a, outer.linear_b
    )
    flops += 2 * n_msa * n * n * (c * c + 1) + 2 * n * n * _matrices(outer.linear_out)
    if block.msa_update is None:
        return flops
    averaging = block.msa_update.pair_weighted_averaging
    rows = _matrices(averaging.linear_v, averaging.linear_gate, averaging.linear_out)
    rows += _matrices(block.msa_update.transition)
    flops += 2 * n_msa * n * rows + 2 * n * n * _matrices(averaging.linear_z)
    return flops + 2 * n * n * n_msa * averaging.linear_v.out_features


def pairformer_block(block: Any, n: int) -> int:
    """Of one `PairformerBlock`."""
    attention = block.attention_pair_bias
    bias = _matrices(attention.linear_z)
    single = _matrices(attention, block.single_transition) - bias
    product = 4 * n * n * attention.linear_q.out_features
    return pair_block(block.pair_block, n) + 2 * n * n * bias + 2 * n * single + product


def pair_block(block: Any, n: int) -> int:
    """Of one `PairBlock`."""
    products = 4 * n**3 * block.triangle_multiplication_outgoing.linear_a.out_features
    for attention in (block.triangle_attention_starting, block.triangle_attention_ending):
        products += _triangle_attention(attention, n)
    return 2 * n * n * _matrices(block) + products


def _triangle_attention(attention: Any, n: int) -> int:
    """Products of queries, keys and values; those of a variant unknown here are left out."""
    if not hasattr(attention, "linear_q"):
        return 0
    c = attention.linear_q.out_features
    if isinstance(attention, AdditiveTriangleAttention):
        # The bias meets the values of all rows; keys and values meet first, head by head.
        return 2 * n**3 * c + 4 * n * n * c * (c // attention.n_heads)
    return 4 * n**3 * c


class _AtomMixer:
    """Of a stack of atom blocks: `prepare` once, `call` each time, `copy` for every copy."""

    def __init__(self, mixer: Any, sizes: Sizes):
        self.prepare = self.call = 0
        self.copy = 2 * sizes.n_atom * _matrices(mixer)
        if not isinstance(mixer, LocalWindow):
            return
        c, n_place = mixer.config, sizes.n_atom
        if c.n_slots is not None:
            n_place = sizes.n_token * c.n_slots
        n_block = -(-n_place // c.n_queries)
        n_pair = n_block * c.n_queries * c.n_keys
        attentions: list[Any] = [block.attention for block in mixer.blocks]
        transitions: list[Any] = [block.transition for block in mixer.blocks]
        biases = _matrices(*(a.linear_p for a in attentions))
        # What depends on the conditioning alone is the same for all copies.
        shared = [m for a in attentions for m in (a.adaln_query, a.adaln_key, a.linear_gate)]
        shared += [m for t in transitions for m in (t.adaln, t.linear_gate)]
        own = _matrices(mixer.blocks) - biases - _matrices(*shared)
        widths = sum(a.linear_q.out_features for a in attentions)
        if isinstance(mixer, LocalVectors):
            # Every head sees positions and vectors; matrices of vectors meet three components.
            widths += sum(3 * a.n_heads * (1 + mixer.n_vectors) for a in attentions)
            ours = [m for a in attentions for m in (a.linear_polar, a.linear_left, a.linear_right)]
            own += 2 * _matrices(*ours) + _matrices(mixer.linear_vectors)
        self.call = 2 * n_place * _matrices(*shared)
        self.copy = 2 * n_place * own + 4 * n_pair * widths
        self.prepare = 2 * n_pair * biases + _window_pairs(mixer, sizes, n_block)


def _window_pairs(mixer: LocalWindow, sizes: Sizes, n_block: int) -> int:
    embedding, c = mixer.pair_embedding, mixer.config
    if embedding is None:
        return 0
    of_pairs = _matrices(embedding.linear_d, embedding.linear_d_inverse)
    of_pairs += _matrices(embedding.linear_same_space, embedding.mlp)
    flops = 2 * n_block * c.n_queries * c.n_keys * of_pairs
    flops += 2 * n_block * c.n_queries * _matrices(embedding.linear_query)
    flops += 2 * n_block * c.n_keys * _matrices(embedding.linear_key)
    return flops + 2 * sizes.n_token**2 * _matrices(embedding.linear_z)


def _atom_features(encoder: Any, sizes: Sizes) -> int:
    features = encoder.atom_features
    dense = _matrices(features.linear_pos, features.linear_charge, features.linear_mask)
    return 2 * sizes.n_atom * dense + 2 * sizes.n_token * _matrices(encoder.linear_s)


def _diffusion_prepare(module: DiffusionModule, sizes: Sizes) -> int:
    n, conditioning = sizes.n_token, module.diffusion_conditioning
    encoder, blocks = module.atom_attention_encoder, list(module.diffusion_transformer.blocks)
    attentions: list[Any] = [block.attention_pair_bias for block in blocks]
    pairs = _matrices(conditioning.linear_z, conditioning.pair_transitions)
    pairs += _matrices(*(a.linear_z for a in attentions))
    flops = 2 * n * n * pairs
    flops += 2 * n * _matrices(conditioning.linear_s_inputs, conditioning.linear_s)
    flops += _atom_features(encoder, sizes) + _AtomMixer(encoder.atom_mixer, sizes).prepare
    return flops + _AtomMixer(module.atom_attention_decoder.atom_mixer, sizes).prepare


def _diffusion_step(module: DiffusionModule, sizes: Sizes) -> tuple[int, int]:
    """Of one call whatever the number of copies, and of each copy."""
    n, conditioning = sizes.n_token, module.diffusion_conditioning
    encoder, decoder = module.atom_attention_encoder, module.atom_attention_decoder
    mixers = [_AtomMixer(part.atom_mixer, sizes) for part in (encoder, decoder)]
    copy = sum(mixer.copy for mixer in mixers) + 2 * _matrices(conditioning.linear_noise)
    of_atoms = (encoder.linear_r, encoder.linear_token, decoder.linear_r_update)
    copy += 2 * sizes.n_atom * _matrices(*of_atoms)
    copy += 2 * n * _matrices(conditioning.single_transitions, module.linear_s, decoder.linear_a)
    copy += sum(diffusion_block(block, n) for block in module.diffusion_transformer.blocks)
    return sum(mixer.call for mixer in mixers), copy


def diffusion_block(block: Any, n: int) -> int:
    """Of one block of the diffusion transformer, for a copy; its pair bias is made before."""
    attention = block.attention_pair_bias
    matrices = _matrices(block) - _matrices(attention.linear_z)
    return 2 * n * matrices + 4 * n * n * attention.linear_q.out_features


def _confidence(head: ConfidenceHead, sizes: Sizes) -> int:
    n = sizes.n_token
    pairs = _matrices(head.linear_distance, head.linear_pae, head.linear_pde)
    single = _matrices(head.linear_s_inputs_i, head.linear_s_inputs_j)
    single += head.weight_plddt.numel() + head.weight_resolved.numel()
    blocks: Any = head.pairformer.blocks
    return 2 * n * n * pairs + 2 * n * single + sum(pairformer_block(b, n) for b in blocks)
