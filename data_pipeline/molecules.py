"""Molecules: SMILES, SDF and MOL files to components, and reference conformers. The door to RDKit.

Source: AF3 SI section 2.8 (ETKDGv3 conformers, falling back to ideal coordinates).

A molecule never reaches RDKit's own error exits: it is parsed without sanitisation, its chemistry
problems are listed, and only then is it sanitised.
"""

import contextlib
import functools
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from biotite.structure.bonds import BondType
from jaxtyping import Float, Int
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdMolDescriptors

from seedfold.data_pipeline.components import HYDROGENS, Component
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Document

EMBEDDING_SECONDS = 10
"""Limit of one embedding: a safety net, for results should not depend on the machine."""
FLIPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "ASP": (("OD1", "OD2"),),
    "GLU": (("OE1", "OE2"),),
    "PHE": (("CD1", "CD2"), ("CE1", "CE2")),
    "TYR": (("CD1", "CD2"), ("CE1", "CE2")),
}
"""Atoms of amino acids whose names half a turn of the side chain exchanges."""
MAX_SYMMETRIES = 1000
CONFORMER_SEED = 0
"""Of the conformers that training sees: one a component, the same in every shard."""
_EMBEDDINGS: tuple[dict[str, int], ...] = (
    {"maxIterations": 50},
    {"maxIterations": 10, "useRandomCoords": True},
    {"useRandomCoords": True, "useBasicKnowledge": False, "useExpTorsionAnglePrefs": False},
)
"""ETKDGv3, the same from random coordinates, plain distance geometry (for metal complexes)."""
_CREATION_SEED = 0
_TO_RDKIT = {
    BondType.SINGLE: Chem.BondType.SINGLE,
    BondType.DOUBLE: Chem.BondType.DOUBLE,
    BondType.TRIPLE: Chem.BondType.TRIPLE,
    BondType.QUADRUPLE: Chem.BondType.QUADRUPLE,
    BondType.AROMATIC_SINGLE: Chem.BondType.SINGLE,
    BondType.AROMATIC_DOUBLE: Chem.BondType.DOUBLE,
    BondType.AROMATIC_TRIPLE: Chem.BondType.TRIPLE,
    BondType.AROMATIC: Chem.BondType.AROMATIC,
    BondType.COORDINATION: Chem.BondType.DATIVE,
}
_FROM_RDKIT = {
    (Chem.BondType.SINGLE, False): BondType.SINGLE,
    (Chem.BondType.DOUBLE, False): BondType.DOUBLE,
    (Chem.BondType.TRIPLE, False): BondType.TRIPLE,
    (Chem.BondType.QUADRUPLE, False): BondType.QUADRUPLE,
    (Chem.BondType.SINGLE, True): BondType.AROMATIC_SINGLE,
    (Chem.BondType.DOUBLE, True): BondType.AROMATIC_DOUBLE,
    (Chem.BondType.AROMATIC, True): BondType.AROMATIC,
    (Chem.BondType.DATIVE, False): BondType.COORDINATION,
}
_TETRAHEDRAL = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
_NON_METALS = frozenset([1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 33, 34, 35, 36, 52, 53, 54])
Coordinates = Float[np.ndarray, "N 3"]


def component_from_smiles(smiles: str, code: str, *, where: str = "SMILES") -> Component:
    """Reads one molecule; heavy atoms keep the order of the SMILES.

    Atoms are named by element and count (C1, C2, N1, CL1). A SMILES map number, or without any
    the position of the atom counted from 0, may be used in bonds in place of the name.

    Raises:
        InputError: if it is not one molecule of possible chemistry.
    """
    return _component(_parse_smiles(smiles, where), code, title=smiles, smiles=smiles)


