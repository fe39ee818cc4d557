"""Tables of residues in chains, against crystal structures."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from seedfold.data_pipeline.components import component
from seedfold.data_pipeline.ideal_geometry import angle, ideal_geometry
from seedfold.data_pipeline.mmcif import read_structure
from seedfold.data_pipeline.polymer_geometry import link_angles, link_length, residue_geometry
from seedfold.data_pipeline.query import Document

HELDOUT = Path(__file__).resolve().parents[2] / "../shared/data/heldout/structures"


def named(name: str, ideal) -> dict[frozenset[str], float]:
    atoms = component(name).atom_names
    bonds = zip(ideal.bonds.tolist(), ideal.lengths.tolist(), strict=True)
    return {frozenset(atoms[i] for i in ends): length for ends, length in bonds}


def test_carboxylates_and_phosphates_are_charged():
    asp = named("ASP", residue_geometry(component("ASP")))
    assert asp[frozenset(["CG", "OD1"])] == asp[frozenset(["CG", "OD2"])] == 1.249
    free = named("ASP", ideal_geometry(component("ASP")))
    assert abs(free[frozenset(["CG", "OD1"])] - free[frozenset(["CG", "OD2"])]) > 0.1
    others = set(asp) - {frozenset(["CG", "OD1"]), frozenset(["CG", "OD2"])}
    assert {e: asp[e] for e in others} == {e: free[e] for e in others}


def test_ligands_keep_their_own_geometry():
    heme = component("HEM")
    np.testing.assert_array_equal(residue_geometry(heme).degrees, ideal_geometry(heme).degrees)


def test_lengths_of_links():
    assert link_length("C", "N", "PRO") == (1.338, 0.019)
    assert link_length("C", "N", "SEP") == link_length("C", "N", "ALA") == (1.336, 0.023)
    assert link_length("O3'", "P", "G") == (1.607, 0.015)
    assert link_length("N", "C", "ALA") is None
    assert link_length("NZ", "CG", "ASP") is None


def test_proline_has_two_sets_of_angles():
    cis, trans = (link_angles("C", "N", "PRO", cis=c) for c in (True, False))
    assert cis["C N CA"][0] - trans["C N CA"][0] == pytest.approx(7.7)
    assert link_angles("C", "N", "ALA", cis=True) == link_angles("C", "N", "ALA", cis=False)
    assert not link_angles("SG", "SG", "CYS", cis=False)


@pytest.mark.skipif(not HELDOUT.is_dir(), reason="../shared/data/heldout is not here")
@pytest.mark.parametrize("name, first, second", [("pb_7n4w", "C", "N"), ("prd_1m5o", "O3'", "P")])
def test_tables_are_the_means_of_crystals(name, first, second):
    atoms = read_structure(Document(name=name, path=HELDOUT / f"{name}.cif.gz")).atoms
    ends = zip(atoms.chain_id.tolist(), atoms.res_id.tolist(), atoms.atom_name, strict=True)
    place = {end: i for i, end in enumerate(ends) if np.isfinite(atoms.coord[i]).all()}
    found = defaultdict(list)
    for i, j, _ in atoms.bonds.as_array().tolist():
        i, j = min(i, j), max(i, j)
        if (atoms.atom_name[i], atoms.atom_name[j]) == (first, second):
            residue = str(atoms.res_name[j])
            for key, (degrees, deviation) in link_angles(first, second, residue, False).items():
                a, b, c = key.split()
                middle = i if b == first else j
                three = [place.get((atoms.chain_id[k], atoms.res_id[k], n)) for k, n in
                         ((i, a), (middle, b), (j, c))]  # fmt: skip
                if None not in three and residue != "PRO":
                    value = angle(atoms.coord[three][None].astype(float))[0]
                    found[key].append((value - degrees) / deviation)
    assert found and min(len(v) for v in found.values()) > 40
    for key, off in found.items():
        assert abs(np.mean(off)) < 0.8, (key, np.mean(off))
