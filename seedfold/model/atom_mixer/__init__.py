"""The table of atom mixers; `base` says what a mixer is."""

from seedfold.config import Variants
from seedfold.model.atom_mixer.base import AtomContext, AtomMixer
from seedfold.model.atom_mixer.local_vectors import LocalVectors
from seedfold.model.atom_mixer.local_window import LocalWindow

ATOM_MIXERS = Variants(local_window=LocalWindow, local_vectors=LocalVectors)

__all__ = ["ATOM_MIXERS", "AtomContext", "AtomMixer", "LocalVectors", "LocalWindow"]
