"""lDDT by kind against `seedfold.evaluate`, which its own tests compare with OpenStructure."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.examples.symmetries import symmetries
from seedfold.data_pipeline.examples.training_features import training_features
from seedfold.data_pipeline.mmcif import read_assembly, read_structure
from seedfold.data_pipeline.output import Metadata, write_mmcif
from seedfold.data_pipeline.prepare.build import components_of, example_of
from seedfold.data_pipeline.prepare.cleaning import clean
from seedfold.data_pipeline.prepare.complete import complete
from seedfold.data_pipeline.query import Document
from seedfold.evaluate.lddt import lddt
from seedfold.evaluate.mapping import map_chains
from seedfold.loss.symmetry import assign
from seedfold.train.accuracy import lddt_by_kind, pair_counts

STRUCTURES = Path(__file__).resolve().parents[3] / "examples" / "structures"
MONOMER, COMPLEX = "6yqw", "7w06"


class Case:
    """A structure of the PDB, and its truth as training has it."""

    def __init__(self, name: str):
        self.name, path = name, STRUCTURES / f"{name}.cif.gz"
        raw = read_assembly(Document(name=name, path=path))
        self.structure = complete(clean(raw, crystal=True)[0])
        self.example, components = example_of(self.structure), components_of(self.structure)
        self.f = training_features(self.example, components, seed=0)
        self.symmetries = symmetries(self.example, components)

    @property
    def kinds(self) -> list[str]:
        return [chain.kind for chain in self.example.chains]

    def predicted(self, noise: float) -> torch.Tensor:
        """Every atom off by some of it, those that are not resolved at the origin."""
        rng = np.random.default_rng(0)
        moved = self.example.x + rng.normal(0, noise, self.example.x.shape)
        return torch.from_numpy(moved.round(3).astype(np.float32))

    def evaluated(self, x: torch.Tensor, folder: Path):
        """What `seedfold.evaluate` says of the same prediction in an mmCIF file."""
        path = folder / "model.cif"
        metadata = Metadata(version="0", model="a test")
        write_mmcif(self.structure, path, coord=x.numpy(), name="model", metadata=metadata)
        model = read_structure(Document(name="model", path=path))
        known = np.isfinite(np.asarray(self.structure.atoms.coord)).all(axis=-1)
        reference = dataclasses.replace(self.structure, atoms=self.structure.atoms[known])
        return lddt(model, reference, map_chains(model, reference))


@pytest.fixture(scope="module", params=[MONOMER, COMPLEX])
def case(request) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("noise", [0.2, 1.5])
def test_it_is_that_of_the_evaluation(case, noise, tmp_path):
    """To the last distance for good predictions; of bad ones names of atoms are chosen otherwise.

    Ligands are left out here, as the evaluation leaves them.
    """
    x = case.predicted(noise)
    expected = case.evaluated(x, tmp_path)
    labels = assign(x, case.f.labels, case.symmetries)
    counted, kept = pair_counts(x, labels, case.f)
    polymer = torch.tensor([kind != "ligand" for kind in case.kinds])
    both = polymer[:, None] & polymer[None]
    assert float(counted[both].sum()) == 2 * expected.n_distances
    atol = 1e-5 if noise < 1 else 2e-3
    score = float(kept[both].sum() / counted[both].sum())
    assert score == pytest.approx(expected.score, abs=atol) and 0.3 < score < 0.99
    ids = [chain.id for chain in case.example.chains]
    pairs = {(c, c): value for c, value in expected.chains.items()} | dict(expected.interfaces)
    assert len(pairs) >= (3 if case.name == COMPLEX else 1)
    for (one, other), value in pairs.items():
        at = ids.index(one), ids.index(other)
        assert float(kept[at] / counted[at]) == pytest.approx(value, abs=atol)


@pytest.mark.parametrize("case", [COMPLEX], indirect=True)
def test_exchanged_copies_are_found(case):
    """The two protein chains each at the place of the other, their ligands where they were."""
    x, f = case.predicted(0.2), case.f
    chain = f.asym_id[f.atom_to_token.long()]
    (one, other) = (n for n, kind in enumerate(case.kinds) if kind == "protein")
    first, second = (chain == one).nonzero()[:, 0], (chain == other).nonzero()[:, 0]
    swapped = x.clone()
    swapped[first], swapped[second] = x[second], x[first]
    as_is, found = (lddt_by_kind(y, assign(y, f.labels, case.symmetries), f) for y in (x, swapped))
    assert found == pytest.approx(as_is, abs=1e-6) and found["complex"] > 0.8
    assert lddt_by_kind(swapped, f.labels, f)["protein_ligand"] < 0.3


def by_hand(case: Case, x: torch.Tensor, atoms: np.ndarray, others: np.ndarray) -> float:
    """lDDT of the distances from some atoms to others, in fp64, from the definition."""
    f, token = case.f, case.f.atom_to_token.numpy()
    known = f.labels.resolved.numpy()
    y, y_gt = x.numpy().astype(np.float64), f.labels.x.numpy().astype(np.float64)
    residue = f.asym_id.numpy()[token] * 10_000 + f.residue_index.numpy()[token]
    ligand = f.kind.numpy()[token] == 3
    n = kept = 0.0
    for i in np.flatnonzero(atoms & known):
        counts = others & known & ((residue != residue[i]) | ligand)
        counts[i] = False
        d_gt = np.linalg.norm(y_gt - y_gt[i], axis=1)
        counts &= d_gt <= 15
        error = np.abs(np.linalg.norm(y - y[i], axis=1) - d_gt)[counts]
        n += 4 * len(error)
        kept += sum((error <= t).sum() for t in (0.5, 1, 2, 4))
    return kept / n


def test_kinds_by_hand(case):
    x, f = case.predicted(1.0), case.f
    found = lddt_by_kind(x, f.labels, f)
    token = f.atom_to_token.numpy()
    chain, kind = f.asym_id.numpy()[token], f.kind.numpy()[token]
    protein, ligand = kind == 0, kind == 3
    assert found["protein_ligand"] == pytest.approx(by_hand(case, x, ligand, protein), abs=1e-6)
    expected = {"complex", "protein", "ligand", "protein_ligand"}
    if case.name == MONOMER:
        assert found["ligand"] == pytest.approx(by_hand(case, x, ligand, ligand), abs=1e-6)
    else:
        one, other = chain == 0, protein & (chain != 0)
        expected.add("protein_protein")
        assert found["protein_protein"] == pytest.approx(by_hand(case, x, one, other), abs=1e-6)
    assert found.keys() == expected


def test_a_prediction_that_is_not_finite_keeps_nothing(case):
    x = case.predicted(0.2)
    assert lddt_by_kind(x * torch.nan, case.f.labels, case.f)["complex"] == 0
    assert lddt_by_kind(case.f.labels.x, case.f.labels, case.f)["complex"] == 1


def test_what_is_not_known_does_not_count(case):
    f, x = case.f, case.predicted(0.5)
    unknown = torch.zeros_like(f.labels.weight)
    labels = dataclasses.replace(f.labels, weight=unknown)
    assert lddt_by_kind(x, labels, f) == {}
