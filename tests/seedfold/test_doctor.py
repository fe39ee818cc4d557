"""The page that goes with a bug report."""

import platform
from importlib import metadata

import torch

from seedfold import __version__, doctor
from seedfold.checkpoint import CheckpointInfo, save_checkpoint
from seedfold.doctor import report
from seedfold.kernels import WITH_KERNELS, transition
from seedfold.models import UNTRAINED_NANO, load_model


def test_the_page_names_what_matters():
    page = report()
    assert __version__ in page and platform.python_version() in page
    assert torch.__version__ in page and metadata.version("gemmi") in page
    assert "nano        bundled, " in page
    assert ("cuda        none" in page) == (torch.cuda.device_count() == 0)


def test_the_bundled_weights_are_described(monkeypatch, tmp_path):
    path = tmp_path / "nano.safetensors"
    monkeypatch.setattr(doctor, "BUNDLED_FILE", path)
    assert "bundled, UNTRAINED" in report()
    network = load_model(UNTRAINED_NANO).network
    info = CheckpointInfo(name="nano", config=network.config, notice="demonstration weights; rough")
    save_checkpoint(path, network.state_dict(), info)
    assert "bundled, demonstration weights; rough" in report()
    path.write_bytes(b"damaged")
    assert "bundled, but damaged" in report()


def test_kernels_are_reported_one_by_one(monkeypatch):
    """With a GPU in their place: which operation is in trouble, and why."""
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "unavailable", lambda device: "")
    monkeypatch.setattr(
        doctor, "trouble", lambda op, device: "does not compile" if op is transition else ""
    )
    first, *rest = doctor._kernels()
    n = len(WITH_KERNELS)
    assert first == f"triton      {n - 1} of {n} operations agree with PyTorch"
    assert rest == ["transition: plain PyTorch instead: does not compile"]
    monkeypatch.setattr(doctor, "unavailable", lambda device: "triton is not installed")
    assert doctor._kernels() == [
        "triton      not used, plain PyTorch instead: triton is not installed"
    ]


def test_without_a_gpu_plain_pytorch_is_no_trouble():
    if not torch.cuda.is_available():
        assert "plain PyTorch here" in report()
