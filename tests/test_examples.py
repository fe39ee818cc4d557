"""Every kind of input, folded by the command line and read back by other programs."""

import json

import biotite.structure.io.pdbx as pdbx
import gemmi
import numpy as np
import pytest
from rdkit import Chem
from typer.testing import CliRunner

from seedfold.checkpoint import CheckpointInfo, save_checkpoint
from seedfold.cli import app
from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.structure import build_structure
from seedfold.model.presets import pico
from seedfold.model.seedfold import SeedFold

# What each example holds, counted by hand: tokens, chains, bonds between residues that are not
# those along a chain, ligand chains.
EXAMPLES = {
    "monomer.fasta": (76, 1, 0, 0),
    # 111 residues, 27 heavy atoms of dGDP, two ions
    "protein_ligand_ion.yaml": (111 + 27 + 2, 4, 0, 3),
    "protein_dna.protenix.json": (203 + 21 + 21, 3, 0, 0),
    "rna.alphafold3.json": (52, 1, 0, 0),
    # 102 residues, three of them dimethyl-lysine with 11 atoms a token each
    "modified_residue.alphafold3.json": (102 - 3 + 3 * 11, 1, 0, 0),
    # 231 + 29 residues, RF6 11 atoms, ADP 27, MG; two thioethers
    "covalent_ligand.alphafold3.json": (231 + 29 + 11 + 27 + 1, 5, 2, 3),
    # 267 residues, three NAG of 14 atoms (15 less O1), three zincs; three glycosidic bonds
    "glycan.yaml": (267 + 3 * 14 + 3, 6, 3, 5),
    # head to tail and one disulphide
    # 106 residues, 11 heavy atoms of the inhibitor
    "bromodomain.yaml": (106 + 11, 2, 0, 1),
    "cyclic_peptide.yaml": (14, 1, 2, 0),
    "homodimer_msa.yaml": (2 * 244, 2, 0, 0),
    "antibody_antigen.chai.fasta": (218 + 115 + 107, 3, 0, 0),
}


def test_all_examples_are_tested(examples):
    assert {p.name for p in examples.iterdir() if p.is_file()} == set(EXAMPLES)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """Weights of the smallest network: what is tested here is not its size."""
    network = SeedFold(pico())
    info = CheckpointInfo(name="pico", config=network.config, trained=False)
    path = tmp_path_factory.mktemp("weights") / "pico.safetensors"
    save_checkpoint(path, network.state_dict(), info)
    return path


