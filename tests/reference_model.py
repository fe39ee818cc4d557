"""An AlphaFold-3-like network written down a second time, for tests: plain, dense, in float64.

Straight from the algorithms of the AF3 supplement, one function each, without batches, windows,
caches or masks of padding; it shares no code with `seedfold`. Weights are looked up by name in a
mapping. `python -m tests.reference_model` writes `tests/data/own_golden.safetensors`.
"""

import math
from itertools import pairwise

import torch

N_QUERIES, N_KEYS, N_CYCLES = 8, 16, 2
N_TOKEN, N_ATOM, N_MSA = 11, 35, 3
CONFIG = {
    "c_s": 24, "c_z": 16, "c_m": 8, "c_token": 24, "c_token_input": 12, "c_atom": 8,
    "c_atompair": 4,
    "embedding": {
        "n_blocks": 2, "atom_mixer": {"n_heads": 2, "n_queries": N_QUERIES, "n_keys": N_KEYS}
    },
    "trunk": {
        "template": {
            "n_blocks": 1, "c": 8,
            "pair": {"triangle_attention": {"kind": "softmax", "c_head": 4}, "transition_n": 2},
        },
        "msa": {
            "n_blocks": 2, "n_heads": 2, "c_hidden_opm": 3,
            "pair": {"triangle_attention": {"kind": "softmax", "c_head": 8}},
        },
        "pairformer": {
            "n_blocks": 2, "n_heads": 4,
            "pair": {"triangle_attention": {"kind": "softmax", "c_head": 8}},
        },
    },
    "diffusion": {
        "conditioning": {"c_cond": 20, "c_noise": 6},
        "transformer": {"n_blocks": 2, "n_heads": 3, "extra_factor": True},
        "atom_mixer": {"n_heads": 2, "n_queries": N_QUERIES, "n_keys": N_KEYS},
        "n_encoder_blocks": 1, "n_decoder_blocks": 2,
    },
    "confidence": {
        "pairformer": {
            "n_blocks": 1, "n_heads": 4,
            "pair": {"triangle_attention": {"kind": "softmax", "c_head": 8}},
        },
        "s_norm": True,
    },
}  # fmt: skip
"""A SeedFold of a few thousand parameters, with AF3's conventions."""
T_HAT = (90.0, 0.7)


def weights(shapes):
    """Weights that no random generator decides: sines of the position, scaled by the fan-in."""
    found = {}
    for name, shape in shapes.items():
        n = math.prod(shape)
        start = sum(ord(c) * (i + 1) for i, c in enumerate(name)) % 9973
        wave = torch.sin(torch.arange(n, dtype=torch.float64) * 1.7 + start) + torch.cos(
            torch.arange(n, dtype=torch.float64) ** 2 * 0.37 + start
        )
        is_norm = "norm" in name and name.endswith("weight")
        scale = 0.3 if len(shape) < 2 else 1.2 / math.sqrt(shape[-1])
        found[name] = (wave * scale + float(is_norm)).reshape(shape)
    return found


