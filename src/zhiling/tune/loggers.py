"""TensorBoard, trackio and Weights & Biases, told what metrics.jsonl holds. None of them needs a network as they are used here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

from zhiling.registry import logger
from zhiling.tune.listen import Told

Log: TypeAlias = Callable[[int, Mapping[str, float], float], None]


@logger("tensorboard", packages=("tensorboard", "tensorboardX"))
@contextmanager
def tensorboard(run: Told) -> Iterator[Log]:
    """Event files, to look at with `tensorboard --logdir OUT/logs/tensorboard`; written by the package tensorboard, else tensorboardX."""
    writer: Any
    if find_spec("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(run.folder))
    else:
        writer = import_module("tensorboardX").SummaryWriter(str(run.folder))
    writer.add_text("settings", "```\n" + json.dumps(run.settings, ensure_ascii=False, indent=1) + "\n```")

    def log(step: int, values: Mapping[str, float], at: float) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step, walltime=at)
        writer.flush()  # a kill loses nothing, and who looks on sees it

    try:
        yield log
    finally:
        writer.close()


@logger("trackio", packages=("trackio",))
@contextmanager
def trackio(run: Told, *, project: str = "zhiling", name: str = "") -> Iterator[Log]:
    """Into trackio's own folder on this machine, beside the user's other runs: `trackio show --project zhiling`."""
    library = import_module("trackio")
    called = f"{name or run.name}-{run.id}"
    with redirect_stdout(sys.stderr):  # what it says must not stand in our own output
        with suppress(ValueError):  # the project's first run: there is no such project yet
            for before in library.Api().runs(project):
                if before.name == called:  # this run before it was killed: it is told again from its first step
                    before.delete()
        session = library.init(
            project, called, config=dict(run.settings), embed=False, auto_log_cpu=False, auto_log_gpu=False
        )
    try:
        yield lambda step, values, at: session.log(dict(values), step=step)
    finally:
        with redirect_stdout(sys.stderr):
            session.finish()


@logger("wandb", packages=("wandb",))
@contextmanager
def wandb(
    run: Told, *, project: str = "zhiling", name: str = "", mode: Literal["offline", "online"] = "offline"
) -> Iterator[Log]:
    """Weights & Biases: offline unless told otherwise, in OUT/logs/wandb, to be sent by `wandb sync` if ever; `mode: online` uses the network.

    Neither the code, nor the git state, nor what this machine is goes with it.
    """
    library = import_module("wandb")
    quiet = library.Settings(
        silent=True, console="off", save_code=False, disable_git=True, x_disable_meta=True, x_disable_stats=True,
        x_disable_machine_info=True, x_save_requirements=False,
    )  # fmt: skip
    session = library.init(
        project=project, name=name or run.name, id=run.id, mode=mode, dir=run.folder, config=dict(run.settings),
        resume="allow" if mode == "online" else None, settings=quiet,
    )  # fmt: skip
    try:
        yield lambda step, values, at: session.log(
            dict(values), step=step
        )  # online, steps that it has are left as they are
    finally:
        session.finish()
