from collections.abc import Callable
from pathlib import Path

import pytest

from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Query


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Query]]:
    """Writes a text to a file and reads its queries."""

    def write_and_read(text: str, name: str = "input.yaml", *, each: bool = False) -> list[Query]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_queries(path, each=each)

    return write_and_read


@pytest.fixture
def refused(read: Callable[..., list[Query]]) -> Callable[..., InputError]:
    """Writes a text to a file and returns the error of reading it, with the folder cut off."""

    def write_and_fail(text: str, name: str = "input.yaml", **options: bool) -> InputError:
        with pytest.raises(InputError) as caught:
            read(text, name, **options)
        return caught.value

    return write_and_fail