def example():
    """Eleven tokens: two chains of three equal residues, a nucleotide, four ligand atoms."""

    def wave(*shape, phase=0.0, scale=1.0):
        n = math.prod(shape)
        return (torch.sin(torch.arange(n, dtype=torch.float64) * 1.3 + phase) * scale).reshape(
            shape
        )

    sizes = [5, 4, 5, 5, 4, 5, 3, 1, 1, 1, 1]
    atom_to_token = torch.tensor([t for t, n in enumerate(sizes) for _ in range(n)])
    first = torch.tensor([sum(sizes[:t]) for t in range(N_TOKEN)])
    names = torch.arange(N_ATOM * 4).reshape(N_ATOM, 4) * 7 % 64
    names[28] = torch.tensor([ord(c) - 32 for c in "P   "])
    slots = torch.arange(N_ATOM) - first[atom_to_token]
    slots[atom_to_token == 6] += 1  # the nucleotide has no OP3, which is slot 0
    frame = torch.linalg.qr(wave(1, N_TOKEN, 3, 3, phase=0.4))[0]
    true = torch.ones((), dtype=torch.bool)
    backbone = torch.arange(N_TOKEN)[None] % 4 != 1
    return {
        "restype": torch.tensor([3, 7, 0, 3, 7, 0, 22, 20, 20, 20, 20]),
        "residue_index": torch.tensor([1, 2, 3, 1, 2, 3, 1, 1, 1, 1, 1]),
        "token_index": torch.arange(N_TOKEN),
        "asym_id": torch.tensor([0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 3]),
        "entity_id": torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2]),
        "sym_id": torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]),
        "cyclic_period": torch.zeros(N_TOKEN, dtype=torch.long),
        "kind": torch.tensor([0, 0, 0, 0, 0, 0, 2, 3, 3, 3, 3]),
        "token_mask": true.expand(N_TOKEN),
        "token_bonds": torch.arange(N_TOKEN)[:, None] + torch.arange(N_TOKEN) == 17,
        "msa": torch.arange(N_MSA * N_TOKEN).reshape(N_MSA, N_TOKEN) * 5 % 32,
        "msa_mask": true.expand(N_MSA, N_TOKEN),
        "has_deletion": torch.arange(N_MSA * N_TOKEN).reshape(N_MSA, N_TOKEN) % 5 == 0,
        "deletion_value": wave(N_MSA, N_TOKEN, phase=2.0).abs(),
        "profile": wave(N_TOKEN, 32, phase=1.0).abs(),
        "deletion_mean": wave(N_TOKEN, phase=3.0).abs(),
        "template_restype": torch.arange(N_TOKEN)[None] * 3 % 32,
        "template_backbone_mask": backbone,
        "template_pseudo_beta_mask": torch.arange(N_TOKEN)[None] % 5 != 2,
        "template_frame": frame,
        "template_origin": wave(1, N_TOKEN, 3, phase=0.2, scale=9.0),
        "template_pseudo_beta": wave(1, N_TOKEN, 3, phase=0.9, scale=9.0),
        "ref_pos": wave(N_ATOM, 3, phase=0.5, scale=3.0),
        "ref_mask": torch.arange(N_ATOM) != 9,
        "ref_element": torch.tensor([7, 6, 6, 8, 16])[torch.arange(N_ATOM) % 5],
        "ref_charge": torch.arange(N_ATOM) % 3 - 1,
        "ref_atom_name_chars": names,
        "ref_space_uid": atom_to_token.clamp(max=7),
        "atom_to_token": atom_to_token,
        "atom_slot": slots,
        "atom_mask": true.expand(N_ATOM),
        "centre_atom": first,
        "representative_atom": first + torch.tensor(sizes) // 2,
        "frame_atoms": first[:, None].expand(N_TOKEN, 3),
        "frame_mask": true.expand(N_TOKEN),
        "x_noisy": wave(2, N_ATOM, 3, phase=0.1, scale=40.0)
        * torch.tensor(T_HAT)[:, None, None]
        / 40,
        "x_conf": wave(N_ATOM, 3, phase=1.1, scale=12.0),
    }


class Scope:
    """Weights below a prefix."""

    def __init__(self, tensors, prefix=""):
        self.tensors, self.prefix = tensors, prefix

    def __getitem__(self, name):
        return self.tensors[self.prefix + name]

    def __contains__(self, name):
        return self.prefix + name in self.tensors

    def under(self, name):
        return Scope(self.tensors, f"{self.prefix}{name}.")

    def blocks(self, name="blocks"):
        n = 0
        while any(k.startswith(f"{self.prefix}{name}.{n}.") for k in self.tensors):
            yield self.under(f"{name}.{n}")
            n += 1

    def linear(self, name, x):
        y = torch.einsum("...i,oi->...o", x, self[f"{name}.weight"])
        return y + self[f"{name}.bias"] if f"{name}.bias" in self else y

    def norm(self, name, x):
        y = normalise(x)
        if f"{name}.weight" in self:
            y = y * self[f"{name}.weight"]
        return y + self[f"{name}.bias"] if f"{name}.bias" in self else y


def normalise(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)


def one_hot(index, n):
    return (index[..., None] == torch.arange(n)).double()


def silu(x):
    return x * torch.sigmoid(x)


def split_heads(x, n):
    return x.reshape(*x.shape[:-1], n, -1)


def transition(w, x):  # 11
    y = w.norm("layer_norm", x)
    return w.linear("linear_out", silu(w.linear("linear_a", y)) * w.linear("linear_b", y))


