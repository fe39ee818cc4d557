import dataclasses

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.alignments import read_msa
from seedfold.data_pipeline.examples.example import (
    pack_components,
    pack_example,
    unpack_components,
    unpack_example,
)
from seedfold.data_pipeline.examples.training_features import (
    crop_tokens,
    label_weights,
    training_features,
)
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.features import Features, collate
from seedfold.data_pipeline.featurize import featurize
from seedfold.data_pipeline.molecules import CONFORMER_SEED
from seedfold.data_pipeline.msa import ChainMsa
from seedfold.data_pipeline.prepare.build import components_of, example_of
from seedfold.data_pipeline.query import AtomRef, Document, Entity, Query
from seedfold.data_pipeline.structure import Structure, build_structure

SEQUENCE = "GCASKCDEFR"
A3M = f">q\n{SEQUENCE}\n>x OX=9606\nGCAaSKCDEF-\n>y OX=10090\n-CASKCDEFR\n"


@pytest.fixture(scope="module")
def structure() -> Structure:
    entities = (
        Entity(
            kind="protein",
            chains=("A", "B"),
            where="",
            sequence=SEQUENCE,
            modifications=((4, "SEP"),),
        ),
        Entity(kind="dna", chains=("C",), where="", sequence="ACGT", cyclic=True),
        Entity(kind="ligand", chains=("D",), where="", ccd=("ATP",)),
        Entity(kind="ligand", chains=("E",), where="", ccd=("NAG", "NAG")),
    )
    bonds = (
        (AtomRef(chain="A", position=2, atom="SG"), AtomRef(chain="A", position=6, atom="SG")),
        (AtomRef(chain="E", position=1, atom="O4"), AtomRef(chain="E", position=2, atom="C1")),
    )
    made = build_structure(Query(name="1abc", entities=entities, bonds=bonds, where="q"))
    rng = np.random.default_rng(0)
    coord = rng.normal(0, 20, (len(made.atoms), 3)).round(3)
    coord[rng.random(len(coord)) < 0.3] = np.nan
    made.atoms.coord = coord.astype(np.float32)
    return made


@pytest.fixture(scope="module")
def stored(structure):
    example = unpack_example(pack_example(example_of(structure)))
    return example, unpack_components(pack_components(components_of(structure).values()))


@pytest.fixture(scope="module")
def msas(structure):
    msa = read_msa(Document(name="q.a3m", text=A3M), SEQUENCE, "protein")
    return {0: ChainMsa(unpaired=msa)}


def check_equal(found: Features, expected: Features) -> None:
    for name in Features.axes():
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


@pytest.mark.parametrize("conformers", ["apart", "together", "still"])
def test_features_are_those_of_prediction(structure, stored, msas, conformers):
    options = FeatureOptions(n_msa_rows=3, n_templates=2, conformers=conformers)
    found = training_features(*stored, msas=msas, seed=CONFORMER_SEED, options=options)
    expected = featurize(structure, msas=msas, seed=CONFORMER_SEED, options=options)
    check_equal(found, expected)


def test_still_conformers_are_the_same_whatever_the_seed(structure, stored):
    options = FeatureOptions(conformers="still")
    found = training_features(*stored, seed=1, options=options)
    check_equal(found, featurize(structure, seed=2, options=options))


def test_features_without_terminal_atoms(structure, stored):
    query = Query(
        name="q",
        entities=(Entity(kind="rna", chains=("A",), where="", sequence="GAU"),),
        where="q",
    )
    bare = build_structure(query, terminal_atoms=False)
    options = FeatureOptions(terminal_atoms=False)
    found = training_features(
        example_of(bare), components_of(bare), seed=CONFORMER_SEED, options=options
    )
    check_equal(found, featurize(bare, seed=CONFORMER_SEED, options=options))


