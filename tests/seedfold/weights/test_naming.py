import pytest
import torch

from seedfold.weights.naming import convert, translate

INNER = {"norm": "layer_norm", "mlp.*": "steps.*"}
TABLE = {
    "stack.blocks.*": ("blocks.*", INNER),
    "stack.blocks.*.norm.special": "blocks.*.special",
    "stack": "rest",
    "head_weight": "weight",
}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stack.blocks.12.norm.weight", "blocks.12.layer_norm.weight"),
        ("stack.blocks.3.mlp.5.bias", "blocks.3.steps.5.bias"),
        ("stack.blocks.3.norm.special", "blocks.3.special"),
        ("stack.blocks.3.unknown.weight", "rest.blocks.3.unknown.weight"),
        ("stack.scale", "rest.scale"),
        ("head_weight", "weight"),
        ("head_weights", None),
        ("blocks.1.norm.weight", None),
    ],
)
def test_names(theirs, ours):
    assert translate(theirs, TABLE) == ours


def test_every_tensor_once():
    table = {"a": "x", "b": "y", "c": "x"}
    expected = {"x.weight": torch.zeros(2), "y.weight": torch.zeros(3, dtype=torch.float64)}
    source = {"a.weight": torch.ones(2), "b.weight": torch.ones(3)}
    found = convert(source, table, expected, "Donor")
    assert found["y.weight"].dtype == torch.float64 and set(found) == set(expected)
    for change, message in (
        ({"c.weight": torch.ones(2)}, "'c.weight' and 'a.weight' both fill 'x.weight'"),
        ({"d.weight": torch.ones(2)}, r"tensor 'd.weight' \(2,\) has no place"),
        ({"a.weight": torch.ones(1, 2)}, r"'a.weight' has shape \(1, 2\); expected \(2,\)"),
        ({"a.weight": None}, r"nothing fills 'x.weight' \(2,\)"),
    ):
        broken = {k: v for k, v in {**source, **change}.items() if v is not None}
        with pytest.raises(ValueError, match=message):
            convert(broken, table, expected, "Donor")
