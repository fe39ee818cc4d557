import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seedfold.kernels import memory_budget
from seedfold.model.pairformer import DropoutRowwise, PairBlock, PairformerStack
from seedfold.model.triangle import TRIANGLE_ATTENTIONS


def stack(c_s=16, c_z=32, **options):
    torch.manual_seed(0)
    config = PairformerStack.Config(n_blocks=2, n_heads=2, **options)
    module = PairformerStack(config, c_s, c_z).double().eval()
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def inputs(n=6, c_s=16, c_z=32):
    generator = torch.Generator().manual_seed(1)
    s = torch.randn(1, n, c_s, generator=generator, dtype=torch.float64)
    z = torch.randn(1, n, n, c_z, generator=generator, dtype=torch.float64)
    return s, z, torch.ones(1, n, dtype=torch.bool)


@pytest.mark.parametrize(
    ("c_z", "millions"), [(128, 3.071), (256, 4.749), (384, 7.544), (512, 11.454)]
)
def test_parameters_of_a_block(c_z, millions):
    """Counts from the closed formulas that reproduce Protenix's published totals (c_s 384)."""
    with torch.device("meta"):
        module = PairformerStack(PairformerStack.Config(n_blocks=1), 384, c_z)
    count = sum(p.numel() for p in module.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=5.1e-4)


@pytest.mark.parametrize("kind", list(TRIANGLE_ATTENTIONS))
def test_padding_changes_nothing(kind):
    module = stack(pair=PairBlock.Config(triangle_attention=TRIANGLE_ATTENTIONS[kind].Config()))
    s, z, mask = inputs()
    expected = module(s, z, mask)
    padded_s, padded_z = (
        torch.full((1, 9, 16), 2.0).double(),
        torch.full((1, 9, 9, 32), 2.0).double(),
    )
    padded_s[:, :6], padded_z[:, :6, :6] = s, z
    found = module(padded_s, padded_z, torch.arange(9)[None] < 6)
    torch.testing.assert_close(found[0][:, :6], expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1][:, :6, :6], expected[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("budget", [1, 10**9])
def test_without_autograd_the_same_and_the_input_untouched(budget):
    module = stack()
    s, z, mask = inputs()
    expected = module(s, z, mask)
    before = s.clone(), z.clone()
    with torch.no_grad(), memory_budget(budget):
        found = module(s, z, mask)
    assert torch.equal(s, before[0]) and torch.equal(z, before[1])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_the_ending_node_mirrors_the_starting_node():
    """A block whose ending node alone works does to z what the starting one does to z^T."""
    torch.manual_seed(0)
    block = PairBlock(PairBlock.Config(), 32).double().eval()
    z = torch.randn(1, 5, 5, 32, dtype=torch.float64)
    mask = torch.ones(1, 5, 5, dtype=torch.bool)
    ending = block.triangle_attention_ending
    torch.nn.init.normal_(ending.linear_out.weight)
    expected = z.transpose(1, 2) + ending(z.transpose(1, 2), mask)
    torch.testing.assert_close(block(z, mask).transpose(1, 2), expected)


def test_dropout_is_shared_along_rows_and_keeps_the_mean():
    torch.manual_seed(0)
    dropout = DropoutRowwise(0.25).train()
    x = dropout(torch.zeros(1, 4, 500, 30), torch.ones(1, 4, 500, 30))
    assert torch.equal(x, x[:, :1].expand_as(x))
    assert x.unique().tolist() == pytest.approx([0, 4 / 3])
    assert x.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (x[0, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(dropout.eval()(x, x), 2 * x)


def test_dropout_of_the_ending_node_is_column_wise():
    """What is dropped there is the same for a whole column of z, channel by channel."""
    torch.manual_seed(0)
    block = PairBlock(PairBlock.Config(dropout=0.5), 32)
    for attention in (block.triangle_attention_starting, block.triangle_attention_ending):
        torch.nn.init.normal_(attention.linear_out.weight)
    for active, axis in (("starting", 1), ("ending", 2)):
        other = "ending" if active == "starting" else "starting"
        torch.nn.init.zeros_(getattr(block, f"triangle_attention_{other}").linear_out.weight)
        torch.nn.init.normal_(getattr(block, f"triangle_attention_{active}").linear_out.weight)
        z = torch.randn(1, 6, 6, 32)
        dropped = block.train()(z, torch.ones(1, 6, 6, dtype=torch.bool)) == z
        assert dropped.any() and not dropped.all()
        assert torch.equal(dropped, dropped.narrow(axis, 0, 1).expand_as(dropped))


class PeakBytes(TorchDispatchMode):
    """Counts the storages that are alive, but for those of some tensors."""

    def __init__(self, *others: torch.Tensor):
        super().__init__()
        self.others = {tensor.untyped_storage()._cdata for tensor in others}
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive | dict.fromkeys(self.others):
                    self.alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


@pytest.mark.parametrize("kind", list(TRIANGLE_ATTENTIONS))
def test_peak_memory_is_under_four_pair_tensors(kind):
    """The tensors that a block makes, its result included, beside small pieces."""
    config = PairBlock.Config(triangle_attention=TRIANGLE_ATTENTIONS[kind].Config())
    module = PairformerStack(PairformerStack.Config(n_blocks=1, pair=config), 32, 32).eval()
    n = 48
    s, z, mask = torch.randn(1, n, 32), torch.randn(1, n, n, 32), torch.ones(1, n, dtype=torch.bool)
    gc.collect()
    with torch.no_grad(), memory_budget(n * n * 4), PeakBytes(z, *module.parameters()) as counter:
        module(s, z, mask)
    assert 2 * z.nbytes < counter.peak < 4 * z.nbytes
