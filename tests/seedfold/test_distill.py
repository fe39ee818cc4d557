import numpy as np
import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.example import unpack_example
from seedfold.data_pipeline.prepare.isolation import StageError
from seedfold.data_pipeline.prepare.predicted import PredictedFilters
from seedfold.data_pipeline.search.cache import AlignmentCache, Info
from seedfold.distill import DistillRecipe, SequenceItems
from seedfold.jobs import predict

ANY = PredictedFilters(min_mean_plddt=None, max_peptide_bond=1e9)
SEQUENCE = "MKVLAARNDCQEGH"


def recipe(**changes) -> DistillRecipe:
    few = {"n_cycles": 1, "n_steps": 2, "device": "cpu", "filters": ANY}
    return DistillRecipe(**{"name": "d", "model": "nano-untrained", **few, **changes})


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "in.fasta"
    path.write_text(f">a\n{SEQUENCE}\n>r\nGGACUUCGGUCC\n")
    return path


def test_every_record_is_an_item(fasta):
    items = SequenceItems((fasta,))
    assert list(items) == list(items) == [f"a|protein|{SEQUENCE}", "r|rna|GGACUUCGGUCC"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (">a\nMK[SEP]V\n", "not one plain polymer"),
        (">a\nMKV:GGG\n", "not one plain polymer"),
        (">a\nMK1V\n", "'1'"),
    ],
)
def test_other_records_are_refused(tmp_path, text, found):
    path = tmp_path / "bad.fasta"
    path.write_text(text)
    with pytest.raises(InputError, match=found):
        list(SequenceItems((path,)))


def test_a_name_stands_for_one_sequence(fasta, tmp_path):
    (tmp_path / "more.fasta").write_text(">a\nGGG\n")
    with pytest.raises(InputError, match=r"more\.fasta: a: the name comes twice"):
        list(SequenceItems((fasta, tmp_path / "more.fasta")))


def test_the_example_is_what_predict_writes(fasta, tmp_path):
    """Same coordinates and confidences as `seedfold predict` with the same seed."""
    entry = recipe()(f"a|protein|{SEQUENCE}")
    example = unpack_example(entry.payload)
    single = tmp_path / "a.fasta"
    single.write_text(f">a\n{SEQUENCE}\n")
    few = {"n_samples": 1, "n_cycles": 1, "n_steps": 2, "device": "cpu"}
    (outcome,) = predict(single, tmp_path / "out", quiet=True, model="nano-untrained", **few)
    from biotite.structure.io import pdbx

    file = pdbx.CIFFile.read(outcome.best_model)
    atoms = pdbx.get_structure(file, model=1, extra_fields=["b_factor"])
    assert example.resolved.all()
    np.testing.assert_allclose(example.x, atoms.coord, atol=0.002)
    b_factor = atoms.get_annotation("b_factor")
    assert entry.row.chains[0].sequence == SEQUENCE and entry.row.source == "d"
    mean = [b_factor[atoms.res_id == i].mean() for i in range(1, len(SEQUENCE) + 1)]
    assert example.plddt is not None
    np.testing.assert_allclose(example.plddt, mean, atol=0.51)


def test_unsure_structures_are_filtered():
    strict = recipe(filters=PredictedFilters(min_mean_plddt=99.9))
    with pytest.raises(StageError, match="filter: low pLDDT"):
        strict(f"a|protein|{SEQUENCE}")


def test_the_alignment_of_the_cache_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("SEEDFOLD_HOME", str(tmp_path))
    plain = recipe()(f"a|protein|{SEQUENCE}").payload
    text = f">q\n{SEQUENCE}\n" + f">x\n{'W' * len(SEQUENCE)}\n" * 3
    info = Info(program="jackhmmer", databases=(), depth=4)
    AlignmentCache().put("protein", SEQUENCE, info, unpaired=text)
    assert recipe()(f"a|protein|{SEQUENCE}").payload != plain
    assert recipe(alignments=False)(f"a|protein|{SEQUENCE}").payload == plain


def test_a_bad_item_names_its_stage():
    with pytest.raises(StageError, match="no name"):
        recipe()(f"..|protein|{SEQUENCE}")
    with pytest.raises(ValueError, match="no-such-model"):
        recipe(model="no-such-model").check()
    assert "UNTRAINED" in recipe().check()[0]