def adaln(w, a, s):  # 26
    s = w.norm("layer_norm_s", s)
    return torch.sigmoid(w.linear("linear_scale", s)) * normalise(a) + w.linear("linear_offset", s)


def conditioned_transition(w, a, s):  # 25
    a = adaln(w.under("adaln"), a, s)
    b = silu(w.linear("linear_a", a)) * w.linear("linear_b", a)
    if "linear_factor.weight" in w:
        b = b * w.linear("linear_factor", a)
    return torch.sigmoid(w.linear("linear_gate", s)) * w.linear("linear_out", b)


def attention(w, queries, keys, bias):  # 24, bias [query, key, head]
    n = bias.shape[-1]
    q, k, v = (
        split_heads(w.linear(name, x), n)
        for name, x in (("linear_q", queries), ("linear_k", keys), ("linear_v", keys))
    )
    logits = torch.einsum("ihc,jhc->ijh", q, k) / math.sqrt(q.shape[-1]) + bias
    o = torch.einsum("ijh,jhc->ihc", logits.softmax(1), v).flatten(-2)
    return w.linear("linear_out", torch.sigmoid(w.linear("linear_g", queries)) * o)


# Atoms --------------------------------------------------------------------------------------------


def atom_conditioning(w, f):  # 5, line 1
    w = w.under("atom_features")
    c = w.linear("linear_pos", f["ref_pos"])
    c = c + w.linear("linear_charge", torch.asinh(f["ref_charge"].double())[:, None])
    c = c + w.linear("linear_mask", f["ref_mask"].double()[:, None])
    c = c + w.linear("linear_element", one_hot(f["ref_element"], 128))
    c = c + w.linear("linear_name", one_hot(f["ref_atom_name_chars"], 64).flatten(-2))
    return c * f["ref_mask"][:, None]


def atom_pairs(w, f, c, z):  # 5, lines 2-6, 10, 13, 14
    d = f["ref_pos"][:, None] - f["ref_pos"][None]
    v = (f["ref_space_uid"][:, None] == f["ref_space_uid"][None]).double()[..., None]
    p = w.linear("linear_d", d) * v
    p = p + w.linear("linear_d_inverse", 1 / (1 + (d**2).sum(-1, keepdim=True))) * v
    p = p + w.linear("linear_same_space", v)
    if z is not None:
        t = f["atom_to_token"]
        p = p + w.linear("linear_z", w.norm("layer_norm_z", z))[t][:, t]
    p = p + w.linear("linear_query", c.relu())[:, None] + w.linear("linear_key", c.relu())[None]
    h = w.linear("mlp.1", p.relu())
    h = w.linear("mlp.3", h.relu())
    return p + w.linear("mlp.5", h.relu())


def local_mask(n_atom):  # 7, lines 1, 2
    beta = torch.full((n_atom, n_atom), -math.inf, dtype=torch.float64)
    for block in range(math.ceil(n_atom / N_QUERIES)):
        centre = block * N_QUERIES + N_QUERIES / 2 - 0.5
        for i in range(n_atom):
            for j in range(n_atom):
                if abs(i - centre) < N_QUERIES / 2 and abs(j - centre) < N_KEYS / 2:
                    beta[i, j] = 0.0
    return beta


def atom_transformer(w, q, c, p):  # 7, 23
    beta = local_mask(len(q))[..., None]
    p = w.norm("layer_norm_p", p)
    for block in w.blocks():
        a = block.under("attention")
        queries, keys = adaln(a.under("adaln_query"), q, c), adaln(a.under("adaln_key"), q, c)
        o = attention(a, queries, keys, a.linear("linear_p", p) + beta)
        q = q + torch.sigmoid(a.linear("linear_gate", c)) * o
        q = q + conditioned_transition(block.under("transition"), q, c)
    return q


def token_means(a, f):
    index = f["atom_to_token"]
    return torch.stack([a[index == t].mean(0) for t in range(N_TOKEN)])


