import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seedfold.model.atom_mixer.local_vectors import LocalVectors, VectorAttention
from seedfold.model.atom_mixer.local_window import LocalWindow, WindowAttention
from seedfold.model.attention import AttentionPairBias
from seedfold.model.confidence import DistogramHead
from seedfold.model.msa import MSAPairWeightedAveraging
from seedfold.model.triangle import (
    AdditiveTriangleAttention,
    GatedTriangleAttention,
    TriangleAttention,
)
from seedfold.train import instruments
from seedfold.train.data import Batch, DataConfig, Examples
from seedfold.train.instruments import NOTHING, STACKS, Maxima, gradient_norms, stack_of
from seedfold.train.module import FoldingModule

F64 = torch.float64


@pytest.fixture
def module(make_config):
    torch.manual_seed(0)
    config = make_config(stage={"rollout_steps": 2})
    made = FoldingModule(config.model, config.stage, config.optim)
    with torch.no_grad():
        for weight in made.network.parameters():
            # Gates and outputs that begin at 0 would hide what is behind them.
            weight.add_(0.05 * torch.randn_like(weight))
    return made.train()


@pytest.fixture(scope="module")
def batch(source):
    examples = Examples(DataConfig(sources=(source,), n_token=16), 11)
    return Batch.of([examples[(0, 0)]])


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    module = module.to(F64)
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=generator, dtype=F64)
    return module


def draw(*shape, seed: int = 1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def largest_logit(module: nn.Module, *args) -> float:
    """As `Maxima` sees it, with the module in the place of the distogram head."""
    network = nn.ModuleDict({"distogram_head": nn.ModuleList([module])})
    maxima = Maxima(network)
    maxima.start()
    module(*args)
    return float(maxima.stop()[1, list(STACKS).index("distogram")])


@pytest.fixture
def scores(monkeypatch):
    """The logits of torch's own attention, of every call."""
    found, attention = [], F.scaled_dot_product_attention

    def spy(q, k, v, attn_mask, scale=None):
        factor = q.shape[-1] ** -0.5 if scale is None else scale
        found.append((factor * q @ k.mT + attn_mask).detach())
        return attention(q, k, v, attn_mask=attn_mask, scale=scale)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return found


def test_stacks_hold_all_weights_and_norms_are_those_of_double_precision(module, batch):
    module.training_step(batch, 0).backward()
    network = module.network
    found = dict(zip(STACKS, gradient_norms(network).tolist(), strict=True))
    parts = {
        "input_embedder": network.input_embedder,
        "template": network.trunk.template_embedder,
        "msa": network.trunk.msa_module,
        "pairformer": network.trunk.pairformer,
        "atom_encoder": network.diffusion_module.atom_attention_encoder,
        "atom_decoder": network.diffusion_module.atom_attention_decoder,
        "conditioning": network.diffusion_module.diffusion_conditioning,
        "confidence": network.confidence_head,
        "distogram": network.distogram_head,
    }
    squares = {stack: square(part) for stack, part in parts.items()}
    for stack, value in squares.items():
        assert value > 0 and found[stack] == pytest.approx(value**0.5, rel=1e-5), stack
    rest = found["recycling"] ** 2 + found["diffusion_transformer"] ** 2
    assert square(network) == pytest.approx(sum(squares.values()) + rest, rel=1e-5)
    network.trunk.template_embedder.zero_grad()
    assert gradient_norms(network)[list(STACKS).index("template")] == NOTHING


def square(part: nn.Module) -> float:
    gradients = [p.grad.double() for p in part.parameters() if p.grad is not None]
    return sum(float((g**2).sum()) for g in gradients)


def test_stacks_by_name(module):
    assert stack_of("trunk.pairformer.blocks.3.pair_block") == "pairformer"
    assert stack_of("trunk.layer_norm_z.weight") == "recycling"
    assert stack_of("diffusion_module.linear_s.weight") == "diffusion_transformer"
    assert stack_of("trunk") is None and stack_of("diffusion_module") is None
    assert stack_of("pairformer_of_another.weight") is None
    assert {stack_of(name) for name, _ in module.network.named_parameters()} == set(STACKS)


def test_looking_changes_nothing(module, batch):
    """To the last bit, and nothing is left behind."""

    def step():
        module.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        weights = module.network.parameters()
        return [loss.detach(), *(w.grad.clone() for w in weights if w.grad is not None)]

    before, maxima = step(), Maxima(module.network)
    maxima.start()
    during = step()
    found = maxima.stop()
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.network.modules())
    assert (found[0] > 0).all()
    attentions = {"input_embedder", "template", "msa", "pairformer", "confidence"}
    attentions |= {"atom_encoder", "atom_decoder", "diffusion_transformer"}
    logits = found[1].tolist()
    assert {s for s, v in zip(STACKS, logits, strict=True) if v != NOTHING} == attentions


def test_what_explodes_is_named(module, batch):
    """One weight of the atom decoder a million times larger is seen there and not before it."""

    module.eval()

    def largest():
        maxima = Maxima(module.network)
        maxima.start()
        with torch.no_grad():
            module.outputs(batch)
        return dict(zip(STACKS, maxima.stop()[0].tolist(), strict=True))

    calm = largest()
    module.network.diffusion_module.atom_attention_decoder.linear_a.weight.data *= 1e6
    wild = largest()
    assert wild["atom_decoder"] > 1e4 * calm["atom_decoder"]
    for stack in ("input_embedder", "msa", "pairformer", "distogram"):
        assert wild[stack] == calm[stack]