def test_a_crop_is_a_part_of_the_whole(stored, msas):
    """Every feature of the crop, by brute force from that of the whole example."""
    example, components = stored
    whole = training_features(example, components, msas=msas, seed=3)
    rng = np.random.default_rng(2)
    chosen = np.flatnonzero(rng.random(example.n_token) < 0.6)
    part = training_features(example, components, tokens=chosen, msas=msas, seed=3)
    atoms = np.flatnonzero(np.isin(whole.atom_to_token, chosen))
    for name, axes in Features.axes().items():
        if name in ("ref_pos", "ref_space_uid"):
            continue
        expected = getattr(whole, name)
        for axis, of in enumerate(axes):
            if of in ("N_token", "N_atom"):
                index = torch.from_numpy(chosen if of == "N_token" else atoms)
                expected = expected.index_select(axis, index)
        found = getattr(part, name)
        if name in ("centre_atom", "representative_atom"):
            found = torch.from_numpy(atoms)[found]
        elif name == "atom_to_token":
            found = torch.from_numpy(chosen)[found]
        elif name == "frame_atoms":
            found, expected = torch.from_numpy(atoms)[found][part.frame_mask], None
            rows = torch.from_numpy(chosen)[part.frame_mask]
            expected = whole.frame_atoms[rows]
        elif name == "frame_mask":
            inside = np.isin(whole.frame_atoms[chosen], atoms).all(1)
            expected = expected & torch.from_numpy(inside)
        assert torch.equal(found, expected), name
    assert part.labels is not None and whole.labels is not None
    assert torch.equal(part.labels.x, whole.labels.x[atoms])
    assert torch.equal(part.labels.resolved, whole.labels.resolved[atoms])


def test_conformers_of_a_crop_keep_their_shape_and_residues_apart(stored):
    example, components = stored
    chosen = np.arange(3, 40)
    whole = training_features(example, components, seed=3)
    part = training_features(example, components, tokens=chosen, seed=3)
    atoms = np.flatnonzero(np.isin(whole.atom_to_token, chosen))
    for uid in part.ref_space_uid.unique():
        at = part.ref_space_uid == uid
        same = whole.ref_space_uid[atoms][at]
        assert len(same.unique()) == 1
        expected = torch.cdist(whole.ref_pos[atoms][at], whole.ref_pos[atoms][at])
        found = torch.cdist(part.ref_pos[at], part.ref_pos[at])
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_labels_of_predictions_weigh_by_confidence(stored):
    example, components = stored
    predicted = dataclasses.replace(example, plddt=np.full(example.n_token, 85.0, np.float32))
    f = training_features(predicted, components, seed=0)
    assert f.labels is not None
    torch.testing.assert_close(f.labels.weight, torch.full_like(f.labels.weight, 0.85))
    assert float(f.labels.resolution) == 0.0
    sharp = dataclasses.replace(example, resolution=1.5)
    labels = training_features(sharp, components, seed=0).labels
    assert labels is not None and float(labels.resolution) == 1.5
    assert (labels.weight == 1).all()


def test_examples_can_be_batched(stored):
    example, components = stored
    parts = [training_features(example, components, tokens=np.arange(n), seed=n) for n in (5, 30)]
    batch = collate(parts)
    assert batch.restype.shape == (2, 30)
    assert batch.labels is not None and batch.labels.resolution.shape == (2,)


def test_a_missing_component_is_named(stored):
    example, components = stored
    with pytest.raises(KeyError, match="ATP"):
        training_features(example, {c: v for c, v in components.items() if c != "ATP"}, seed=0)


def test_frames_that_lose_an_atom_are_masked(stored):
    example, _ = stored
    atp = np.flatnonzero(example.tokens.asym_id == 3)
    part, atoms = crop_tokens(example.tokens, atp[:2])
    assert len(atoms) == 2 and not part.frame_mask.any()
    assert (part.frame_atoms == part.first_atom[:, None]).all()


def test_label_weights():
    plddt = np.array([0.0, 49.9, 50, 69.9, 70, 95, 100, np.nan])
    np.testing.assert_allclose(label_weights(plddt), [0, 0, 0, 0, 0.7, 0.95, 1, 0])
    np.testing.assert_allclose(
        label_weights(plddt, threshold=50.0, scaled=False), [0, 0, 1, 1, 1, 1, 1, 0]
    )
