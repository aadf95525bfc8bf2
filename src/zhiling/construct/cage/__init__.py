"""The cage: the one way in which a program that somebody else wrote, a model for instance, is run here.

Three cages, the strongest that holds on this machine is used:

* "bubblewrap" (https://github.com/containers/bubblewrap), where `bwrap` is installed and may make namespaces;
* "namespaces": the same walls (user, mount, process, network, IPC, host name namespaces; a file system in memory) built by `inside`;
* "landlock": no namespaces, but the kernel's Landlock (version 3 or newer): the program may read Python's own files and write nothing.

In all of them: limits on CPU, memory and output, no capability, an allow-list of system calls (no sockets, no processes, no programs
started), an empty environment, and a clock that ends everything. Each is tried by attacking it before it is trusted. Where none holds,
`run` raises EngineError: nothing is ever run outside a cage.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from zhiling.errors import EngineError, say

State: TypeAlias = Literal["done", "failed", "time", "memory", "killed"]
CAGES = ("bubblewrap", "namespaces", "landlock")
_HERE = Path(__file__).parent
_ENVIRONMENT = {"LANG": "C.UTF-8", "HOME": "/tmp", "PATH": "", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
"""All that a program sees of any environment; with a fixed hash seed, so that it does the same each time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use: `seconds` of wall time (and of CPU, rounded up, plus one), MiB of address space, KiB of output."""

    seconds: float = 5.0
    memory: int = 512
    output: int = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended: `state`, what it printed (both streams), and `error`, its last error in its own words."""

    state: State
    out: str
    error: str = ""

    @property
    def why(self) -> str:
        """The ending in the user's words; "" for one that is done."""
        return {
            "done": "",
            "failed": self.error,
            "time": say("ran past its time limit", "超出时间限制"),
            "memory": say("ran past its memory limit", "超出内存限制"),
            "killed": say(f"was ended by the system ({self.error})", f"被系统终止（{self.error}）"),
        }[self.state]


def run(program: str, *, stdin: str = "", limits: Limits | None = None, cage: str = "") -> Outcome:
    """Run the Python `program` in the cage, with `stdin` to read. Raises EngineError where no cage holds on this machine."""
    return run_all([(program, stdin)], limits=limits, cage=cage)[0]


def run_all(
    programs: Sequence[tuple[str, str]],
    *,
    read: Sequence[str] = (),
    path: Sequence[str] = (),
    modules: Sequence[str] = (),
    limits: Limits | None = None,
    cage: str = "",
) -> list[Outcome]:
    """Run each (program, stdin) in the cage, one after the other, each with the whole of `limits`; their outcomes in order.

    `read` are files and folders that they may also see, `path` folders to import from, `modules` what they all import, which is then done
    once. They share a cage, so that its walls are built once,
    and what one leaves in /tmp is removed before the next. Raises EngineError where no cage holds on this machine. `cage` names one for
    tests; by default the strongest is taken.
    """
    found = _run(programs, [*read, *path], list(path), limits or Limits(), cage or need(), list(modules))
    return [*found, *[Outcome("killed", "", "SIGKILL")] * (len(programs) - len(found))]


def need() -> str:
    """The name of the cage that is used here. Raises EngineError, with what would help, where none holds."""
    found = next((name for name in CAGES if not breach(name)), "")
    if not found:
        reasons = "; ".join(f"{name}: {breach(name)}" for name in CAGES)
        raise EngineError(
            say(
                f"there is no safe place to run foreign code on this machine ({reasons})",
                f"本机没有可以安全运行外来代码的环境（{reasons}）",
            ),
            mend=say(
                "use Linux 6.2 or newer, or install bubblewrap (`apt install bubblewrap`) and allow user namespaces; "
                "or leave the code verifier out of the recipe",
                "请使用 Linux 6.2 或更新的内核，或安装 bubblewrap（`apt install bubblewrap`）并允许用户命名空间；也可以在配方中去掉代码校验器",
            ),
        )
    return found


@cache
def breach(cage: str) -> str:
    """Why this cage is not to be trusted here, found by attacking it once; "" when every attack failed."""
    missing = _missing(cage)
    if missing:
        return missing
    try:
        with tempfile.NamedTemporaryFile() as outside:
            tried = _run([(_PROBE.replace("OUTSIDE", repr(outside.name)), "")], [], [], Limits(seconds=10), cage)[0]
    except OSError as error:
        return str(error)
    if tried.state != "done":
        return tried.why + (f" ({tried.out.strip()[-200:]})" if tried.out.strip() else "")
    got_out = json.loads(tried.out)
    return say(f"a program got out: {got_out}", f"程序可以逃逸：{got_out}") if got_out else ""


def _missing(cage: str) -> str:
    if sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"):
        return say("needs Linux on x86_64 or aarch64", "需要 x86_64 或 aarch64 上的 Linux")
    if cage == "bubblewrap" and not shutil.which("bwrap"):
        return say("bwrap is not installed", "未安装 bwrap")
    if cage == "landlock":
        from zhiling.construct.cage.rules import landlock_version

        if (version := landlock_version()) < 3:  # before 3 a file outside could still be emptied
            return say(
                f"the kernel offers Landlock {version}, 3 is needed", f"内核的 Landlock 版本为 {version}，需要 3 以上"
            )
    return ""


