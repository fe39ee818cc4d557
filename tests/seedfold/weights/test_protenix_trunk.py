import pytest
from safetensors import safe_open

from seedfold.weights.naming import translate
from seedfold.weights.protenix_trunk import TRUNK

ELSEWHERE = ("input_embedder.", "diffusion_module.", "confidence_head.", "distogram_head.")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("linear_no_bias_zinit2.weight", "linear_z_init_j.weight"),
        (
            "pairformer_stack.blocks.47.tri_mul_in.linear_a_g.weight",
            "pairformer.blocks.47.pair_block.triangle_multiplication_incoming.linear_a_gate.weight",
        ),
        (
            "pairformer_stack.blocks.3.tri_att_end.linear.weight",
            "pairformer.blocks.3.pair_block.triangle_attention_ending.linear_bias.weight",
        ),
        (
            "pairformer_stack.blocks.3.attention_pair_bias.attention.linear_q.bias",
            "pairformer.blocks.3.attention_pair_bias.linear_q.bias",
        ),
        (
            "msa_module.blocks.0.msa_stack.transition_m.linear_no_bias.weight",
            "msa_module.blocks.0.msa_update.transition.linear_out.weight",
        ),
        (
            "msa_module.blocks.2.outer_product_mean_msa.linear_2.weight",
            "msa_module.blocks.2.outer_product_mean.linear_b.weight",
        ),
        (
            "template_embedder.pairformer_stack.blocks.1.pair_transition.linear_no_bias_b.weight",
            "template_embedder.blocks.1.pair_transition.linear_b.weight",
        ),
    ],
)
def test_known_names(theirs, ours):
    assert translate(theirs, TRUNK) == ours


def test_every_tensor_of_their_trunk_has_a_place_of_its_own(golden_folders):
    for folder in golden_folders:
        with safe_open(folder / "reference_state_dict.safetensors", "pt") as file:
            names = [name for name in file.keys() if not name.startswith(ELSEWHERE)]  # noqa: SIM118
        ours = [translate(name, TRUNK) for name in names]
        assert len(names) > 200
        assert None not in ours
        assert len(set(ours)) == len(ours)