def component_from_file(document: Document, code: str) -> Component:
    """Reads the first molecule of an SDF (V2000, V3000), MOL or MOL2 document.

    Three-dimensional coordinates are kept as the ideal ones; explicit hydrogens are dropped.

    Raises:
        InputError: if there is no readable molecule of possible chemistry.
    """
    where, text = document.name, _text(document)
    is_mol2 = "@<TRIPOS>MOLECULE" in text
    read = Chem.MolFromMol2Block if is_mol2 else Chem.MolFromMolBlock
    with _captured() as log:
        parsed = read(text, sanitize=False, removeHs=False)
    if parsed is None or parsed.GetNumAtoms() == 0:
        raise InputError(
            where,
            f"no molecule could be read ({_reason(log)})",
            expected="an SDF, MOL or MOL2 file with one molecule",
        )
    sound = _made_sound(parsed, where)
    with rdBase.BlockLogs():
        if sound.GetConformer().Is3D():
            Chem.AssignStereochemistryFrom3D(sound)
        else:
            Chem.AssignChiralTypesFromBondDirs(sound)
            Chem.AssignStereochemistry(sound, cleanIt=True, force=True)
    title = text.split("\n", 1)[0].strip() if not is_mol2 else ""
    return _component(_heavy(sound, where), code, title=title or Path(where).stem)


@functools.lru_cache(maxsize=4096)
def conformer(component: Component, seed: int) -> Float[np.ndarray, "N 3"]:
    """A reference conformer with the component's stereochemistry, Angstrom; treat as read-only.

    ETKDGv3; where that fails the ideal coordinates, then embeddings that ask for less.
    NaN for the atoms of which nothing is known.
    """
    if len(component.atom_names) == 1:
        return np.zeros((1, 3), dtype=np.float32)
    molecule = _molecule(component)
    x = _embed(molecule, seed, _EMBEDDINGS[0])
    if x is None and not np.isfinite(component.coord).all():
        x = _first_embedded(molecule, seed, _EMBEDDINGS[1:])
    return component.coord if x is None else x


@functools.lru_cache(maxsize=4096)
def formal_charges(component: Component) -> Int[np.ndarray, " N"]:
    """Charges in RDKit's form of the molecule: one form for perchlorate or nitro, however drawn."""
    return np.array([a.GetFormalCharge() for a in _molecule(component).GetAtoms()], dtype=np.int64)


@functools.lru_cache(maxsize=4096)
def symmetries(component: Component) -> Int[np.ndarray, "N_perm N"]:
    """Permutations of the atoms that keep elements and bonds, the identity first.

    Of residues with a standard parent's names only the side-chain flips of the IUPAC rules count;
    of others all automorphisms of the heavy-atom graph, at most `MAX_SYMMETRIES`. Bonds to terminal
    oxygen and sulphur are alike whatever their order, for protons are not seen.
    """
    identity = tuple(range(len(component.atom_names)))
    if component.code in FLIPS:
        found = {identity, _flipped(component)}
    elif component.kind != "ligand" or len(identity) == 1:
        found = {identity}
    else:
        graph = _bare_graph(component)
        matches = graph.GetSubstructMatches(graph, uniquify=False, maxMatches=MAX_SYMMETRIES)
        found = {identity, *matches}
    return np.array(sorted(found, key=lambda p: (p != identity, p)), dtype=np.int64)


def _flipped(component: Component) -> tuple[int, ...]:
    names = component.atom_names
    swapped = {a: b for pair in FLIPS[component.code] for a, b in (pair, pair[::-1])}
    return tuple(component.index[swapped.get(name, name)] for name in names)


def _bare_graph(component: Component) -> Chem.Mol:
    """Elements and bonds alone: no charges, terminal oxygens and sulphurs singly bonded."""
    molecule = Chem.RWMol(_molecule(component))
    for atom in molecule.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    for bond in molecule.GetBonds():
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        if any(a.GetDegree() == 1 and a.GetSymbol() in ("O", "S") for a in ends):
            bond.SetBondType(Chem.BondType.SINGLE)
    return molecule.GetMol()


def mol(component: Component, coord: Coordinates | None = None) -> Chem.Mol:
    """The component as a sanitised RDKit molecule, with `coord` as its conformer if given.

    Atoms carry their names in the property ``name``.
    """
    molecule = Chem.Mol(_molecule(component))
    molecule.RemoveAllConformers()
    if coord is not None:
        molecule.AddConformer(_conformer(coord), assignId=True)
    return molecule