_PROBE = """
import json, os, socket
got = []
def attack(name, deed):
    try:
        deed()
    except (OSError, ImportError):
        return
    got.append(name)
attack("read", lambda: open(OUTSIDE).read())
attack("passwd", lambda: open("/etc/passwd").read())
attack("environ", lambda: open(f"/proc/{os.getppid()}/environ", "rb").read())
attack("write", lambda: open(OUTSIDE, "r+"))
attack("home", lambda: open(os.path.expanduser("~/zhiling-probe") if os.path.expanduser("~") != "/tmp" else "/zhiling-probe", "w"))
attack("socket", lambda: socket.socket())
attack("fork", lambda: os.fork() or os._exit(0))
attack("exec", lambda: os.execv("/bin/true", ["true"]))
attack("kill", lambda: os.kill(os.getppid() or 1, 0))
attack("mode", lambda: os.chmod("/tmp", 0o777))
if any(key.endswith("KEY") for key in os.environ): got.append("keys")
print(json.dumps(got))
"""


def _run(
    programs: Sequence[tuple[str, str]],
    read: list[str],
    path: list[str],
    limits: Limits,
    cage: str,
    modules: Sequence[str] = (),
) -> list[Outcome]:
    places = _outermost([*_readable(), *(os.path.abspath(place) for place in read)])
    job = {
        "cage": cage, "programs": list(programs), "read": places, "path": path, "modules": modules,
        "seconds": limits.seconds, "memory": limits.memory << 20, "output": limits.output << 10,
    }  # fmt: skip
    task, out, report = (os.memfd_create(name) for name in ("task", "out", "report"))
    try:
        with open(task, "wb", closefd=False) as file:
            file.write(json.dumps(job).encode())
        os.lseek(task, 0, os.SEEK_SET)
        started = subprocess.Popen(
            [*_wrapped(cage, places), sys.executable, "-P", "-s", "-S", str(_HERE / "inside.py"), str(report)],
            stdin=task, stdout=out, stderr=out, pass_fds=(report,), env=_ENVIRONMENT, cwd="/",
            start_new_session=True,
        )  # fmt: skip
        try:
            started.wait(10 + len(programs) * (limits.seconds + 0.1))
        except subprocess.TimeoutExpired:
            pass  # what has been told so far counts; the rest was not run
        finally:
            _end(started)
        lines = os.pread(report, os.fstat(report).st_size, 0).splitlines()
        if not lines and programs:
            raise OSError(
                os.pread(out, 2000, 0).decode("utf-8", "replace").strip().rpartition("\n")[2]
                or f"exit {started.returncode}"
            )
        return [_outcome(**json.loads(line)) for line in lines]
    finally:
        for fd in (task, out, report):
            os.close(fd)


def _end(started: subprocess.Popen[bytes]) -> None:
    """End the cage and all that is in it, and wait for it."""
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def _outcome(code: int, late: bool, out: str, said: dict[str, str] | None) -> Outcome:
    if said:
        return Outcome(
            "done" if said["state"] == "done" else "memory" if said["state"] == "memory" else "failed",
            out,
            said["error"],
        )
    if late or code in (-signal.SIGXCPU, -signal.SIGALRM):
        return Outcome("time", out)
    if code < 0:
        return Outcome("killed", out, signal.Signals(-code).name)
    return Outcome(
        "failed", out, say(f"left with exit code {code} before its end", f"未运行到结尾就以代码 {code} 退出")
    )


def _wrapped(cage: str, places: list[str]) -> list[str]:
    """What stands before the command: bubblewrap with its walls, or nothing, since `inside` builds its own."""
    if cage != "bubblewrap":
        return []
    seen = [part for place in [*_outermost([*places, str(_HERE)])] for part in ("--ro-bind", place, place)]
    return [
        shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--size", str(16 << 20),
        "--tmpfs", "/tmp", "--dev", "/dev", *seen, "--chdir", "/tmp", "--",
    ]  # fmt: skip


@cache
def _readable_parts() -> tuple[str, ...]:
    libraries = [
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        sysconfig.get_config_var("LIBDIR") or "",
    ]
    python = [os.path.realpath(sys.executable), sys.executable]
    shared = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    return tuple(place for place in [*libraries, *python, *shared] if place and os.path.exists(place))


def _readable() -> list[str]:
    """What Python itself needs to read."""
    return list(_readable_parts())


def _outermost(places: Sequence[str]) -> list[str]:
    """The places that lie in no other of them, sorted: a mount inside a read-only mount could not be made."""
    out: list[str] = []
    for place in sorted(set(places)):
        if not any(place == other or place.startswith(other.rstrip("/") + "/") for other in out):
            out.append(place)
    return out
