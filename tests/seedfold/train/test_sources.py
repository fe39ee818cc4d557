import dataclasses

import pytest

from seedfold.config import from_dict
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.train.sources import CropMix, DataConfig, Source, is_there, opened, prepare


def test_crops_are_an_option_of_a_source(source):
    mix = {"contiguous": 1, "spatial": 0, "interface": 0.5}
    raw = {"sources": [{"name": "a", "folder": source.folder, "crops": mix}]}
    (made,) = from_dict(DataConfig, raw, "data").sources
    assert made.crops == CropMix(contiguous=1.0, spatial=0.0, interface=0.5)
    data = opened(made, FeatureOptions(n_templates=3))
    assert data.methods == mix and data.options.n_templates == 3
    assert opened(source, FeatureOptions()).methods is None
    with pytest.raises(ValueError, match=r"sources\[0\]\.crops\.interface: missing"):
        del mix["interface"]
        from_dict(DataConfig, raw, "data")


def test_what_cannot_be_prepared_is_told(source, tmp_path):
    absent = Source(name="pdb", folder=str(tmp_path / "none"))
    with pytest.raises(InputError, match="no structures /nowhere"):
        prepare(dataclasses.replace(absent, structures="/nowhere"))
    bad = tmp_path / "bad.cif"
    bad.write_text("not a structure")
    with pytest.raises(InputError, match=r"seedfold prepare pdb .* failed"):
        prepare(dataclasses.replace(absent, structures=str(bad)))
    with pytest.raises(InputError, match=r"pdb: no finished data set in .*none; make it with"):
        opened(absent, FeatureOptions())
    assert is_there(source) and not is_there(absent)
