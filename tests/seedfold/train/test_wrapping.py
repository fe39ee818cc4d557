import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from seedfold.model.seedfold import SeedFold
from seedfold.train.data import Batch, Examples
from seedfold.train.module import FoldingModule
from seedfold.train.wrapping import blocks, checkpoint_activations


@pytest.fixture
def step(make_config):
    """A module and its batch; the network has every kind of block, and dropout."""
    config = make_config(stage={"n_cycles": 1})
    batch = Batch.of([Examples(config.data, seed=3)[(0, 0)]])
    torch.manual_seed(0)
    module = FoldingModule(config.model, config.stage, config.optim).train()
    with torch.no_grad():
        for weight in module.network.parameters():
            if not weight.any():
                weight.normal_(std=0.1)
    return module, batch


def loss_and_gradients(module, batch):
    module.zero_grad()
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in module.network.named_parameters()}


def kept_bytes(module, batch) -> int:
    """Bytes of the different storages that autograd keeps between forward and backward."""
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        module.training_step(batch, 0)
    return sum(size for pointer, size in sizes.items() if pointer not in weights)


def test_every_stack_has_its_blocks(step):
    network: SeedFold = step[0].network
    c = network.config
    n_atom = c.embedding.n_blocks + c.diffusion.n_encoder_blocks + c.diffusion.n_decoder_blocks
    expected = {
        "MSABlock": c.trunk.msa.n_blocks,
        "PairBlock": c.trunk.template.n_blocks,
        "PairformerBlock": c.trunk.pairformer.n_blocks + c.confidence.pairformer.n_blocks,
        "DiffusionTransformerBlock": c.diffusion.transformer.n_blocks,
        "AtomTransformerBlock": n_atom,
        # Those of the structure module's conditioning, of pairs and of tokens.
        "Transition": 2 * c.diffusion.conditioning.n_transitions,
    }
    found = [type(block).__name__ for block in blocks(network)]
    assert {name: found.count(name) for name in expected} == expected
    assert len(found) == sum(expected.values())


def test_checkpointing_changes_memory_and_nothing_else(step):
    """Same loss and gradients to the last bit, dropout included; same names; less is kept."""
    module, batch = step
    assert module.network.config.trunk.pairformer.pair.dropout > 0
    names, dtypes = zip(*((n, t.dtype) for n, t in module.state_dict().items()), strict=True)
    loss, gradients = loss_and_gradients(module, batch)
    kept = kept_bytes(module, batch)
    checkpoint_activations(module.network)
    again, same = loss_and_gradients(module, batch)
    assert torch.equal(loss, again)
    for name, gradient in gradients.items():
        other = same[name]
        assert (gradient is None) == (other is None), name
        assert gradient is None or torch.equal(gradient, other), name
    assert kept_bytes(module, batch) < 0.7 * kept
    assert tuple(module.state_dict()) == names
    assert tuple(t.dtype for t in module.state_dict().values()) == dtypes


def test_checkpointing_leaves_prediction_alone(step):
    module, batch = step
    f = dataclasses.replace(batch.f, labels=None)
    module.network.eval()
    with torch.no_grad():
        before = module.network.embed(f, 1, torch.Generator().manual_seed(1))
        checkpoint_activations(module.network)
        after = module.network.embed(f, 1, torch.Generator().manual_seed(1))
    assert torch.equal(before.z, after.z) and torch.equal(before.s, after.s)


COMPILED = """
import torch
from seedfold.model.pairformer import PairformerStack
from seedfold.train.wrapping import checkpoint_activations, compile_blocks

torch.manual_seed(0)
stack = PairformerStack(PairformerStack.Config(n_blocks=3, n_heads=4), 32, 32)
with torch.no_grad():
    for weight in stack.parameters():
        weight.normal_(std=0.1)
names = list(stack.state_dict())
s, z, mask = torch.randn(1, 6, 32), torch.randn(1, 6, 6, 32), torch.ones(1, 6, dtype=torch.bool)

def result():
    torch.manual_seed(1)  # Of dropout.
    loss = sum(x.square().mean() for x in stack(s, z, mask))
    return [loss, *torch.autograd.grad(loss, list(stack.parameters()))]

plain = result()
compile_blocks(stack, backend="eager")
checkpoint_activations(stack)
torch.testing.assert_close(result(), plain, rtol=1e-5, atol=1e-6)
assert list(stack.state_dict()) == names
print(torch._dynamo.utils.counters["stats"]["unique_graphs"], "graphs")
"""


def test_compiled_blocks_compute_the_same():
    """Both wrappers at once; the compiler makes its graphs, one for all blocks, no machine code.

    In a process of its own, since it cannot read the checks of shapes that tests add.
    """
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) < 3
