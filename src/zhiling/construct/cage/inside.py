"""What runs inside the cage: builds the walls around itself, then runs the programs. Imports nothing of ours; started as a file.

It reads its job (JSON) from standard input, and writes to the file descriptor named on its command line how each program ended.
With "namespaces" it first leaves the host: no network, its own processes, and a file system in memory that shows Python, what the job
names, read-only, and an empty /tmp. Then, in every cage: no capabilities and Landlock; and for each program a process with limits
and the filter of system calls. A file that is loaded by name here (`rules`) is read before the walls stand.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import io
import json
import os
import select
import sys
import types
from pathlib import Path
from typing import Any, NoReturn

_spec = importlib.util.spec_from_file_location("rules", Path(__file__).with_name("rules.py"))
assert _spec and _spec.loader
rules: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rules)

_AT, _SEE = -100, ctypes.c_int(-100)
_TMP_BYTES = 16 << 20


def main() -> None:
    """Read the job, close every way out, run each program in a process of its own, write a line of JSON about each."""
    report = int(sys.argv[1])
    job = json.load(sys.stdin.buffer)
    parent = os.getppid()
    read = [path for path in job["read"] if os.path.exists(path)]
    own = job["cage"] != "landlock"  # a file system of its own, with a /tmp to write in
    if job["cage"] == "namespaces":
        leave_host(read, parent)
    else:
        die_with(parent)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    if own:
        os.chdir("/tmp")
    rules.drop_powers()
    if rules.landlock_version():
        random = ["/dev/urandom"] if os.path.exists("/dev/urandom") else []
        rules.lock_files([*read, *random], ["/dev/null", *(["/tmp"] if own else [])])
    kept = {place for place, _, names in os.walk("/tmp") for place in (place, *(f"{place}/{name}" for name in names))}
    sys.path.extend(job["path"])
    for name in job["modules"]:
        importlib.import_module(name)
    for program, text in job["programs"]:
        os.write(report, json.dumps(watched(program, text, job, report)).encode() + b"\n")
        if own:
            clean(kept)
    os._exit(0)


def clean(kept: set[str]) -> None:
    """Remove from /tmp what is not to be kept: one program leaves nothing for the next."""
    for place, _, names in os.walk("/tmp", topdown=False):
        for name in names:
            if f"{place}/{name}" not in kept:
                os.unlink(f"{place}/{name}")
        if place not in kept:
            os.rmdir(place)


def watched(program: str, text: str, job: dict[str, Any], report: int) -> dict[str, Any]:
    """Run one program in a child that has the filter and the limits, for `seconds` at most; how it ended and what it printed.

    `said` is the child's own account of its end, taken only with the mark that it was given; `code` how the kernel saw it end.
    """
    mark = os.urandom(16).hex()
    out, account = os.memfd_create("out"), os.memfd_create("account")
    before = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(report)
        die_with(before)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(out)
        confined(program, text, job, account, mark)
    late = not select.select([os.pidfd_open(child)], [], [], job["seconds"])[0]
    if late:
        os.kill(child, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    printed, said = (os.pread(fd, job["output"], 0).decode("utf-8", "replace") for fd in (out, account))
    for fd in (out, account):
        os.close(fd)
    return {
        "code": code,
        "late": late,
        "out": printed,
        "said": json.loads(said[len(mark) :]) if said.startswith(mark) else None,
    }


def confined(program: str, text: str, job: dict[str, Any], account: int, mark: str) -> NoReturn:
    """The child: take the limits and the filter, run the program, write the account of its end."""
    try:
        rules.limit(int(job["seconds"]) + 1, job["memory"], job["output"])
        rules.filter_calls()
        said = run(program, text)
        sys.stdout.flush()
        os.write(account, (mark + json.dumps(said)).encode())
    finally:
        os._exit(0)


def run(program: str, text: str) -> dict[str, str]:
    """Run the program as `__main__`; how it ended. Leaving early is no success: what follows, tests perhaps, was never run."""
    sys.stdin = io.StringIO(text)
    sys.argv = ["program"]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    try:
        exec(compile(program, "<program>", "exec"), module.__dict__)
        return {"state": "done", "error": ""}
    except MemoryError:
        return {"state": "memory", "error": ""}
    except BaseException as error:
        line, trace = 0, error.__traceback__
        while trace:
            if trace.tb_frame.f_code.co_filename == "<program>":
                line = trace.tb_lineno
            trace = trace.tb_next
        return {"state": "failed", "error": f"line {line}: {type(error).__name__}: {error}".rstrip(": ")[:2000]}


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent goes, whatever kills that."""
    rules.check(rules.libc.prctl(1, 9, 0, 0, 0), "pdeathsig")
    if os.getppid() != parent:
        os._exit(1)


