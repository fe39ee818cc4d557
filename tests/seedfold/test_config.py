from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from seedfold.config import Variants, from_dict, to_dict
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold


class LocalWindow:
    @dataclass(frozen=True, kw_only=True)
    class Config:
        kind: Literal["local_window"] = "local_window"
        n_blocks: int = 3
        scale: float = 1.0


class Outside:
    @dataclass(frozen=True, kw_only=True)
    class Config:
        kind: str = "outside"
        depth: int = 1


TABLE = Variants(local_window=LocalWindow)


@dataclass(frozen=True, kw_only=True)
class Model:
    atom_mixer: Annotated[Any, TABLE] = field(default_factory=LocalWindow.Config)
    width: int = 8
    norm: Literal["shared", "per_block"] = "shared"
    flag: bool = False
    bins: tuple[float, ...] = (1.0, 2.0)
    limit: int | None = None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"atom_mixer": {"n_block": 2}},
            "model.atom_mixer.n_block: LocalWindow.Config has no such option; "
            "did you mean 'n_blocks'?",
        ),
        (
            {"atom_mixer": {"kind": "hyena"}},
            "model.atom_mixer.kind: unknown kind 'hyena'; known: local_window, "
            "or 'package.module:Class'",
        ),
        ({"width": "8"}, "model.width: found '8'; expected int"),
        ({"width": True}, "model.width: found True; expected int"),
        ({"width": 8.0}, "model.width: found 8.0; expected int"),
        ({"flag": 1}, "model.flag: found 1; expected bool"),
        ({"norm": "none"}, "model.norm: found 'none'; expected one of 'shared', 'per_block'"),
        ({"bins": [1, "x"]}, "model.bins[1]: found 'x'; expected float"),
        ({"atom_mixer": "hyena"}, "model.atom_mixer: found 'hyena'; expected a mapping"),
        ({"zzz": 1}, "model.zzz: Model has no such option; known: atom_mixer, width"),
    ],
)
def test_mistakes_are_named(data, message):
    with pytest.raises(ValueError) as error:
        from_dict(Model, data)
    assert str(error.value).startswith(message)


def test_integers_serve_as_floats_and_none_where_allowed():
    model = from_dict(Model, {"bins": [3], "limit": None, "atom_mixer": {"scale": 2}})
    assert model.bins == (3.0,) and isinstance(model.bins[0], float)
    assert model.atom_mixer == LocalWindow.Config(scale=2.0)


def test_a_class_from_elsewhere_is_imported(monkeypatch):
    import sys
    import types

    module = types.ModuleType("somebodys_package")
    module.Mixer = Outside  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_package", module)
    kind = "somebodys_package:Mixer"
    model = from_dict(Model, {"atom_mixer": {"kind": kind, "depth": 5}})
    assert model.atom_mixer == Outside.Config(kind=kind, depth=5)
    assert TABLE.resolve(model.atom_mixer.kind) is Outside
    assert from_dict(Model, to_dict(model)) == model
    with pytest.raises(ValueError, match=r"model.atom_mixer.kind: cannot import 'nowhere:Mixer'"):
        from_dict(Model, {"atom_mixer": {"kind": "nowhere:Mixer"}})


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_round_trip(name):
    import json

    config = PRESETS[name]()
    assert from_dict(SeedFold.Config, json.loads(json.dumps(to_dict(config)))) == config
