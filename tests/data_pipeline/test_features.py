import dataclasses
import math

import pytest
import torch

from seedfold.data_pipeline.features import Features, Labels, collate

_DTYPES = {"Bool": torch.bool, "Int": torch.int64, "Float": torch.float32}
SIZES = {"N_msa": 2, "N_templ": 1}


def _example(n_token: int, n_atom: int, labels: bool = False) -> Features:
    """Every tensor filled with ones of the dtype that its annotation asks for."""
    return Features(
        **_ones(Features, n_token, n_atom),
        labels=Labels(**_ones(Labels, n_token, n_atom)) if labels else None,
    )


def _ones(kind: type, n_token: int, n_atom: int) -> dict[str, torch.Tensor]:
    size = {**SIZES, "N_token": n_token, "N_atom": n_atom}
    dtypes = {f.name: _DTYPES[f.type.__name__.split("[")[0]] for f in dataclasses.fields(kind)
              if f.name in kind.axes()}  # fmt: skip
    found = {}
    for name, axes in kind.axes().items():
        shape = [size[a] if a.startswith("N_") else int(a) for a in axes]
        found[name] = torch.ones(shape, dtype=dtypes[name])
    return found


def test_collate_pads_every_n_axis_with_zeros_and_keeps_the_rest() -> None:
    batch = collate([_example(3, 7), _example(5, 4)])
    assert batch.token_bonds.shape == (2, 5, 5)
    assert batch.token_bonds[0].sum() == 9
    assert not batch.token_bonds[0, 3:].any()
    assert batch.ref_pos.shape == (2, 7, 3)
    assert batch.atom_mask.sum(dim=1).tolist() == [7, 4]
    assert batch.template_frame.shape == (2, 1, 5, 3, 3)
    assert batch.template_frame[0, 0, 3:].abs().sum() == 0
    assert batch.profile.shape == (2, 5, 32)
    assert (batch.n_token, batch.n_atom) == (5, 7)
    for name, axes in Features.axes().items():
        for i, (n_token, n_atom) in enumerate([(3, 7), (5, 4)]):
            true = {**SIZES, "N_token": n_token, "N_atom": n_atom}
            expected = math.prod(true.get(a, 0) or int(a) for a in axes)
            assert getattr(batch, name)[i].sum() == expected, name


def test_labels_are_collated_with_the_features() -> None:
    batch = collate([_example(2, 3, labels=True), _example(2, 5, labels=True)])
    assert batch.labels is not None
    assert batch.labels.resolved.sum(dim=1).tolist() == [3, 5]
    assert batch.labels.resolution.shape == (2,)


def test_collate_refuses_nothing_and_mixtures() -> None:
    with pytest.raises(ValueError, match="no examples"):
        collate([])
    with pytest.raises(ValueError, match="some examples have labels"):
        collate([_example(2, 3, labels=True), _example(2, 3)])


def test_a_dtype_reaches_floating_point_tensors_only_labels_included() -> None:
    moved = _example(2, 3, labels=True).to(torch.float64)
    assert moved.ref_pos.dtype == torch.float64
    assert moved.restype.dtype == torch.int64
    assert moved.atom_mask.dtype == torch.bool
    assert moved.labels is not None
    assert moved.labels.x.dtype == torch.float64