def leave_host(read: list[str], parent: int) -> None:
    """Return in a process that is alone: new user, mounts, processes, network, IPC and host name. The callers wait and pass the end on."""
    uid, gid = os.getuid(), os.getgid()
    # user 0x10000000, mount 0x20000, pid 0x20000000, network 0x40000000, IPC 0x08000000, host name 0x04000000, cgroup 0x02000000
    rules.check(rules.libc.unshare(0x7E020000), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    new_root(read)
    die_with(parent)  # not before: a new user forgets it
    _follow()  # the first process of the new ones: it reaps, and ends all others when it ends
    _follow()  # and one below it, since a first process is spared the signals that limits send


def _follow() -> None:
    """Fork: the child goes on, the parent waits for it and ends as it ended (128 + the signal's number)."""
    before = os.getpid()
    child = os.fork()
    if child == 0:
        # Inside its own process namespace the first one sees no parent: 0.
        die_with(os.getppid() if os.getppid() == 0 else before)
        return
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def new_root(read: list[str]) -> None:
    """Replace the file system by one in memory with `read` at their places, read-only, an empty /tmp and two devices."""
    libc, check = rules.libc, rules.check
    check(libc.mount(b"none", b"/", None, 0x44000, None), "mount /")  # private: nothing we mount is seen outside
    trees = []
    for path in [*read, "/dev/null", "/dev/urandom"]:
        if os.path.exists(path):
            tree = check(
                int(libc.syscall(428, _SEE, os.path.realpath(path).encode(), 0x8001 | os.O_CLOEXEC)),
                f"open_tree {path}",
            )
            _set_mount(tree, b"", 0x1000, 2 if path.startswith("/dev/") else 1 | 2 | 4)
            trees.append((path, tree))
    check(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 6, b"size=1m,mode=755"), "mount tmpfs")
    os.makedirs("/tmp/tmp", exist_ok=True)
    check(libc.mount(b"tmpfs", b"/tmp/tmp", b"tmpfs", 6, f"size={_TMP_BYTES},mode=700".encode()), "mount /tmp")
    for path, tree in trees:
        place = Path("/tmp" + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(path):
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        check(int(libc.syscall(429, tree, b"", _SEE, str(place).encode(), 4)), f"move_mount {path}")
        os.close(tree)
    os.chdir("/tmp")
    number = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
    check(int(libc.syscall(number, b".", b".")), "pivot_root")
    check(libc.umount2(b".", 2), "umount")
    os.chdir("/")
    _set_mount(_AT, b"/", 0, 1)


def _set_mount(place: int, path: bytes, flags: int, wanted: int) -> None:
    """Make a mount, and with a tree those within it, read-only (1), without set-user-id (2), without devices (4)."""
    attributes = ctypes.create_string_buffer(wanted.to_bytes(8, sys.byteorder) + bytes(24), 32)
    recursive = 0x8000 if path == b"" else 0
    result = int(rules.libc.syscall(442, ctypes.c_int(place), path, flags | recursive, attributes, ctypes.c_size_t(32)))
    rules.check(result, "mount_setattr")


if __name__ == "__main__":
    main()