def write_sdf(
    component: Component, coord: Coordinates, path: Path, remarks: Sequence[str] = ()
) -> None:
    """Writes a molecule with its bonds, charges and stereochemistry; atoms at NaN are left out.

    `remarks` become the data item ``REMARK`` behind the molecule.
    """
    known = np.isfinite(coord).all(axis=-1)
    molecule = Chem.RWMol(mol(component, np.where(known.reshape(-1, 1), coord, 0.0)))
    with rdBase.BlockLogs():
        for i in np.flatnonzero(~known)[::-1].tolist():
            molecule.RemoveAtom(i)
        with contextlib.suppress(ValueError, RuntimeError):
            Chem.Kekulize(molecule, clearAromaticFlags=True)
        if molecule.GetNumAtoms() > 1:
            Chem.AssignStereochemistryFrom3D(molecule)
        molecule.SetProp("_Name", component.code)
        block = Chem.MolToMolBlock(molecule, kekulize=False)
    names = " ".join(a.GetProp("name") for a in molecule.GetAtoms())
    items = f"> <atom_names>\n{names}\n\n"
    if remarks:
        items += "> <REMARK>\n" + "\n".join(remarks) + "\n\n"
    path.write_text(f"{block}{items}$$$$\n", encoding="utf-8")


def _parse_smiles(smiles: str, where: str) -> Chem.Mol:
    params = Chem.SmilesParserParams()
    params.sanitize = params.removeHs = False
    with _captured() as log:
        parsed = Chem.MolFromSmiles(smiles.strip(), params)
    if parsed is None or parsed.GetNumAtoms() == 0:
        raise InputError(
            where, f"'{smiles}' is not a SMILES string ({_reason(log)})", todo="check its brackets"
        )
    sound = _made_sound(parsed, where)
    with rdBase.BlockLogs():
        Chem.AssignStereochemistry(sound, cleanIt=True, force=True)
    return _heavy(sound, where)


def _heavy(molecule: Chem.Mol, where: str) -> Chem.Mol:
    """Removes every hydrogen from a sound molecule and refuses what is not one molecule."""
    params = Chem.RemoveHsParameters()
    for name in ("Isotopes", "DefiningBondStereo", "Hydrides", "WithWedgedBond", "Mapped"):
        setattr(params, f"remove{name}", True)
    with rdBase.BlockLogs():
        molecule = Chem.RemoveHs(molecule, params)
    fragments = Chem.MolToSmiles(molecule).split(".")
    if len(fragments) > 1:
        raise InputError(
            where,
            f"{len(fragments)} separate molecules ({', '.join(fragments[:4])})",
            expected="one molecule",
            todo="give each as a ligand of its own, and leave out counter-ions of no interest",
        )
    if all(a.GetSymbol() in HYDROGENS for a in molecule.GetAtoms()):
        raise InputError(where, "only hydrogen", expected="a molecule with heavier atoms")
    return molecule


def _made_sound(parsed: Chem.Mol, where: str) -> Chem.Mol:
    """Sanitises what was read, or says why it is not possible."""
    with rdBase.BlockLogs():
        parsed.UpdatePropertyCache(strict=False)
        problems = Chem.DetectChemistryProblems(parsed)
        if problems:
            parsed = _with_dative_bonds(parsed)
            problems = Chem.DetectChemistryProblems(parsed)
        if not problems:
            Chem.SanitizeMol(parsed)
            return parsed
    raise InputError(
        where,
        f"the molecule is not possible ({'; '.join(p.Message() for p in problems[:3])})",
        expected="atoms of allowed valence",
        todo="check charges, explicit hydrogens and aromatic rings",
    )


