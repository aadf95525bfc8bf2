"""Weights, gradients and moments split over the ranks (FSDP2), and whole again where they are written or read.

The gradients are added up over the ranks and not averaged, as `ranks.Ranks.add_up` does it. Gathering a layer's weights is a meeting of all
ranks, so that each must go forward and back equally often: `rounds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zhiling.tune.batch import Batch
from zhiling.tune.ranks import Ranks


def shard(model: Any) -> Any:
    """Split each block of the model over the ranks, and the rest of it as one more part."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module)
    fully_shard(model)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def sharded(model: Any) -> bool:
    """Whether `shard` split this model."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def rounds(mine: Sequence[Batch], spare: Batch, ranks: Ranks) -> Iterator[tuple[Batch, bool]]:
    """(batch, whether it counts): this rank's batches, then `spare` ones until every rank has gone as many rounds."""
    most = max(ranks.gather([len(mine)]))
    yield from ((batch, True) for batch in mine)
    yield from ((spare, False) for _ in range(most - len(mine)))


def whole(value: Any) -> Any:
    """A tensor with all its parts, on every rank; all ranks must ask for it. Ordinary tensors are whole."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def wholes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """`whole` of each, moved to the CPU at once, so that the chip need hold one at a time."""
    return {name: whole(tensor.detach()).cpu() for name, tensor in tensors.items()}


def part(value: Any, like: Any) -> Any:
    """This rank's part of a whole tensor, split as `like` is."""
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