@pytest.fixture(scope="module", params=EXAMPLES)
def folded(request, tmp_path_factory, examples, smallest):
    """(name, query, folder) of one example, folded quickly."""
    out = tmp_path_factory.mktemp("out")
    command = ["predict", str(examples / request.param), "-o", str(out), "--sdf"]
    command += ["--model", str(smallest), "--samples", "1", "--cycles", "1", "--steps", "4"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    (query,) = read_queries(examples / request.param)
    return request.param, query, out / query.name


def test_sizes(folded):
    name, _, folder = folded
    (row,) = json.loads((folder.parent / "run_summary.json").read_text())["inputs"]
    assert row["status"] == "ok"
    assert row["n_token"] == EXAMPLES[name][0]


def test_gemmi_reads_the_same_chains_and_atoms(folded):
    name, query, folder = folded
    model = gemmi.read_structure(str(folder / f"{query.name}_model_0.cif"))
    expected = build_structure(query)
    model.setup_entities()
    assert len(expected.chains) == EXAMPLES[name][1]
    assert [c.id for c in expected.chains] == [
        s for c in model[0] for s in dict.fromkeys(r.subchain for r in c)
    ]
    found = [
        (residue.subchain, residue.name, atom.name, atom.element.name.upper(), atom.charge)
        for chain in model[0]
        for residue in chain
        for atom in residue
    ]
    atoms = expected.atoms
    columns = (atoms.chain_id, atoms.res_name, atoms.atom_name, atoms.element, atoms.charge)
    assert found == list(zip(*(c.tolist() for c in columns), strict=True))
    assert all(0 <= a.b_iso <= 100 for c in model[0] for r in c for a in r)


def test_biotite_reads_the_same_bonds(folded):
    name, query, folder = folded
    file = pdbx.CIFFile.read(folder / f"{query.name}_model_0.cif")
    read = pdbx.get_structure(file, model=1, include_bonds=True, extra_fields=["charge"])
    expected = build_structure(query).atoms
    assert read.atom_name.tolist() == expected.atom_name.tolist()
    bonds = {tuple(sorted(map(int, b[:2]))) for b in expected.bonds.as_array()}
    assert {tuple(sorted(map(int, b[:2]))) for b in read.bonds.as_array()} == bonds
    numbers = expected.res_id
    same_chain = expected.chain_id
    beside = [
        (i, j)
        for i, j in bonds
        if same_chain[i] != same_chain[j] or abs(int(numbers[i]) - int(numbers[j])) > 1
    ]
    along_glycan = 1 if name == "glycan.yaml" else 0
    assert len(beside) + along_glycan == EXAMPLES[name][2]


def test_rdkit_reads_the_ligands(folded):
    name, query, folder = folded
    files = sorted(folder.glob("*.sdf"))
    assert len(files) == EXAMPLES[name][3]
    atoms = build_structure(query).atoms
    for path in files:
        chain = path.stem.rsplit("_", 1)[1]
        molecule = Chem.MolFromMolFile(str(path), sanitize=False, removeHs=False)
        elements = [a.GetSymbol().upper() for a in molecule.GetAtoms()]
        assert elements == atoms.element[atoms.chain_id == chain].tolist()


def test_confidences_speak_of_the_same_chains(folded):
    _, query, folder = folded
    found = json.loads((folder / f"{query.name}_summary_confidences_0.json").read_text())
    ids = [c.id for c in build_structure(query).chains]
    assert list(found["chain_plddt"]) == ids
    assert all(list(row) == ids for row in found["chain_pair_iptm"].values())
    assert 0 <= found["ptm"] <= 1
    assert (found["iptm"] is None) == (len(ids) == 1)


UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
# The remaining dialects: file name, content, tokens. ATP has 31 heavy atoms, ethanol 3.
DIALECTS = {
    "Boltz FASTA": (
        "a.fasta",
        f">A|protein|ubq.a3m\n{UBIQUITIN}\n>B|ccd\nATP\n>C|smiles\nCCO\n>D|rna\nGGCUAC\n",
        76 + 31 + 3 + 6,
    ),
    "AlphaFold Server": (
        "a.json",
        json.dumps(
            [
                {
                    "name": "ubiquitin",
                    "modelSeeds": ["1"],
                    "sequences": [
                        {"proteinChain": {"sequence": UBIQUITIN, "count": 2}},
                        {"dnaSequence": {"sequence": "GATTACA", "count": 1}},
                        {"ligand": {"ligand": "CCD_ATP", "count": 1}},
                        {"ion": {"ion": "MG", "count": 2}},
                    ],
                    "dialect": "alphafoldserver",
                    "version": 1,
                }
            ]
        ),
        2 * 76 + 7 + 31 + 2,
    ),
    "AlphaFold 3, version 4": (
        "a.json",
        json.dumps(
            {
                "name": "ubiquitin",
                "modelSeeds": [7],
                "sequences": [
                    {
                        "protein": {
                            "id": ["A", "B"],
                            "sequence": UBIQUITIN,
                            "unpairedMsaPath": "ubq.a3m",
                            "pairedMsa": "",
                            "templates": [],
                            "description": "real",
                        }
                    },
                    {"ligand": {"id": "L", "smiles": "CCO"}},
                ],
                "dialect": "alphafold3",
                "version": 4,
            }
        ),
        2 * 76 + 3,
    ),
    "SeedFold server": (
        "a.json",
        json.dumps(
            [
                {"entity": "Protein", "copies": 1, "sequence": UBIQUITIN},
                {"entity": "Ligand/Ion-CCD", "copies": 2, "sequence": "ZN"},
                {"entity": "Ligand-Smiles", "copies": 1, "sequence": "CCO"},
            ]
        ),
        76 + 2 + 3,
    ),
    "our form in JSON, ligand from a file": (
        "a.json",
        json.dumps(
            {
                "sequences": [
                    {"protein": {"id": "A", "sequence": UBIQUITIN, "msa": "ubq.a3m"}},
                    {"ligand": {"id": "B", "file": "ethanol.sdf"}},
                ],
                "seeds": [1, 2],
            }
        ),
        76 + 3,
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_folds(tmp_path, dialect):
    name, content, n_token = DIALECTS[dialect]
    (tmp_path / name).write_text(content)
    (tmp_path / "ubq.a3m").write_text(f">q\n{UBIQUITIN}\n>x\n{UBIQUITIN[:-1]}-\n")
    ethanol = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    (tmp_path / "ethanol.sdf").write_text(ethanol + "$$$$\n")
    command = ["predict", str(tmp_path / name), "-o", str(tmp_path / "out")]
    command += ["--samples", "1", "--cycles", "1", "--steps", "8"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads((tmp_path / "out/run_summary.json").read_text())["inputs"]
    assert row["n_token"] == n_token
    model = gemmi.read_structure(row["best_model"])
    (query,) = read_queries(tmp_path / name)
    assert sum(1 for _ in model[0].all()) == len(build_structure(query).atoms)


def test_ccd_and_smiles_of_one_molecule_give_the_same_features(tmp_path, examples):
    """dGDP by its code and by SMILES: same multiset of atoms, same graph of token bonds."""
    from seedfold.data_pipeline.featurize import featurize

    text = (examples / "protein_ligand_ion.yaml").read_text()
    smiles = "Nc1nc2c(ncn2[C@H]2C[C@H](O)[C@@H](COP(=O)(O)OP(=O)(O)O)O2)c(=O)[nH]1"
    found = []
    for i, source in enumerate(("ccd: DGI", f"smiles: '{smiles}'")):
        path = tmp_path / f"{i}.yaml"
        path.write_text(text.replace("ccd: DGI", source))
        f = featurize(build_structure(read_queries(path)[0]), seed=0)
        ligand = (f.asym_id == 1).numpy()
        element = f.ref_element.numpy()[ligand[f.atom_to_token.numpy()]]
        bonds = f.token_bonds.numpy()[np.ix_(ligand, ligand)]
        found.append(_refined(element, bonds))
    assert found[0] == found[1]


def _refined(element: np.ndarray, bonds: np.ndarray) -> list:
    """Atoms by element, refined by their neighbours as often as there are atoms (1-WL)."""
    colour = [str(e) for e in element]
    for _ in range(len(colour)):
        around = [sorted(colour[j] for j in np.flatnonzero(row)) for row in bonds]
        table = {
            key: str(i)
            for i, key in enumerate(sorted({(c, *a) for c, a in zip(colour, around, strict=True)}))
        }
        colour = [table[(c, *a)] for c, a in zip(colour, around, strict=True)]
    return sorted(zip([str(e) for e in element], colour, strict=True))
