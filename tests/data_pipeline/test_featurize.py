import time
from typing import Any

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.chemistry import ATOMIC_NUMBER, atom_name_chars
from seedfold.data_pipeline.components import component
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.features import Features, collate
from seedfold.data_pipeline.featurize import featurize
from seedfold.data_pipeline.molecules import conformer
from seedfold.data_pipeline.query import AtomRef, Entity, Query
from seedfold.data_pipeline.structure import Structure, build_structure

CAFFEINE = "Cn1cnc2c1c(=O)n(C)c(=O)n2C"


def entity(kind: str, *chains: str, **source: Any) -> Entity:
    return Entity(kind=kind, chains=chains, where=chains[0], **source)  # type: ignore[arg-type]


def built(
    *entities: Entity, bonds: tuple[tuple[str, int, str, str, int, str], ...] = ()
) -> Structure:
    pairs = tuple(
        (AtomRef(chain=a, position=i, atom=x), AtomRef(chain=b, position=j, atom=y))
        for a, i, x, b, j, y in bonds
    )
    return build_structure(Query(name="q", entities=entities, where="q", bonds=pairs))


def same(a: Features, b: Features) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in Features.axes())


def bonded(f: Features) -> set[tuple[int, int]]:
    assert torch.equal(f.token_bonds, f.token_bonds.T)
    return {(i, j) for i, j in f.token_bonds.nonzero().tolist() if i < j}


def test_the_seed_decides_everything() -> None:
    structure = built(entity("protein", "A", sequence="GAS"), entity("ligand", "L", ccd=("NAG",)))
    first, again, other = (featurize(structure, seed=s) for s in (3, 3, 4))
    assert same(first, again)
    assert not torch.equal(first.ref_pos, other.ref_pos)
    assert torch.equal(first.restype, other.restype)


def test_reference_atoms_of_a_charged_ligand_with_two_letter_elements() -> None:
    structure = built(entity("ligand", "L", smiles="ClCC[N+](C)(C)[Si](C)(C)Br"))
    f = featurize(structure, seed=0)
    symbols = ["CL", "C", "C", "N", "C", "C", "SI", "C", "C", "BR"]
    assert f.ref_element.tolist() == [17, 6, 6, 7, 6, 6, 14, 6, 6, 35]
    assert [ATOMIC_NUMBER[s] for s in symbols] == f.ref_element.tolist()
    assert f.ref_charge.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    # "CL1 ": C L 1 and a blank, each less 32.
    assert f.ref_atom_name_chars[0].tolist() == [35, 44, 17, 0]
    assert atom_name_chars("CL1") == (35, 44, 17, 0)
    assert f.ref_mask.all()


def test_conformers_keep_their_shape_under_their_own_random_motion() -> None:
    structure = built(entity("protein", "A", sequence="AA"))
    f = featurize(structure, seed=1)
    x = f.ref_pos.numpy()
    uid = f.ref_space_uid.numpy()
    assert uid.tolist() == [0] * 5 + [1] * 6
    first, second = x[uid == 0], x[uid == 1][:5]
    distance = [np.linalg.norm(y[:, None] - y[None], axis=-1) for y in (first, second)]
    np.testing.assert_allclose(*distance, atol=1e-4)
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first.mean(axis=0)).max() <= 3**0.5
    part = component("ALA")
    rows = [part.index[n] for n in ("CA", "N", "C", "CB")]
    volumes = [np.linalg.det(y[[0, 2, 4]] - y[1]) for y in (first, second)]
    ideal = np.linalg.det(part.coord[rows[1:]] - part.coord[rows[0]])
    assert all(v * ideal > 0 for v in volumes), "L-alanine"


def test_conformers_can_be_moved_as_one() -> None:
    """All distances and the handedness are those between the conformers as they were made."""
    structure = built(
        entity("protein", "A", sequence="WAW"), entity("ligand", "X", "Y", ccd=("ZN",))
    )
    made = []
    for code, first in (("TRP", 1), ("ALA", 2), ("TRP", 3)):
        names = structure.atoms.atom_name[structure.atoms.res_id == first]
        polymer = structure.atoms.chain_id[structure.atoms.res_id == first] == "A"
        part = component(code)
        made.append(conformer(part, 1)[[part.index[n] for n in names[polymer]]])
    raw = np.concatenate([*made, np.zeros((2, 3))])
    options = FeatureOptions(conformers="together")
    x = featurize(structure, seed=1, options=options).ref_pos.numpy()
    distance = [np.linalg.norm(y[:, None] - y[None], axis=-1) for y in (x, raw)]
    np.testing.assert_allclose(*distance, atol=1e-4)
    volumes = [np.linalg.det(y[[0, 2, 4]] - y[1]) for y in (x, raw)]
    np.testing.assert_allclose(*volumes, atol=1e-3)
    assert np.abs(x - raw).max() > 0.5
    apart = featurize(structure, seed=1).ref_pos.numpy()
    assert np.abs(apart[-1] - apart[-2]).max() > 0.1


