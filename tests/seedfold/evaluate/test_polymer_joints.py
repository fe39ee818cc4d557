"""Joints of polymers against biotite's measures of length, angle and torsion."""

import biotite.structure as struc
import numpy as np
import pytest

from seedfold.data_pipeline.components import component
from seedfold.evaluate.polymer_joints import (
    JOINTS,
    Flexible,
    Nucleic,
    Peptide,
    frame,
    joined,
    next_atom,
    rotation,
)

TOLERANCE = 1e-4
"""Degrees: biotite's torsions are in single precision."""


def angle_between(a: float, b: float) -> float:
    """Degrees, whatever the turns."""
    return abs((a - b + 180) % 360 - 180)


@pytest.mark.parametrize("torsion", [-170.0, -60.0, 0.0, 95.0, 180.0])
def test_an_atom_is_where_it_was_asked_for(torsion):
    a, b, c = np.random.default_rng(0).normal(size=(3, 3))
    d = next_atom(a, b, c, 1.33, 117.2, torsion)
    assert np.linalg.norm(d - c) == pytest.approx(1.33)
    assert np.degrees(struc.angle(b, c, d)) == pytest.approx(117.2)
    assert angle_between(np.degrees(struc.dihedral(a, b, c, d)), torsion) < TOLERANCE


def test_a_rotation_and_a_frame_are_proper():
    axis, x = np.random.default_rng(1).normal(size=(2, 3))
    turn = rotation(axis, 30.0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn @ axis, axis, atol=1e-12)
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(np.radians(30)))
    np.testing.assert_allclose(
        rotation(np.array([0, 0, 2.0]), 90.0) @ [1, 0, 0], [0, 1, 0], atol=1e-12
    )
    axes = frame(np.stack([axis, x, axis + 1]))
    assert np.linalg.det(axes) == pytest.approx(1)


@pytest.mark.parametrize(("code", "kind"), [("TRP", "protein"), ("G", "rna"), ("DT", "dna")])
def test_torsions_are_set_and_nothing_else_changes(code, kind):
    part, joint = component(code), JOINTS[kind]
    flexible = Flexible.of(part, part.coord.astype(np.float64), joint)
    wanted = {name: 20.0 + 40 * n for n, name in enumerate(joint.twists)}
    torsions = {"phi": 0.0, "psi": 0.0, **wanted}
    x = flexible.twisted(torsions)
    for name, twist in joint.twists.items():
        found = struc.dihedral(*(x[part.index[atom]] for atom in twist.atoms))
        assert angle_between(np.degrees(found), wanted[name]) < TOLERANCE, name
    i, j = part.bonds[:, 0], part.bonds[:, 1]
    lengths = [np.linalg.norm(y[i] - y[j], axis=-1) for y in (x, part.coord)]
    np.testing.assert_allclose(*lengths, atol=1e-5)
    for centre, around in enumerate(part.neighbours):
        for a in around:
            for b in around:
                if a < b:
                    angles = [struc.angle(y[a], y[centre], y[b]) for y in (x, part.coord)]
                    np.testing.assert_allclose(*angles, atol=1e-5)


def test_a_joint_has_its_length_angles_and_torsions():
    joint, rng = Peptide(), np.random.default_rng(2)
    before = rng.normal(size=(3, 3))
    part = component("ALA")
    after = part.coord[[part.index[name] for name in joint.after]].astype(np.float64)
    there = joined(joint, before, after, (150.0, 180.0, -65.0))
    x = np.concatenate([before, there])
    found = [np.degrees(struc.dihedral(*x[i : i + 4])) for i in range(3)]
    assert max(map(angle_between, found, (150.0, 180.0, -65.0))) < TOLERANCE
    angles = [np.degrees(struc.angle(*x[i : i + 3])) for i in (1, 2)]
    assert angles == pytest.approx(joint.angles)
    gaps = [np.linalg.norm(y[:, None] - y, axis=-1) for y in (there, after)]
    np.testing.assert_allclose(*gaps, atol=1e-6)


def test_proline_keeps_its_ring_and_glycine_has_no_hand():
    rng, joint = np.random.default_rng(3), Peptide()
    phi = [joint.draw(rng, component("PRO"))["phi"] for _ in range(20)]
    assert min(phi) > -100 and max(phi) < -30
    glycine = [joint.draw(rng, component("GLY"))["phi"] for _ in range(400)]
    alanine = [joint.draw(rng, component("ALA"))["phi"] for _ in range(400)]
    assert 0.4 < np.mean(np.array(glycine) > 0) < 0.6
    assert np.mean(np.array(alanine) > 0) < 0.12


def test_nucleotides_are_mostly_near_the_a_form():
    rng, joint = np.random.default_rng(4), Nucleic()
    drawn = [joint.draw(rng, component("A")) for _ in range(400)]
    assert 0.7 < np.mean([angle_between(d["gamma"], 54) < 45 for d in drawn]) < 0.9
    assert np.mean([angle_between(d["beta"], 178) < 60 for d in drawn]) > 0.98
