"""The network. Names are those of the AF3 supplement, in code and in checkpoints.

    f            features                          s_inputs  embedded inputs  [B N_token 449]
    s            single representation [B N_token 384]
    z            pair representation   [B N_token N_token c_z]
    m            MSA representation    [B N_msa N_token c_m]
    a            token activations     [B N_sample N_token c_token]
    q, c         atom activations and conditioning  [B N_sample N_atom c_atom]; q also: queries
    p            atom pairs, as the atom mixer keeps them
    x, r         coordinates in Angstrom; the same scaled to unit variance
    t_hat        noise level, Angstrom
    i, j, k      token indices         l, m           atom indices

Axes are called N_*, widths c_*, counts in configurations n_*; masks are True where real.
`seedfold.model.seedfold` is the whole, `seedfold.model.presets` has the named configurations.
"""