def test_slots_are_counted_without_terminal_atoms_where_there_are_none() -> None:
    asked = (entity("rna", "R", sequence="GU"), entity("protein", "A", sequence="AS"))
    query = Query(name="q", entities=asked, where="q")
    bare = build_structure(query, terminal_atoms=False)
    f = featurize(bare, seed=0, options=FeatureOptions(terminal_atoms=False))
    # 23 and 20 atoms, then 5 and 6: each token's own, one after the other.
    assert f.atom_slot.tolist() == [*range(23), *range(20), *range(5), *range(6)]
    whole = featurize(build_structure(query), seed=0)
    # OP3 has the first place in the dictionary, in the middle of a chain as well.
    assert whole.atom_slot.tolist() == [*range(24), *range(1, 21), *range(5), *range(7)]


def test_ccd_and_smiles_of_one_molecule_give_the_same_features() -> None:
    ccd = featurize(built(entity("ligand", "L", ccd=("CFF",))), seed=0)
    smiles = featurize(built(entity("ligand", "L", smiles=CAFFEINE)), seed=0)
    tables = []
    for f in (ccd, smiles):
        bonds = f.token_bonds.long()
        walks = torch.linalg.matrix_power(bonds, 5).sum(0)
        rows = [f.ref_element, f.ref_charge, bonds.sum(0), bonds @ f.ref_element, walks]
        tables.append(sorted(zip(*(r.tolist() for r in rows), strict=True)))
    assert tables[0] == tables[1]
    for name in (
        "restype",
        "residue_index",
        "asym_id",
        "kind",
        "msa",
        "frame_mask",
        "ref_space_uid",
    ):
        assert torch.equal(getattr(ccd, name), getattr(smiles, name)), name


def test_token_bonds_leave_out_the_chain_and_keep_the_rest() -> None:
    structure = built(
        entity("protein", "A", sequence="CGNGC"),
        entity("ligand", "G", ccd=("NAG",)),
        bonds=(("A", 1, "SG", "A", 5, "SG"), ("A", 3, "ND2", "G", 1, "C1")),
    )
    f = featurize(structure, seed=0)
    nag = structure.atoms[structure.atoms.chain_id == "G"].atom_name.tolist()
    assert "O1" not in nag
    c1 = 5 + nag.index("C1")
    assert {(0, 4), (2, c1)} <= bonded(f)
    # The ring, its six substituent atoms less O1, the acetyl: 14 bonds of 14 atoms.
    assert len([b for b in bonded(f) if min(b) >= 5]) == 14
    assert len(bonded(f)) == 16


def test_bonds_of_a_modified_residue_are_kept_but_not_those_along_the_chain() -> None:
    f = featurize(
        built(entity("protein", "A", sequence="GSG", modifications=((2, "SEP"),))), seed=0
    )
    # SEP without OXT: 10 atoms in a tree.
    assert len(bonded(f)) == 9
    assert all(i >= 1 and j <= 10 for i, j in bonded(f))


def test_rings_are_marked_and_closed() -> None:
    structure = built(
        entity("protein", "A", sequence="GAGAG", cyclic=True), entity("protein", "B", sequence="GA")
    )
    f = featurize(structure, seed=0)
    assert f.cyclic_period.tolist() == [5] * 5 + [0, 0]
    assert bonded(f) == {(0, 4)}


def test_selenium_is_shown_as_sulphur() -> None:
    structure = built(entity("protein", "A", sequence="GM", modifications=((2, "MSE"),)))
    f = featurize(structure, seed=0)
    at = structure.atoms.atom_name.tolist().index("SE")
    assert f.ref_element[at] == 16
    assert f.ref_atom_name_chars[at].tolist() == list(atom_name_chars("SD"))
    assert f.n_token == 2


def test_what_a_complex_without_alignments_and_templates_gets() -> None:
    structure = built(
        entity("protein", "A", "B", sequence="GAS"), entity("ligand", "Z", ccd=("ZN",))
    )
    f = featurize(structure, seed=0, options=FeatureOptions(n_templates=2))
    assert f.msa.tolist() == [f.restype.tolist()]
    assert f.template_restype.shape[0] == 2
    assert not f.template_backbone_mask.any()
    assert f.sym_id.tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert f.entity_id.tolist() == [0] * 6 + [1]
    assert f.frame_mask.tolist() == [True] * 6 + [False]
    batch = collate([f, featurize(built(entity("ligand", "L", ccd=("ATP",))), seed=0)])
    assert batch.token_mask.sum(dim=1).tolist() == [7, 31]


def test_an_antibody_with_its_antigen_takes_little_time() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    chains = [
        entity("protein", c, sequence="".join(rng.choice(letters, n)))
        for c, n in (("H", 120), ("L", 110), ("A", 220))
    ]
    featurize(built(*chains), seed=0)
    start = time.process_time()
    f = featurize(built(*chains), seed=1)
    assert f.n_token == 450
    assert time.process_time() - start < 1.5, "seconds, once the dictionary is read"


@pytest.mark.parametrize("code", ["LCP", "NBZ"])
def test_charges_do_not_depend_on_how_a_group_is_drawn(code: str) -> None:
    drawn = {"LCP": "[O-]Cl(=O)(=O)=O", "NBZ": "O=N(=O)c1ccccc1"}
    ccd = featurize(built(entity("ligand", "L", ccd=(code,))), seed=0)
    smiles = featurize(built(entity("ligand", "L", smiles=drawn[code])), seed=0)
    tables = [
        sorted(zip(f.ref_element.tolist(), f.ref_charge.tolist(), strict=True))
        for f in (ccd, smiles)
    ]
    assert tables[0] == tables[1]
