"""The public models whose weights can be used: where they are, whose they are, what they reach.

Only what the authors themselves publish stands here. They publish neither the exact sizes of the
files nor checksums; `size` and `sha256` stay empty until they do, and are checked once they are
filled. A model without `url` can be imported, but not fetched.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.feature_options import FeatureOptions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = ("nano", "nano-untrained")


@dataclass(frozen=True, kw_only=True)
class Donor:
    """A program whose weights we read; `notice` is what its licence wants to see passed on.

    `inputs` is how it makes the features that its networks were trained on.
    """

    name: str
    licence: str
    homepage: str
    notice: str
    importer: str
    inputs: FeatureOptions = field(default_factory=FeatureOptions)


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """One published model; `size` in bytes, `parameters` with the constants in it.

    `preset` names its configuration; None where that is read off the weights. `repeated` is how
    many numbers the file holds a second time.
    """

    name: str
    donor: str
    preset: str | None
    published_as: str
    parameters: int
    accuracy: str
    source: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    repeated: int = 0

    @property
    def licence(self) -> str:
        """Of the weights."""
        return DONORS[self.donor].licence

    @property
    def numbers(self) -> int:
        """How many the file holds."""
        return self.parameters + self.repeated

    @property
    def bytes_expected(self) -> int:
        """The published size or, without one, that of its numbers in fp32."""
        return self.size or 4 * self.numbers

    @property
    def size_text(self) -> str:
        """The size for people, and whether it is published or computed."""
        number = f"{self.bytes_expected / 1e9:.2f} GB"
        return number if self.size else f"about {number}"


DONORS: Mapping[str, Donor] = {
    "protenix": Donor(
        name="Protenix",
        licence="Apache-2.0",
        homepage="https://github.com/bytedance/Protenix",
        importer="seedfold.weights.protenix",
        notice=(
            "Protenix - https://github.com/bytedance/Protenix\n"
            "Copyright 2024 ByteDance and/or its affiliates.\n"
            "Code and model parameters are licensed under the Apache License, Version 2.0; a copy\n"
            "of it is at http://www.apache.org/licenses/LICENSE-2.0. They come without warranties\n"
            "or conditions of any kind, either express or implied.\n"
            "Changes: the tensors were renamed and stored in another file format."
        ),
    ),
    "intellifold": Donor(
        name="IntelliFold",
        licence="Apache-2.0",
        homepage="https://github.com/IntelliGen-AI/IntelliFold",
        importer="seedfold.weights.intellifold",
        inputs=FeatureOptions(
            terminal_atoms=False,
            ligand_gaps=True,
            query_twice=False,
            query_fills_rows=False,
            template_gaps=False,
            conformers="together",
        ),
        notice=(
            "IntelliFold - https://github.com/IntelliGen-AI/IntelliFold\n"
            "Code and model parameters are licensed under the Apache License, Version 2.0; a copy\n"
            "of it is at http://www.apache.org/licenses/LICENSE-2.0. They come without warranties\n"
            "or conditions of any kind, either express or implied.\n"
            "Changes: tensors were renamed, rearranged and stored in another file format."
        ),
    ),
    "openfold3": Donor(
        name="OpenFold3",
        licence="Apache-2.0",
        homepage="https://github.com/aqlaboratory/openfold-3",
        importer="seedfold.weights.openfold3",
        inputs=FeatureOptions(
            n_paired_rows=8191,
            terminal_atoms=False,
            ligand_gaps=True,
            query_fills_rows=False,
        ),
        notice=(
            "OpenFold3 - https://github.com/aqlaboratory/openfold-3\n"
            "Copyright 2025 AlQuraishi Laboratory\n"
            "Code and model parameters are licensed under the Apache License, Version 2.0; a copy\n"
            "of it is at http://www.apache.org/licenses/LICENSE-2.0. They come without warranties\n"
            "or conditions of any kind, either express or implied.\n"
            "Changes: tensors were renamed, rearranged and stored in another file format."
        ),
    ),
}

_CHECKPOINTS = "https://protenix.tos-cn-beijing.volces.com/checkpoint"
_REPORT = "Protenix-v1 technical report, doi:10.64898/2026.02.05.703733"
_FOLDBENCH = (
    "FoldBench: monomer lDDT {}; success rates (%) protein-protein {}, antibody-antigen {}, "
    "protein-ligand {}, protein-RNA {}, protein-DNA {}"
)


def _protenix(
    name: str, preset: str, published_as: str, parameters: int, accuracy: str, source: str
) -> KnownModel:
    return KnownModel(
        name=name,
        donor="protenix",
        preset=preset,
        published_as=published_as,
        parameters=parameters,
        accuracy=accuracy,
        source=source,
        url=f"{_CHECKPOINTS}/{published_as}.pt",
    )


_ALL = (
    _protenix(
        "protenix-v2",
        "protenix_v2",
        "protenix-v2",
        464_442_431,
        "antibody-antigen success rate (DockQ > 0.23) 9 to 13 points above v1 on three sets",
        "README of bytedance/Protenix, 2026-04-08",
    ),
    _protenix(
        "protenix-v1",
        "protenix_v1",
        "protenix_base_default_v1.0.0",
        368_484_735,
        _FOLDBENCH.format("0.8874", "74.00", "50.12", "62.79", "66.67", "73.29"),
        _REPORT,
    ),
    _protenix(
        "protenix-v1-20250630",
        "protenix_v1",
        "protenix_base_20250630_v1.0.0",
        368_484_735,
        "not published; v1 trained on structures up to 2025-06-30, not for benchmarks",
        "README of bytedance/Protenix, 2026-02-05",
    ),
    _protenix(
        "protenix-v0.5",
        "protenix_v0.5",
        "protenix_base_default_v0.5.0",
        368_088_191,
        _FOLDBENCH.format("0.8756", "69.55", "42.23", "59.45", "51.49", "72.34"),
        _REPORT,
    ),
    _protenix(
        "protenix-mini-v0.5",
        "protenix_mini_v0.5",
        "protenix_mini_default_v0.5.0",
        134_067_007,
        "1 to 5 % below v0.5",
        "docs/model_0.5.0_benchmark.md of bytedance/Protenix",
    ),
    _protenix(
        "protenix-tiny-v0.5",
        "protenix_tiny_v0.5",
        "protenix_tiny_default_v0.5.0",
        109_500_223,
        "published as a figure only",
        "docs/model_0.5.0_benchmark.md of bytedance/Protenix",
    ),
)


def _intellifold(name: str, published_as: str, parameters: int, accuracy: str) -> KnownModel:
    home = "https://huggingface.co/intelligenAI/intellifold/resolve/main"
    return KnownModel(
        name=name,
        donor="intellifold",
        preset=None,
        published_as=published_as,
        parameters=parameters,
        accuracy=f"FoldBench: success rates (%) {accuracy}",
        source="figure in the README of IntelliGen-AI/IntelliFold, 2026-02-07",
        url=f"{home}/{published_as}.pt",
    )


_INTELLIFOLD = (
    _intellifold(
        "intellifold-v2",
        "intellifold_v2",
        850_000_858,
        "antibody-antigen 54.5, protein-ligand 66.7",
    ),
    _intellifold(
        "intellifold-v1",
        "intellifold_v0.1.0",
        368_376_730,
        "antibody-antigen 43.2, protein-ligand 61.8",
    ),
    _intellifold(
        "intellifold-v2-flash",
        "intellifold_v2_flash",
        108_546_512,
        "antibody-antigen 40.0, protein-ligand 57.9",
    ),
)
_OPENFOLD3 = KnownModel(
    name="openfold3-preview",
    donor="openfold3",
    preset=None,
    published_as="of3_ft3_v1",
    parameters=368_297_340,
    repeated=203_240_060,
    accuracy="not listed as numbers; published as figures only",
    source="README and white paper of aqlaboratory/openfold-3, 0.3.1",
    url="https://openfold.s3.amazonaws.com/openfold3_params/of3_ft3_v1.pt",
)
KNOWN: Mapping[str, KnownModel] = {
    model.name: model for model in (*_ALL, *_INTELLIFOLD, _OPENFOLD3)
}
"""Name -> model; of one donor the most accurate first."""


def known(name: str) -> KnownModel:
    """The catalogue's entry of that name.

    Raises:
        InputError: if it has none.
    """
    if name not in KNOWN:
        raise InputError(
            "model name", f"{name!r} is not in the catalogue", expected=f"one of {', '.join(KNOWN)}"
        )
    return KNOWN[name]


def check_name(name: str) -> str:
    """`name` if weights may be stored under it; it becomes a file name.

    Raises:
        InputError: if not.
    """
    if not _NAME.fullmatch(name) or name.endswith((".safetensors", ".")):
        raise InputError(
            "--as",
            f"{name!r}",
            expected="letters, digits, '.', '_' and '-', at most 64, without a file ending",
        )
    if name in _RESERVED:
        raise InputError("--as", f"{name!r} is the bundled model", todo="choose another name")
    return name
