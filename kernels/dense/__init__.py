"""LayerNorm, gates and linear maps over pairs: Triton launchers that the operations share."""
