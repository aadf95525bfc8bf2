"""How many threads a local model should use on this machine, now."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """Physical cores that this process may use."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings: set[str] = set()
    for cpu in usable:
        file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings.add(file.read_text().strip())
        except OSError:  # not Linux: count each logical core
            siblings.add(str(cpu))
    return len(siblings)


def quiet_cores() -> int:
    """Physical cores that this process may use, less the load of the last minute; at least 1.

    Decoding threads wait for each other at every layer, so one busy core slows all of them: two threads on two busy cores were
    measured at a sixth of the speed of one.
    """
    return max(1, cores() - round(os.getloadavg()[0]))
