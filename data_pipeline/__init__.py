"""From files and sequences to the features that the network sees.

The flow, one module a step: `dialects.read_queries` -> `query.Query` -> `structure.build_structure`
-> `structure.Structure` -> `featurize.featurize` (with `tokens`, `msa`, `templates`) ->
`features.Features`. `mmcif` reads structures, `output` writes them, `stereochemistry` judges them.

Nothing is imported here: the network may import `features` and `chemistry` where no chemistry
library is installed.
"""
