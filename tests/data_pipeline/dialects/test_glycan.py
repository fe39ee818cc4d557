"""Glycan strings; the structures are those of chai-lab's tests/test_glycans.py."""

from pathlib import Path

import pytest

from seedfold.data_pipeline.dialects.glycan import parse_glycan
from seedfold.data_pipeline.dialects.place import Place
from seedfold.data_pipeline.errors import InputError

PLACE = Place(Path("in"))


def test_single_sugars():
    for code in ("MAN", "99K", "FUC"):
        assert parse_glycan(code, PLACE) == ([code], [])


def test_branches_and_chains():
    codes, links = parse_glycan("MAN(6-1 FUC)(4-1 MAN(6-1 MAN(6-1 MAN)))", PLACE)
    assert codes == ["MAN", "FUC", "MAN", "MAN", "MAN"]
    assert links == [(1, "O6", 2, "C1"), (1, "O4", 3, "C1"), (3, "O6", 4, "C1"), (4, "O6", 5, "C1")]


@pytest.mark.parametrize("blank", [" ", ""])
def test_a_tree_with_and_without_blanks(blank: str):
    written = (
        "MAN(4-1 FUC(4-1 MAN)(6-1 FUC(4-1 MAN)))(6-1 MAN(6-1 MAN(4-1 MAN)(6-1 FUC)))"
    ).replace(" ", blank)
    codes, links = parse_glycan(written, PLACE)
    assert len(codes) == 9
    assert [(parent - 1, child - 1) for parent, _, child, _ in links] == [
        (0, 1), (1, 2), (1, 3), (3, 4), (0, 5), (5, 6), (6, 7), (6, 8),
    ]  # fmt: skip


def test_a_code_that_starts_with_a_digit_and_a_sialic_acid_by_its_second_carbon():
    assert parse_glycan("GAL(6-2SIA)(4-1 99K)", PLACE)[1] == [
        (1, "O6", 2, "C2"), (1, "O4", 3, "C1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "written",
    [
        "",
        "NAG(4-1 NAG",
        "NAG)",
        "NAG(NAG)",
        "NAG(4-1)",
        "(4-1 NAG)",
        "NAG NAG",
        "NAG(4-1 NAG)MAN",
        "NAG-NAG",
    ],
)
def test_malformed(written: str):
    with pytest.raises(InputError, match="glycan"):
        parse_glycan(written, PLACE)
