"""Glycans written as Chai-1 does: ``NAG(4-1 NAG(4-1 BMA(3-1 MAN)(6-1 MAN)))``.

The root stands first; what follows a residue in brackets is bonded to it, ``4-1`` meaning O4 of
the residue outside to C1 of the residue inside.
"""

import re

from seedfold.data_pipeline.dialects.place import Place
from seedfold.data_pipeline.dialects.sequence import CCD_CODE

_TOKENS = re.compile(rf"\s*(?:\(\s*(\d)\s*-\s*(\d)\s*|(\()|(\))|({CCD_CODE.pattern}))")

Link = tuple[int, str, int, str]
"""Residue (1-based) and atom of the parent, residue and atom of the child."""


def parse_glycan(written: str, place: Place) -> tuple[list[str], list[Link]]:
    """Returns the CCD codes from the root on and the bonds between them."""
    codes: list[str] = []
    links: list[Link] = []
    parents: list[int] = []
    last, carbons, end = 0, None, 0
    written = written.strip()
    while end < len(written):
        match = _TOKENS.match(written, end)
        outer, inner, open_, close, code = match.groups() if match else (None,) * 5
        if match is None or (code and (last or (codes and not carbons))):
            raise _error(written, end, place)
        if code:
            codes.append(code.upper())
            last = len(codes)
            if carbons:
                links.append((parents[-1], f"O{carbons[0]}", last, f"C{carbons[1]}"))
            carbons = None
        elif close:
            if not parents or not last:
                raise _error(written, end, place)
            last = parents.pop()
        elif open_ or not last:
            raise _error(written, end, place)
        else:
            parents.append(last)
            last, carbons = 0, (outer, inner)
        end = match.end()
    if parents or not codes:
        raise place.error(f"the glycan '{written}' ends too early", todo="close every bracket")
    return codes, links


def _error(written: str, position: int, place: Place) -> Exception:
    return place.error(
        f"the glycan '{written}' cannot be read from '{written[position:]}' on",
        expected="CCD codes with bonds in brackets, e.g. NAG(4-1 NAG(4-1 BMA(3-1 MAN)(6-1 MAN)))",
    )