def _component(
    molecule: Chem.Mol, code: str, *, title: str, smiles: str | None = None
) -> Component:
    atoms = list(molecule.GetAtoms())
    elements = tuple(a.GetSymbol().upper() for a in atoms)
    counts: Counter[str] = Counter()
    names: list[str] = []
    for element in elements:
        counts[element] += 1
        names.append(f"{element}{counts[element]}")
    maps = {
        str(a.GetAtomMapNum()): n for a, n in zip(atoms, names, strict=True) if a.GetAtomMapNum()
    }
    for atom in atoms:
        atom.SetAtomMapNum(0)
    with rdBase.BlockLogs():
        Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)
        formula = rdMolDescriptors.CalcMolFormula(molecule)
    return Component(
        code=code,
        title=title,
        type="NON-POLYMER",
        formula=" ".join(re.findall(r"[A-Z][a-z]?\d*", formula)),
        parent=None,
        one_letter=None,
        atom_names=tuple(names),
        elements=elements,
        charges=np.array([a.GetFormalCharge() for a in atoms], dtype=np.int64),
        leaving=np.zeros(len(atoms), dtype=bool),
        coord=_source_coordinates(molecule),
        bonds=_bonds(molecule),
        stereo=tuple(a.GetProp("_CIPCode") if a.HasProp("_CIPCode") else "N" for a in atoms),
        smiles=smiles,
        hydrogens=np.array([a.GetTotalNumHs() for a in atoms], dtype=np.int64),
        labels=maps or {str(i): name for i, name in enumerate(names)},
    )


def _source_coordinates(molecule: Chem.Mol) -> Coordinates:
    """Coordinates of the source where it has three dimensions, else a first conformer."""
    if molecule.GetNumAtoms() == 1:
        return np.zeros((1, 3), dtype=np.float32)
    if molecule.GetNumConformers() and molecule.GetConformer().Is3D():
        return molecule.GetConformer().GetPositions().astype(np.float32)
    x = _first_embedded(molecule, _CREATION_SEED, _EMBEDDINGS)
    return np.full((molecule.GetNumAtoms(), 3), np.nan, dtype=np.float32) if x is None else x


