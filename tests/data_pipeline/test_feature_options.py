"""The options travel in files of weights, and are read where no chemistry is installed."""

import dataclasses
import subprocess
import sys

from seedfold.config import from_dict, to_dict
from seedfold.data_pipeline.feature_options import FeatureOptions


def test_defaults_are_the_limits_of_protenix() -> None:
    """`msa_featurizer.py` and `configs_data.py` of Protenix 3248f8e."""
    options = FeatureOptions()
    assert (options.n_msa_rows, options.n_paired_rows, options.n_templates) == (16384, 8192, 4)


def test_every_option_goes_into_a_mapping_and_comes_back() -> None:
    """Numbers, true, false and words only: JSON knows nothing else that comes back the same."""
    fields = dataclasses.asdict(FeatureOptions())
    changed = {
        n: "still" if isinstance(v, str) else not v if isinstance(v, bool) else v + 1
        for n, v in fields.items()
    }
    options = from_dict(FeatureOptions, changed)
    assert to_dict(options) == changed and options != FeatureOptions()
    assert all(getattr(options, n) != v for n, v in fields.items())


def test_files_of_weights_need_no_chemistry() -> None:
    code = (
        "import sys, seedfold.checkpoint as c; assert c.FeatureOptions\n"
        "assert not {'rdkit', 'gemmi', 'biotite', 'Bio'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
