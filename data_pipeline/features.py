"""Features: the one contract between data and model (AF3 SI Table 5 names and shapes).

One class serves a single example and a batch; every shape is written in the annotation and
`collate` reads its padding rule from there: axes called ``N_*`` are padded to the longest example
(integers and floats with 0, masks with False), so adding a feature is one line here and one in
`featurize`. Integers are stored, one-hot encodings are made in the model.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Record = TypeVar("Record", bound="_Tensors")


@dataclass(frozen=True, kw_only=True)
class _Tensors:
    """A frozen record of tensors whose annotations name the axes."""

    @classmethod
    def axes(cls) -> dict[str, tuple[str, ...]]:
        """Axis names of every tensor field, without the leading ``*B``."""
        return {
            f.name: tuple(f.type.dim_str.split()[1:])  # type: ignore[union-attr]
            for f in dataclasses.fields(cls)
            if hasattr(f.type, "dim_str")
        }

    def to(self: Record, *args: Any, **kwargs: Any) -> Record:
        """Moves every tensor; a dtype is applied to floating-point tensors only."""
        return self.map(
            lambda x: (
                x.to(*args, **kwargs)
                if x.is_floating_point()
                else x.to(
                    *[a for a in args if not isinstance(a, torch.dtype)],
                    **{k: v for k, v in kwargs.items() if k != "dtype"},
                )
            )
        )

    def map(self: Record, function: Any) -> Record:
        """Applies `function` to every tensor, nested records included."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
            elif isinstance(value, _Tensors):
                changes[field.name] = value.map(function)
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Labels(_Tensors):
    """Ground truth of a training example. Coordinates in Angstrom; resolution in Angstrom."""

    x: Float[Tensor, "*B N_atom 3"]
    resolved: Bool[Tensor, "*B N_atom"]
    weight: Float[Tensor, "*B N_atom"]
    resolution: Float[Tensor, "*B"]


@dataclass(frozen=True, kw_only=True)
class Features(_Tensors):
    """Everything the network sees of one complex, or of a batch of them.

    ``restype``, ``msa`` and ``template_restype`` index `chemistry.RESTYPES` (32 classes);
    ``kind`` indexes `chemistry.KINDS`, and is that of the chain; ``ref_element`` is the atomic
    number (hydrogen 1, unknown 0); ``ref_atom_name_chars`` is ord(c) - 32 of the name padded to 4
    with blanks; ``ref_charge`` in elementary charges; ``asym_id``, ``entity_id``, ``sym_id`` count
    from 0; ``residue_index`` counts from 1 within a chain; atom indices (``centre_atom``,
    ``representative_atom``, ``frame_atoms``) count within the example, and where ``frame_mask`` is
    False those of the frame mean nothing. ``deletion_value`` is arctan(d / 3) * 2 / pi.
    ``cyclic_period`` is the number of residues of a cyclic chain, 0 for tokens of linear ones.
    Tokens of one chain, and atoms of one token, are contiguous and in order.
    """

    restype: Int[Tensor, "*B N_token"]
    residue_index: Int[Tensor, "*B N_token"]
    token_index: Int[Tensor, "*B N_token"]
    asym_id: Int[Tensor, "*B N_token"]
    entity_id: Int[Tensor, "*B N_token"]
    sym_id: Int[Tensor, "*B N_token"]
    cyclic_period: Int[Tensor, "*B N_token"]
    kind: Int[Tensor, "*B N_token"]
    token_mask: Bool[Tensor, "*B N_token"]
    token_bonds: Bool[Tensor, "*B N_token N_token"]

    msa: Int[Tensor, "*B N_msa N_token"]
    msa_mask: Bool[Tensor, "*B N_msa N_token"]
    has_deletion: Bool[Tensor, "*B N_msa N_token"]
    deletion_value: Float[Tensor, "*B N_msa N_token"]
    profile: Float[Tensor, "*B N_token 32"]
    deletion_mean: Float[Tensor, "*B N_token"]

    template_restype: Int[Tensor, "*B N_templ N_token"]
    template_backbone_mask: Bool[Tensor, "*B N_templ N_token"]
    template_pseudo_beta_mask: Bool[Tensor, "*B N_templ N_token"]
    template_frame: Float[Tensor, "*B N_templ N_token 3 3"]
    template_origin: Float[Tensor, "*B N_templ N_token 3"]
    template_pseudo_beta: Float[Tensor, "*B N_templ N_token 3"]

    ref_pos: Float[Tensor, "*B N_atom 3"]
    ref_mask: Bool[Tensor, "*B N_atom"]
    ref_element: Int[Tensor, "*B N_atom"]
    ref_charge: Int[Tensor, "*B N_atom"]
    ref_atom_name_chars: Int[Tensor, "*B N_atom 4"]
    ref_space_uid: Int[Tensor, "*B N_atom"]
    atom_to_token: Int[Tensor, "*B N_atom"]
    atom_slot: Int[Tensor, "*B N_atom"]
    atom_mask: Bool[Tensor, "*B N_atom"]
    centre_atom: Int[Tensor, "*B N_token"]
    representative_atom: Int[Tensor, "*B N_token"]
    frame_atoms: Int[Tensor, "*B N_token 3"]
    frame_mask: Bool[Tensor, "*B N_token"]

    labels: Labels | None = None

    @property
    def n_token(self) -> int:
        """Length of the token axis, padding included."""
        return self.restype.shape[-1]

    @property
    def n_atom(self) -> int:
        """Length of the atom axis, padding included."""
        return self.atom_mask.shape[-1]


def collate(examples: Sequence[Features]) -> Features:
    """Stacks unbatched examples, padding every ``N_*`` axis to the longest.

    Raises:
        ValueError: if there are no examples, or only some of them have labels.
    """
    if not examples:
        raise ValueError("collate: no examples; expected at least one")
    with_labels = [e.labels is not None for e in examples]
    if any(with_labels) and not all(with_labels):
        raise ValueError("collate: some examples have labels and some do not; expected all or none")
    return _stack(examples)


def _stack(records: Sequence[Any]) -> Any:
    kind = type(records[0])
    stacked: dict[str, Any] = {}
    for name, axes in kind.axes().items():
        tensors = [getattr(r, name) for r in records]
        shape = [max(t.shape[i] for t in tensors) for i in range(len(axes))]
        out = tensors[0].new_zeros([len(tensors), *shape])
        for row, t in zip(out, tensors, strict=True):
            row[tuple(slice(n) for n in t.shape)] = t
        stacked[name] = out
    for field in dataclasses.fields(kind):
        values = [getattr(r, field.name) for r in records]
        if isinstance(values[0], _Tensors):
            stacked[field.name] = _stack(values)
    return kind(**stacked)