def atom_encoder(w, f, s=None, z=None, r=None):  # 5
    c = atom_conditioning(w, f)
    if s is not None:
        c = c + w.linear("linear_s", w.norm("layer_norm_s", s))[f["atom_to_token"]]
    mixer = w.under("atom_mixer")
    p = atom_pairs(mixer.under("pair_embedding"), f, c, z)
    q = c if r is None else c + w.linear("linear_r", r)
    q = atom_transformer(mixer, q, c, p)
    return token_means(w.linear("linear_token", q).relu(), f), q, c, p


def input_embedder(w, f):  # 2
    a, *_ = atom_encoder(w.under("atom_attention_encoder"), f)
    return torch.cat([a, one_hot(f["restype"], 32), f["profile"], f["deletion_mean"][:, None]], -1)


# Pairs --------------------------------------------------------------------------------------------


def triangle_multiplication(w, z, outgoing):  # 12, 13
    y = w.norm("layer_norm_in", z)
    a = torch.sigmoid(w.linear("linear_a_gate", y)) * w.linear("linear_a", y)
    b = torch.sigmoid(w.linear("linear_b_gate", y)) * w.linear("linear_b", y)
    o = torch.einsum("ikc,jkc->ijc" if outgoing else "kic,kjc->ijc", a, b)
    o = w.linear("linear_out", w.norm("layer_norm_out", o))
    return torch.sigmoid(w.linear("linear_gate", y)) * o


def triangle_attention(w, z, starting):  # 14, 15
    y = w.norm("layer_norm", z)
    n = w["linear_bias.weight"].shape[0]
    q, k, v = (split_heads(w.linear(f"linear_{x}", y), n) for x in "qkv")
    b, g = w.linear("linear_bias", y), torch.sigmoid(w.linear("linear_gate", y))
    scale = math.sqrt(q.shape[-1])
    if starting:
        logits = torch.einsum("ijhc,ikhc->ijkh", q, k) / scale + b[None]
        o = torch.einsum("ijkh,ikhc->ijhc", logits.softmax(2), v)
    else:
        logits = torch.einsum("ijhc,kjhc->ijkh", q, k) / scale + b.transpose(0, 1)[:, None]
        o = torch.einsum("ijkh,kjhc->ijhc", logits.softmax(2), v)
    return w.linear("linear_out", g * o.flatten(-2))


def pair_block(w, z):  # 17, lines 2-6
    z = z + triangle_multiplication(w.under("triangle_multiplication_outgoing"), z, True)
    z = z + triangle_multiplication(w.under("triangle_multiplication_incoming"), z, False)
    z = z + triangle_attention(w.under("triangle_attention_starting"), z, True)
    z = z + triangle_attention(w.under("triangle_attention_ending"), z, False)
    return z + transition(w.under("pair_transition"), z)


def pairformer(w, s, z):  # 17
    for block in w.blocks():
        z = pair_block(block.under("pair_block"), z)
        a = block.under("attention_pair_bias")
        y = a.norm("norm_a", s)
        s = s + attention(a, y, y, a.linear("linear_z", a.norm("layer_norm_z", z)))
        s = s + transition(block.under("single_transition"), s)
    return s, z


def relative_positions(f):  # 3
    def pair(name):
        return f[name][:, None], f[name][None]

    def offset(name, limit, comparable):
        i, j = pair(name)
        d = (i - j + limit).clamp(0, 2 * limit)
        return one_hot(torch.where(comparable, d, 2 * limit + 1), 2 * limit + 2)

    chain, entity, residue = (torch.eq(*pair(n)) for n in ("asym_id", "entity_id", "residue_index"))
    parts = (
        offset("residue_index", 32, chain),
        offset("token_index", 32, chain & residue),
        entity.double()[..., None],
        offset("sym_id", 2, entity),
    )
    return torch.cat(parts, -1)


