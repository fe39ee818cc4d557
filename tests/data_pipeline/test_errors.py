import pytest

from seedfold.data_pipeline.errors import InputError


def test_the_message_says_where_what_what_else_and_what_to_do() -> None:
    error = InputError("in.yaml:3", "'Z' is no code", expected="one of AC", todo="write [CCD]")
    assert str(error) == "in.yaml:3: 'Z' is no code; expected one of AC; write [CCD]"
    assert str(InputError("in.yaml", "empty")) == "in.yaml: empty"


def test_it_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="x: y"):
        raise InputError("x", "y")
