"""Table: a CSV file that grows during a run, its rows records of one dataclass."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Generic, TypeVar, get_type_hints

from seedfold.data_pipeline.whole_file import whole_file

Record = TypeVar("Record")


class Table(Generic[Record]):
    """Rows of a file that need not be there yet.

    Args:
        path: Of the file.
        kind: A dataclass whose fields are the columns: numbers and text.
    """

    def __init__(self, path: Path, kind: type[Record]):
        self.path, self.kind = path, kind
        self.columns = [field.name for field in fields(kind)]  # type: ignore[arg-type]

    def read(self) -> list[Record]:
        """All rows."""
        if not self.path.exists():
            return []
        types = get_type_hints(self.kind)
        with self.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            self.kind(**{name: types[name](row[name]) for name in self.columns}) for row in rows
        ]

    def write(self, rows: Iterable[Record]) -> None:
        """Puts other rows in place of all."""
        with whole_file(self.path) as temporary:
            self._add(temporary, rows)

    def append(self, rows: Iterable[Record]) -> None:
        """Adds rows."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._add(self.path, rows)

    def _add(self, path: Path, rows: Iterable[Record]) -> None:
        with path.open("a", newline="") as file:
            table = csv.DictWriter(file, self.columns)
            if not file.tell():
                table.writeheader()
            table.writerows(asdict(row) for row in rows)  # type: ignore[call-overload]