def template_features(f, t):  # 16, lines 1-5
    chain = f["asym_id"][:, None] == f["asym_id"][None]

    def pair_mask(name):
        m = f[name][t]
        return (m[:, None] & m[None] & chain).double()[..., None]

    beta_mask, frame_mask = (
        pair_mask(n) for n in ("template_pseudo_beta_mask", "template_backbone_mask")
    )
    x, o = f["template_pseudo_beta"][t], f["template_origin"][t]
    d = (x[None] - x[:, None]).norm(dim=-1)
    edges = [*torch.linspace(3.25, 50.75, 39, dtype=torch.float64).tolist(), math.inf]
    bins = torch.stack([(d > a) & (d <= b) for a, b in pairwise(edges)], -1).double()
    local = torch.einsum("iab,ija->ijb", f["template_frame"][t], o[None] - o[:, None])
    unit = local / (local.norm(dim=-1, keepdim=True) + 1e-6)
    restype = one_hot(f["template_restype"][t], 32)
    n = len(restype)
    column, row = restype[None].expand(n, n, 32), restype[:, None].expand(n, n, 32)
    return torch.cat([bins * beta_mask, beta_mask, column, row, unit * frame_mask, frame_mask], -1)


def template_embedder(w, f, z):  # 16
    n_templates = len(f["template_restype"])
    v_z, u = w.linear("linear_z", w.norm("layer_norm_z", z)), 0
    for t in range(n_templates):
        v = v_z + w.linear("linear_features", template_features(f, t))
        for block in w.blocks():
            v = pair_block(block, v)
        u = u + w.norm("layer_norm_v", v)
    return w.linear("linear_out", (u / n_templates).relu())


def outer_product_mean(w, m):  # 9
    y = w.norm("layer_norm", m)
    a, b = w.linear("linear_a", y), w.linear("linear_b", y)
    o = torch.einsum("sic,sjd->ijcd", a, b).flatten(-2)
    return w.linear("linear_out", o) / (len(m) + 1e-3)


def pair_weighted_averaging(w, m, z):  # 10
    b = w.linear("linear_z", w.norm("layer_norm_z", z)).softmax(1)
    y = w.norm("layer_norm_m", m)
    v = split_heads(w.linear("linear_v", y), b.shape[-1])
    o = torch.einsum("ijh,sjhc->sihc", b, v).flatten(-2)
    return w.linear("linear_out", torch.sigmoid(w.linear("linear_gate", y)) * o)


def msa_module(w, f, s_inputs, z):  # 8
    deletions = torch.stack([f["has_deletion"].double(), f["deletion_value"]], -1)
    m = w.linear("linear_m", torch.cat([one_hot(f["msa"], 32), deletions], -1))
    m = m + w.linear("linear_s", s_inputs)
    blocks = list(w.blocks())
    for i, block in enumerate(blocks):
        z = z + outer_product_mean(block.under("outer_product_mean"), m)
        if i + 1 < len(blocks):
            update = block.under("msa_update")
            m = m + pair_weighted_averaging(update.under("pair_weighted_averaging"), m, z)
            m = m + transition(update.under("transition"), m)
        z = pair_block(block.under("pair_block"), z)
    return z


def trunk(w, f, s_inputs):  # 1
    s_init = w.linear("linear_s_init", s_inputs)
    z_init = w.linear("linear_z_init_i", s_inputs)[:, None]
    z_init = z_init + w.linear("linear_z_init_j", s_inputs)[None]
    z_init = z_init + w.linear("relative_position_encoding.linear", relative_positions(f))
    z_init = z_init + w.linear("linear_token_bonds", f["token_bonds"].double()[..., None])
    s, z = torch.zeros_like(s_init), torch.zeros_like(z_init)
    for _ in range(N_CYCLES):
        z = z_init + w.linear("linear_z", w.norm("layer_norm_z", z))
        s = s_init + w.linear("linear_s", w.norm("layer_norm_s", s))
        z = z + template_embedder(w.under("template_embedder"), f, z)
        z = msa_module(w.under("msa_module"), f, s_inputs, z)
        s, z = pairformer(w.under("pairformer"), s, z)
    return s, z


# Structure module and heads -----------------------------------------------------------------------


def conditioning(w, f, s_inputs, s, z, t_hat):  # 21
    z = w.linear("linear_z", w.norm("layer_norm_z", torch.cat([z, relative_positions(f)], -1)))
    for block in w.blocks("pair_transitions"):
        z = z + transition(block, z)
    s = w.linear("linear_s", w.norm("layer_norm_s", torch.cat([s, s_inputs], -1)))
    fourier = w.under("fourier_embedding")
    n = torch.cos(2 * math.pi * (math.log(t_hat / 16) / 4 * fourier["w"] + fourier["b"]))
    s = s + w.linear("linear_noise", w.norm("layer_norm_noise", n))
    for block in w.blocks("single_transitions"):
        s = s + transition(block, s)
    return s, z


