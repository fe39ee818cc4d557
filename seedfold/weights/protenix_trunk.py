"""Protenix's names for the parameters of the trunk, and ours, relative to the trunk.

`PAIRFORMER_STACK` also serves their confidence head. No tensor changes its shape or order.
"""

from seedfold.weights.naming import Table

_TRIANGLE_MULTIPLICATION: Table = {
    "layer_norm_in": "layer_norm_in",
    "linear_a_p": "linear_a",
    "linear_a_g": "linear_a_gate",
    "linear_b_p": "linear_b",
    "linear_b_g": "linear_b_gate",
    "layer_norm_out": "layer_norm_out",
    "linear_z": "linear_out",
    "linear_g": "linear_gate",
}
_TRIANGLE_ATTENTION: Table = {
    "layer_norm": "layer_norm",
    "linear": "linear_bias",
    "mha.linear_q": "linear_q",
    "mha.linear_k": "linear_k",
    "mha.linear_v": "linear_v",
    "mha.linear_g": "linear_gate",
    "mha.linear_o": "linear_out",
}
TRANSITION: Table = {
    "layernorm1": "layer_norm",
    "linear_no_bias_a": "linear_a",
    "linear_no_bias_b": "linear_b",
    "linear_no_bias": "linear_out",
}
_PAIR_BLOCK: Table = {
    "tri_mul_out": ("triangle_multiplication_outgoing", _TRIANGLE_MULTIPLICATION),
    "tri_mul_in": ("triangle_multiplication_incoming", _TRIANGLE_MULTIPLICATION),
    "tri_att_start": ("triangle_attention_starting", _TRIANGLE_ATTENTION),
    "tri_att_end": ("triangle_attention_ending", _TRIANGLE_ATTENTION),
    "pair_transition": ("pair_transition", TRANSITION),
}
_SINGLE_ATTENTION: Table = {
    "layernorm_a": "norm_a",
    "layernorm_z": "layer_norm_z",
    "linear_nobias_z": "linear_z",
    "attention.linear_q": "linear_q",
    "attention.linear_k": "linear_k",
    "attention.linear_v": "linear_v",
    "attention.linear_g": "linear_g",
    "attention.linear_o": "linear_out",
}
_PAIRFORMER_BLOCK: Table = {
    **{theirs: (f"pair_block.{ours}", table) for theirs, (ours, table) in _PAIR_BLOCK.items()},
    "attention_pair_bias": ("attention_pair_bias", _SINGLE_ATTENTION),
    "single_transition": ("single_transition", TRANSITION),
}
PAIRFORMER_STACK: Table = {"blocks.*": ("blocks.*", _PAIRFORMER_BLOCK)}
_OUTER_PRODUCT_MEAN: Table = {
    "layer_norm": "layer_norm",
    "linear_1": "linear_a",
    "linear_2": "linear_b",
    "linear_out": "linear_out",
}
_PAIR_WEIGHTED_AVERAGING: Table = {
    "layernorm_m": "layer_norm_m",
    "linear_no_bias_mv": "linear_v",
    "layernorm_z": "layer_norm_z",
    "linear_no_bias_z": "linear_z",
    "linear_no_bias_mg": "linear_gate",
    "linear_no_bias_out": "linear_out",
}
_MSA_BLOCK: Table = {
    "outer_product_mean_msa": ("outer_product_mean", _OUTER_PRODUCT_MEAN),
    "msa_stack.msa_pair_weighted_averaging": (
        "msa_update.pair_weighted_averaging",
        _PAIR_WEIGHTED_AVERAGING,
    ),
    "msa_stack.transition_m": ("msa_update.transition", TRANSITION),
    "pair_stack": ("pair_block", _PAIR_BLOCK),
}
_MSA_MODULE: Table = {
    "linear_no_bias_m": "linear_m",
    "linear_no_bias_s": "linear_s",
    "blocks.*": ("blocks.*", _MSA_BLOCK),
}
_TEMPLATE_EMBEDDER: Table = {
    "layernorm_z": "layer_norm_z",
    "linear_no_bias_z": "linear_z",
    "linear_no_bias_a": "linear_features",
    "pairformer_stack.blocks.*": ("blocks.*", _PAIR_BLOCK),
    "layernorm_v": "layer_norm_v",
    "linear_no_bias_u": "linear_out",
}
TRUNK: Table = {
    "linear_no_bias_sinit": "linear_s_init",
    "linear_no_bias_zinit1": "linear_z_init_i",
    "linear_no_bias_zinit2": "linear_z_init_j",
    "relative_position_encoding.linear_no_bias": "relative_position_encoding.linear",
    "linear_no_bias_token_bond": "linear_token_bonds",
    "layernorm_s": "layer_norm_s",
    "linear_no_bias_s": "linear_s",
    "layernorm_z_cycle": "layer_norm_z",
    "linear_no_bias_z_cycle": "linear_z",
    "template_embedder": ("template_embedder", _TEMPLATE_EMBEDDER),
    "msa_module": ("msa_module", _MSA_MODULE),
    "pairformer_stack": ("pairformer", PAIRFORMER_STACK),
}