def _bonds(molecule: Chem.Mol) -> np.ndarray:
    kekulised = Chem.Mol(molecule)
    with rdBase.BlockLogs(), contextlib.suppress(ValueError, RuntimeError):
        Chem.Kekulize(kekulised, clearAromaticFlags=False)
    rows = [
        (
            b.GetBeginAtomIdx(),
            b.GetEndAtomIdx(),
            _FROM_RDKIT.get((b.GetBondType(), b.GetIsAromatic()), BondType.ANY),
        )
        for b in kekulised.GetBonds()
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


@functools.lru_cache(maxsize=4096)
def _molecule(component: Component) -> Chem.Mol:
    """The component in RDKit, sanitised as far as its chemistry allows, stereochemistry set."""
    if component.smiles is not None:
        molecule = _parse_smiles(component.smiles, component.code)
        for atom in molecule.GetAtoms():
            atom.SetAtomMapNum(0)
    else:
        with rdBase.BlockLogs():
            molecule = _sanitised(_assembled(component))
            if np.isfinite(component.coord).all() and molecule.GetNumAtoms() > 1:
                molecule.AddConformer(_conformer(component.coord), assignId=True)
                Chem.AssignStereochemistryFrom3D(molecule)
    for atom, name in zip(molecule.GetAtoms(), component.atom_names, strict=True):
        atom.SetProp("name", name)
    return molecule


def _assembled(component: Component) -> Chem.RWMol:
    molecule = Chem.RWMol()
    for i, element in enumerate(component.elements):
        atom = Chem.Atom("*" if element == "X" else element.title())
        atom.SetFormalCharge(int(component.charges[i]))
        if component.hydrogens is not None:
            atom.SetNoImplicit(True)
            atom.SetNumExplicitHs(int(component.hydrogens[i]))
        molecule.AddAtom(atom)
    for i, j, order in component.bonds.tolist():
        molecule.AddBond(i, j, _TO_RDKIT.get(order, Chem.BondType.UNSPECIFIED))
    return molecule


def _sanitised(molecule: Chem.RWMol) -> Chem.Mol:
    """Sanitises; where valences do not allow it, bonds to metals become dative ones first."""
    attempt = Chem.RWMol(molecule)
    if Chem.SanitizeMol(attempt, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
        return attempt.GetMol()
    attempt = _with_dative_bonds(molecule)
    if Chem.SanitizeMol(attempt, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
        return attempt.GetMol()
    flags = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES
    Chem.SanitizeMol(attempt, sanitizeOps=flags, catchErrors=True)
    return attempt.GetMol()


def _with_dative_bonds(molecule: Chem.Mol) -> Chem.RWMol:
    """Where a non-metal has too many bonds, its bonds to metals become dative ones."""
    changed = Chem.RWMol(molecule)
    problems = Chem.DetectChemistryProblems(molecule)
    crowded = {p.GetAtomIdx() for p in problems if p.GetType() == "AtomValenceException"}
    for bond in molecule.GetBonds():
        for atom, metal in permutations((bond.GetBeginAtom(), bond.GetEndAtom())):
            is_metal = metal.GetAtomicNum() not in _NON_METALS
            if is_metal and atom.GetIdx() in crowded and atom.GetAtomicNum() in _NON_METALS:
                changed.RemoveBond(atom.GetIdx(), metal.GetIdx())
                changed.AddBond(atom.GetIdx(), metal.GetIdx(), Chem.BondType.DATIVE)
    changed.UpdatePropertyCache(strict=False)
    return changed


def _first_embedded(
    molecule: Chem.Mol, seed: int, settings: Sequence[Mapping[str, int]]
) -> Coordinates | None:
    found = (_embed(molecule, seed, setting) for setting in settings)
    return next((x for x in found if x is not None), None)


def _embed(molecule: Chem.Mol, seed: int, settings: Mapping[str, int]) -> Coordinates | None:
    """Coordinates by ETKDGv3, or None if that fails or inverts a centre."""
    params = rdDistGeom.ETKDGv3()
    params.randomSeed = seed % (2**31 - 1)
    params.timeout = EMBEDDING_SECONDS
    for name, value in settings.items():
        setattr(params, name, value)
    with rdBase.BlockLogs():
        try:
            with_hydrogens = Chem.AddHs(molecule)
            done = rdDistGeom.EmbedMolecule(with_hydrogens, params) == 0
        except (ValueError, RuntimeError):
            return None
    if not done:
        return None
    x = with_hydrogens.GetConformer().GetPositions()[: molecule.GetNumAtoms()]
    return x.astype(np.float32) if np.isfinite(x).all() and _same_hand(molecule, x) else None


def _same_hand(molecule: Chem.Mol, x: Coordinates) -> bool:
    """Whether the coordinates show every tetrahedral centre as the molecule has it."""
    shown = Chem.Mol(molecule)
    shown.RemoveAllConformers()
    shown.AddConformer(_conformer(x), assignId=True)
    with rdBase.BlockLogs():
        Chem.AssignAtomChiralTagsFromStructure(shown)
    pairs = zip(molecule.GetAtoms(), shown.GetAtoms(), strict=True)
    tags = [(a.GetChiralTag(), b.GetChiralTag()) for a, b in pairs]
    return all(a == b for a, b in tags if a in _TETRAHEDRAL and b in _TETRAHEDRAL)


def _conformer(coord: Coordinates) -> Chem.Conformer:
    conformer = Chem.Conformer(len(coord))
    conformer.Set3D(True)
    conformer.SetPositions(np.ascontiguousarray(coord, dtype=np.float64))
    return conformer


def _text(document: Document) -> str:
    if document.text is not None:
        return document.text
    assert document.path is not None
    try:
        return document.path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(document.name, f"cannot be read ({error.strerror})") from error


def _reason(log: list[str]) -> str:
    lines = [re.sub(r"^\[[\d:]+\]\s*", "", line).strip() for line in log]
    return next((line for line in lines if line), "no reason given")


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """Collects what RDKit would print."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.extend(record.getMessage().splitlines())
    logger = logging.getLogger("rdkit")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    rdBase.LogToPythonLogger()
    try:
        yield lines
    finally:
        rdBase.LogToCppStreams()
        logger.handlers, logger.propagate = before
