from dataclasses import dataclass

from seedfold.train.tables import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    step: int
    name: str
    value: float


def row(step: int) -> Row:
    return Row(step=step, name=f'the "{step}",\nth', value=step / 3)


def test_what_is_written_is_read(tmp_path):
    table = Table(tmp_path / "new" / "table.csv", Row)
    assert table.read() == []
    table.append([row(1), row(2)])
    table.append([row(3)])
    assert table.read() == [row(1), row(2), row(3)]
    table.write([row(2)])
    table.append([row(4)])
    assert Table(table.path, Row).read() == [row(2), row(4)]
    table.write([])
    assert table.path.read_text().split() == ["step,name,value"]
