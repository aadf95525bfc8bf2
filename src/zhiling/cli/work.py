"""What every command that works for long does: shows how far it is, and leaves quietly when it is interrupted."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from zhiling.errors import say
from zhiling.progress import Meter


@contextmanager
def at_work() -> Iterator[Meter]:
    """A meter for the work; Ctrl-C becomes one line and exit code 1, since the same command goes on where it stopped."""
    meter = Meter()
    try:
        yield meter
    except KeyboardInterrupt:
        # what the interrupt left half made (an event loop, a coroutine) complains when it is collected; no user can act on that
        sys.unraisablehook = lambda _: None
        warnings.simplefilter("ignore")
        told = say("\ninterrupted; the same command goes on where this stopped", "\n已中断；重新运行同一命令即可继续")
        print(told, file=sys.stderr)
        raise typer.Exit(1) from None
    finally:
        meter.close()