def test_activations_by_hand():
    head = DistogramHead(4)
    head.linear.weight.data = draw(64, 4).float()
    z = draw(1, 3, 3, 4, seed=2).float()
    maxima = Maxima(nn.ModuleDict({"distogram_head": head}))
    maxima.start()
    for part in (z, 0.1 * z):
        head(part)
    logits = z.double() @ head.linear.weight.detach().double().T
    both = logits + logits.transpose(1, 2)
    expected = max(float(logits.abs().max()), float(both.abs().max()))
    found = maxima.stop()
    assert float(found[0, list(STACKS).index("distogram")]) == pytest.approx(expected, rel=1e-6)
    assert (found[1] == NOTHING).all()


@pytest.mark.parametrize("most", [2**24, 1])
@pytest.mark.parametrize("ending", [False, True])
def test_triangle_logits_are_those_of_the_attention(scores, monkeypatch, most, ending):
    monkeypatch.setattr(instruments, "_MOST_LOGITS", most)
    config = TriangleAttention.Config(c_head=4, ending_bias="original")
    module = drawn(TriangleAttention(config, 8, ending=ending))
    z, mask = draw(1, 7, 7, 8), torch.arange(7) < 5
    found = largest_logit(module, z, (mask[:, None] & mask)[None])
    real = scores[0][:5, :, :5]
    assert real[..., 5:].max() < -1e8
    assert found == pytest.approx(float(real.max()), rel=1e-6)


@pytest.mark.parametrize("kind", [GatedTriangleAttention, AdditiveTriangleAttention])
def test_linear_attentions_have_products_of_features(kind):
    module = drawn(kind(kind.Config(c_head=4), 8))
    z, mask = draw(1, 6, 6, 8), torch.arange(6) < 4
    found = largest_logit(module, z, (mask[:, None] & mask)[None])
    x = module.layer_norm(z)[0, :4, :4]
    linears = (module.linear_q, module.linear_k)
    q, k = (F.relu(linear(x)).unflatten(-1, (2, 4)).detach() for linear in linears)
    every = [q[i, j, h] @ k[i, m, h] for i, j, m, h in itertools.product(*map(range, (4, 4, 4, 2)))]
    assert found == pytest.approx(float(max(every)), rel=1e-6)


@pytest.mark.parametrize("conditioned", [False, True])
def test_token_logits_are_those_of_the_attention(scores, conditioned):
    module = drawn(AttentionPairBias(8, 4, 2, c_s=6 if conditioned else None))
    mask = torch.tensor([[True] * 4 + [False]])
    bias = module.pair_bias(draw(1, 5, 5, 4), mask)
    if conditioned:
        args = (draw(1, 3, 5, 8, seed=3), bias, draw(1, 3, 5, 6, seed=4))
    else:
        args = (draw(1, 5, 8, seed=3), bias)
    assert largest_logit(module, *args) == pytest.approx(float(scores[0].max()), rel=1e-6)


@pytest.mark.parametrize("kind", [LocalWindow, LocalVectors])
@pytest.mark.parametrize("key_adaln", ["separate", "chained", "shared"])
def test_window_logits_are_those_of_the_attention(scores, key_adaln, kind):
    """Ten atoms in windows of four: the last one is short. With vectors, all at one place."""
    config = kind.Config(n_heads=2, n_queries=4, n_keys=6, key_adaln=key_adaln)
    key_index = (4 * torch.arange(3)[:, None] - 1 + torch.arange(6)).clamp(0, 9)
    bias = draw(1, 2, 3, 4, 6)
    bias[:, :, 0, :, 0] = bias[:, :, 2, :, 3:] = -1e9
    bias[:, :, 2, 2:] = bias[:, :, 2, 1:2]
    a, c = draw(1, 2, 10, 8, seed=3), draw(1, 1, 10, 8, seed=4)
    if kind is LocalVectors:
        vectors = (draw(1, 2, 10, 3, 8, seed=5), torch.zeros(1, 2, 10, 3, dtype=F64))
        found = largest_logit(drawn(VectorAttention(config, 8, 3)), a, *vectors, c, bias, key_index)
    else:
        found = largest_logit(drawn(WindowAttention(config, 8, 3)), a, c, bias, key_index)
    real = scores[0].unflatten(1, (2, 3)).movedim(2, -3).flatten(-3, -2)[..., :10, :]
    assert found == pytest.approx(float(real.max()), rel=1e-6)


def test_averaging_has_the_logits_of_its_weights():
    module = drawn(MSAPairWeightedAveraging(6, 4, 2, 3))
    module.linear_z.weight.data = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, -2.0]], dtype=F64)
    module.layer_norm_z.weight.data.fill_(1.0)
    module.layer_norm_z.bias.data.zero_()
    z, mask = draw(1, 5, 5, 4), torch.arange(5) < 4
    found = largest_logit(module, draw(1, 2, 5, 6, seed=2), z, (mask[:, None] & mask)[None])
    real = z[0, :4, :4]
    centred = real - real.mean(-1, keepdim=True)
    normed = centred / ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert found == pytest.approx(float(torch.maximum(normed[..., 0], -2 * normed[..., 3]).max()))
