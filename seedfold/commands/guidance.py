"""The option `--guidance`."""

from enum import StrEnum
from typing import Annotated

import typer


class GuidanceChoice(StrEnum):
    """Whether samples are kept to chemistry while they are made."""

    auto = "auto"
    on = "on"
    off = "off"

    @property
    def guided(self) -> bool | None:
        """None leaves it to the model."""
        return None if self is GuidanceChoice.auto else self is GuidanceChoice.on


Guidance = Annotated[
    GuidanceChoice,
    typer.Option(
        help="Keep bonds, angles, planes and hands within limits and atoms apart; auto = as the "
        "model is made for (nano: on, published models: off)."
    ),
]