def denoise(w, f, s_inputs, s_trunk, z_trunk, x_noisy, t_hat):  # 20
    s, z = conditioning(w.under("diffusion_conditioning"), f, s_inputs, s_trunk, z_trunk, t_hat)
    r = x_noisy / math.sqrt(t_hat**2 + 256)
    a, q, c, p = atom_encoder(w.under("atom_attention_encoder"), f, s_trunk, z, r)
    a = a + w.linear("linear_s", w.norm("layer_norm_s", s))
    stack = w.under("diffusion_transformer")
    z_normed = stack.norm("layer_norm_z", z)
    for block in stack.blocks():  # 23
        att = block.under("attention_pair_bias")
        y = adaln(att.under("norm_a"), a, s)
        o = attention(att, y, y, att.linear("linear_z", z_normed))
        a = a + torch.sigmoid(att.linear("linear_s", s)) * o
        a = a + conditioned_transition(block.under("transition"), a, s)
    a = w.norm("layer_norm_a", a)
    decoder = w.under("atom_attention_decoder")  # 6
    q = q + decoder.linear("linear_a", a)[f["atom_to_token"]]
    q = atom_transformer(decoder.under("atom_mixer"), q, c, p)
    r = decoder.linear("linear_r_update", decoder.norm("layer_norm_q", q))
    return 256 / (256 + t_hat**2) * x_noisy + 16 * t_hat / math.sqrt(256 + t_hat**2) * r


def confidence(w, f, s_inputs, s, z, x):  # 31
    s = w.norm("layer_norm_s", s.clamp(-512, 512))
    z = z + w.linear("linear_s_inputs_i", s_inputs)[:, None]
    z = z + w.linear("linear_s_inputs_j", s_inputs)[None]
    centre = x[f["representative_atom"]]
    d = (centre[:, None] - centre[None]).norm(dim=-1)
    edges = [*torch.linspace(3.25, 50.75, 39, dtype=torch.float64).tolist(), math.inf]
    bins = torch.stack([(d > a) & (d <= b) for a, b in pairwise(edges)], -1).double()
    s, z = pairformer(w.under("pairformer"), s, z + w.linear("linear_distance_bin", bins))
    index = f["atom_to_token"]
    slots = f["atom_slot"]
    out = {
        "pae_logits": w.linear("linear_pae", w.norm("layer_norm_pae", z)),
        "pde_logits": w.linear("linear_pde", w.norm("layer_norm_pde", z + z.transpose(0, 1))),
    }
    for name in ("plddt", "resolved"):
        y = w.norm(f"layer_norm_{name}", s)[index]
        out[f"{name}_logits"] = torch.einsum("ac,acn->an", y, w[f"weight_{name}"][slots])
    return out


def run(tensors, f):
    """Every output of the network, by name."""
    w = Scope(tensors)
    s_inputs = input_embedder(w.under("input_embedder"), f)
    s, z = trunk(w.under("trunk"), f, s_inputs)
    logits = w.linear("distogram_head.linear", z)
    x = [
        denoise(w.under("diffusion_module"), f, s_inputs, s, z, x_noisy, t_hat)
        for x_noisy, t_hat in zip(f["x_noisy"], T_HAT, strict=True)
    ]
    return {
        "s_inputs": s_inputs,
        "s": s,
        "z": z,
        "distogram_logits": logits + logits.transpose(0, 1),
        "x_denoised": torch.stack(x),
        **confidence(w.under("confidence_head"), f, s_inputs, s, z, f["x_conf"]),
    }


def stored(outputs):
    """What is kept in the golden file: whole tensors, of the largest every fourth row."""
    return {
        name: (t[::4] if t.numel() > 4000 else t).float().contiguous()
        for name, t in outputs.items()
    }


if __name__ == "__main__":
    from pathlib import Path

    from safetensors.torch import save_file

    from seedfold.config import from_dict
    from seedfold.model.seedfold import SeedFold

    network = SeedFold(from_dict(SeedFold.Config, CONFIG))
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    found = stored(run(weights(shapes), example()))
    save_file(found, Path(__file__).parent / "data" / "own_golden.safetensors")
