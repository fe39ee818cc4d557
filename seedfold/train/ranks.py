"""What the processes of a run tell each other, besides gradients."""

from typing import Any, TypeVar

import torch.distributed

Item = TypeVar("Item")


def gathered(own: list[Item]) -> list[Item]:
    """The items of all ranks, in the order of the ranks, on every rank; all have to ask."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return own
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return [item for items in found for item in items]
