"""FeatureOptions: how much of an input a network is shown, and by which conventions.

Whatever a network was trained on it has to be shown again, so these stand in the file of its
weights. The module imports nothing: files of weights are read where no chemistry is installed.
"""

from dataclasses import dataclass
from typing import Literal

Conformers = Literal["apart", "together", "still"]


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Limits and conventions of the features; the defaults are Protenix's."""

    n_msa_rows: int = 16384
    """Most rows of the alignment."""
    n_paired_rows: int = 8192
    """Most rows of its block that is paired by species."""
    n_templates: int = 4
    """Template slots, filled or not."""
    terminal_atoms: bool = True
    """Polymers end in OXT and begin with OP3, and slots of atoms are counted with them."""
    ligand_gaps: bool = False
    """Atoms of ligands are gaps in the first row of the alignment and in the profile, not UNK."""
    query_twice: bool = True
    """Without pairing the query is in both blocks of the alignment, that of paired rows and the
    other, instead of once."""
    query_fills_rows: bool = True
    """Nucleic acids and ligands repeat their first row where they have none, instead of gaps."""
    template_gaps: bool = True
    """A chain without templates has gaps in the first slot, instead of class 0."""
    conformers: Conformers = "apart"
    """Each residue's reference conformer is centred and moved at random (AF3); or one motion moves
    all (IntelliFold); or each is centred and stands as it was made, the same for equal residues in
    every input: nothing to see through for a network that is trained briefly."""
