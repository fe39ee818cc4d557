from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
import torch
from torch import nn

from seedfold.data_pipeline.features import collate
from seedfold.model.atom_mixer import ATOM_MIXERS
from seedfold.model.embedding import InputFeatureEmbedder


def test_what_follows_the_atoms(small_network, small_example):
    """s_inputs = [atoms, one-hot class, profile, deletion mean], in this order (Algorithm 2)."""
    network = small_network()
    with torch.no_grad():
        s_inputs = network.input_embedder(collate([small_example]))[0]
    tail = s_inputs[:, network.config.c_token_input :]
    assert torch.equal(tail[:, :32].argmax(-1), small_example.restype)
    assert torch.equal(tail[:, 32:64], small_example.profile)
    assert torch.equal(tail[:, 64], small_example.deletion_mean)


class Magnets(nn.Module):
    needs_positions: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        kind: Literal["magnets"] = "magnets"

    def __init__(self, config, c_atom, c_atompair, c_z, n_blocks, follows=False):
        super().__init__()


def test_a_mixer_that_needs_coordinates_is_refused(monkeypatch):
    monkeypatch.setitem(ATOM_MIXERS, "magnets", Magnets)
    config = InputFeatureEmbedder.Config(atom_mixer=Magnets.Config())
    with pytest.raises(ValueError, match="'magnets' needs coordinates"):
        InputFeatureEmbedder(config, 8, 4, 8, 0)
