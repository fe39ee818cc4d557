"""A store of its own for every test, and a checkpoint laid out as Protenix publishes it."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

SMALL = {
    "c_z": 32,
    "c_s": 64,
    "c_m": 24,
    "c_token_input": 48,
    "c_atom": 32,
    "c_atompair": 16,
    "c_token_diffusion": 96,
    "c_s_inputs": 113,
    "pairformer_blocks": 1,
    "pairformer_heads": 16,
    "msa_blocks": 1,
    "template_blocks": 1,
    "template_c": 16,
    "hidden_scale_up": False,
    "n_cycles": 1,
    "diffusion_transformer_blocks": 1,
    "diffusion_transformer_heads": 16,
    "atom_encoder_blocks": 1,
    "atom_decoder_blocks": 1,
    "atom_heads": 4,
    "input_atom_encoder_blocks": 1,
    "confidence_blocks": 1,
    "max_atoms_per_token": 24,
}
"""Protenix's own configuration, one block of everything."""


@pytest.fixture(scope="session")
def web() -> ModuleType:
    """`web_server.py`, which lies beside this file."""
    path = Path(__file__).with_name("web_server.py")
    spec = importlib.util.spec_from_file_location("web_server", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store_home(tmp_path, monkeypatch) -> Path:
    """The folder of the store, in the test's own folder."""
    monkeypatch.setenv("SEEDFOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    for variable in ("SEEDFOLD_MIRROR", "SEEDFOLD_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home" / "weights"


@pytest.fixture(scope="session")
def donor_state() -> dict[str, torch.Tensor]:
    """Random numbers in the layout of Protenix's own classes for `SMALL`.

    `protenix_layout.txt` has the names and shapes of a state dict that they wrote.
    """
    generator = torch.Generator().manual_seed(3)
    state = {}
    for line in Path(__file__).with_name("protenix_layout.txt").read_text().splitlines():
        name, _, shape = line.partition(" ")
        size = [int(n) for n in shape.split("x") if n]
        state[name] = 0.05 * torch.randn(size, generator=generator)
    lower = torch.linspace(3.25, 50.75, 39)
    state["confidence_head.lower_bins"] = lower
    state["confidence_head.upper_bins"] = torch.cat([lower[1:], torch.tensor([1e6])])
    return state


@pytest.fixture
def published(donor_state, tmp_path) -> Path:
    """The file as Protenix's trainer saves it after training on several devices."""
    path = tmp_path / "published.pt"
    model = {f"module.{name}": tensor for name, tensor in donor_state.items()}
    rest = {"optimizer": {"state": {}, "param_groups": []}, "scheduler": None, "step": 7}
    torch.save({"model": model, **rest}, path)
    return path


@pytest.fixture
def small_json(tmp_path) -> Path:
    """Its configuration for `--like`."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    return path
