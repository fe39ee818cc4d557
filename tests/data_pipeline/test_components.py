import os
import random

import numpy as np
import pytest
from biotite.structure.bonds import BondType

from seedfold.data_pipeline import components
from seedfold.data_pipeline.components import Component, component, exists, suggest
from seedfold.data_pipeline.molecules import conformer


def named(part: Component, atoms: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(part.atom_names[i] for i in atoms)


def test_serine_phosphate_is_as_the_dictionary_prints_it() -> None:
    sep = component("SEP")
    assert sep.atom_names == ("N", "CA", "CB", "OG", "C", "O", "OXT", "P", "O1P", "O2P", "O3P")
    assert sep.elements == ("N", "C", "C", "O", "C", "O", "O", "P", "O", "O", "O")
    assert (sep.parent, sep.one_letter, sep.type) == ("SER", "S", "L-PEPTIDE LINKING")
    assert (sep.name, sep.formula) == ("PHOSPHOSERINE", "C3 H8 N O6 P")
    assert (sep.head, sep.tail, sep.kind) == ("N", "C", "protein")
    assert named(sep, tuple(np.flatnonzero(sep.leaving))) == ("OXT",)
    assert sep.stereo[sep.index["CA"]] == "S"
    assert sep.hydrogens is not None
    # N H2, CA H, CB H2, OXT H, O2P H, O3P H.
    assert sep.hydrogens.tolist() == [2, 1, 2, 0, 0, 0, 1, 0, 0, 1, 1]
    orders = {frozenset(named(sep, (i, j))): BondType(k) for i, j, k in sep.bonds.tolist()}
    assert orders[frozenset(("C", "O"))] == BondType.DOUBLE
    assert orders[frozenset(("P", "O1P"))] == BondType.DOUBLE
    assert len(orders) == 10
    # A peptide C-O double bond and a P-O single bond, Angstrom.
    x = {n: sep.coord[i] for n, i in sep.index.items()}
    assert np.linalg.norm(x["C"] - x["O"]) == pytest.approx(1.21, abs=0.02)
    assert np.linalg.norm(x["P"] - x["OG"]) == pytest.approx(1.61, abs=0.03)


def test_two_letter_elements_aromatic_bonds_and_charges() -> None:
    assert component("CL").elements == ("CL",)
    assert component("CA").elements == ("CA",)
    assert component("CA").charges.tolist() == [2]
    assert component("HEM").elements.count("FE") == 1
    phe = component("PHE")
    ring = [BondType(k) for *_, k in phe.bonds.tolist()]
    assert ring.count(BondType.AROMATIC_SINGLE) == ring.count(BondType.AROMATIC_DOUBLE) == 3
    assert component("LYS").charges[component("LYS").index["NZ"]] == 1


def test_what_leaves_when_a_bond_is_made() -> None:
    for code, centre, group in (
        ("NAG", "C1", ("O1",)),
        ("ALA", "C", ("OXT",)),
        ("DA", "P", ("OP3",)),
        ("FUC", "C1", ("O1",)),
    ):
        part = component(code)
        found = {part.atom_names[c]: [named(part, g) for g in gs] for c, gs in
                 part.leaving_groups.items()}  # fmt: skip
        assert found == {centre: [group]}, code
    assert component("ATP").leaving_groups == {}


def test_polymer_ends_of_caps_and_of_residues_with_other_names() -> None:
    ends = {
        c: (component(c).head, component(c).tail)
        for c in ("ACE", "FOR", "NH2", "NME", "CRO", "ATP", "U")
    }
    assert ends == {
        "ACE": (None, "C"),
        "FOR": (None, "C"),
        "NH2": ("N", None),
        "NME": ("N", None),
        "CRO": ("N1", "C3"),
        "ATP": (None, None),
        "U": ("P", "O3'"),
    }


def test_obsolete_codes_lead_to_what_replaced_them() -> None:
    assert component("MHM").code == "HEM"


def test_unknown_codes_are_told_apart_and_answered_with_a_near_one() -> None:
    assert exists("ATP")
    assert not exists("atp")
    assert suggest("atp") == "ATP"
    assert suggest("A_TP") == "ATP"
    with pytest.raises(KeyError):
        component("LIG_1")


def test_deuterium_is_a_hydrogen() -> None:
    assert "D" not in component("DOD").elements
    assert component("DOD").elements == ("O",)


def test_random_components_have_sound_tables_and_conformers() -> None:
    codes = sorted(components._rows("chem_comp_atom"))
    sample = random.Random(20).sample(codes, 300 if os.environ.get("SEEDFOLD_LONG") == "1" else 75)
    embedded, known, centres = 0, 0, 0
    for code in sample:
        part = component(code)
        n = len(part.atom_names)
        assert len(set(part.atom_names)) == n, code
        assert part.bonds[:, :2].max(initial=-1) < n, code
        assert part.coord.shape == (n, 3), code
        assert all(e == e.upper() and e not in ("H", "D") for e in part.elements), code
        x = conformer(part, 0)
        embedded += x is not part.coord
        known += bool(np.isfinite(x).all())
        for centre, ideal in _handedness(part, part.coord).items():
            centres += 1
            assert _handedness(part, x)[centre] == ideal, (code, part.atom_names[centre])
    assert embedded >= 0.93 * len(sample), "the rest have ideal coordinates"
    assert known >= 0.99 * len(sample)
    assert centres > len(sample)


def _handedness(part: Component, x: np.ndarray) -> dict[int, float]:
    """Sign of the volume at every R or S carbon with three heavy neighbours."""
    found = {}
    for centre, label in enumerate(part.stereo):
        around = part.neighbours[centre][:3]
        if label in ("R", "S") and part.elements[centre] == "C" and len(around) == 3:
            volume = np.linalg.det(x[list(around)] - x[centre])
            if np.isfinite(volume):
                found[centre] = float(np.sign(volume))
    return found
