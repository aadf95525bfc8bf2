"""Several processes, or machines, that tune one model: each computes its share of every step's rows, and the gradients are added up.

torchrun and Ray Train start them, and say by RANK and WORLD_SIZE who is who; without these there is one rank, and nothing here does
anything. A step's loss and gradient are sums over its rows (`loss.scale` divides by what the whole step holds), so that they are the
same over any number of ranks, up to the rounding of a sum in another order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from zhiling.errors import EngineError, say
from zhiling.tune.render import Rendered

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that tune together: its number, from 0, and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes logs, checkpoints and the model."""
        return self.rank == 0

    def share(self, rows: Sequence[Rendered]) -> list[Rendered]:
        """This rank's rows of a step: rows that begin alike stay together, and every rank gets about as many tokens."""
        if self.size == 1:
            return list(rows)
        ordered = sorted(rows, key=lambda row: (row.ids, row.id))
        total, before, mine = sum(len(row.ids) for row in ordered), 0, list[Rendered]()
        for row in ordered:
            middle = before + len(row.ids) / 2
            if min(int(middle * self.size / total), self.size - 1) == self.rank:
                mine.append(row)
            before += len(row.ids)
        return mine

    def add_up(self, params: Mapping[str, Any]) -> None:
        """Give every rank the sum of all ranks' gradients."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        waiting = []
        for parameter in params.values():
            if parameter.grad is None:  # no row of this rank reached it
                parameter.grad = torch.zeros_like(parameter)
            waiting.append(dist.all_reduce(parameter.grad, async_op=True))
        for work in waiting:
            work.wait()

    def gather(self, mine: Sequence[T]) -> list[T]:
        """What all ranks have, in the order of the ranks."""
        if self.size == 1:
            return list(mine)
        import torch.distributed as dist

        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(mine))
        return [item for part in parts for item in part]

    def told(self, value: T) -> T:
        """What the first rank says."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def wait(self) -> None:
        """Until all ranks have come this far."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that this process was started among; leaves the group that it joined. Raises EngineError where the others do not come."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    ours = not dist.is_initialized()
    if ours:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        try:
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                say(f"the other processes cannot be reached: {error}", f"无法与其他进程建立连接：{error}"), where="tune",
                mend=say("start them with torchrun, with one --master-addr for all", "请用 torchrun 启动，并统一 --master-addr"),
            ) from error  # fmt: skip
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        if ours:
            dist.destroy_process_group()
