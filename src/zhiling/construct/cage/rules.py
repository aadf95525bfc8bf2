"""Which system calls a caged program may make, which files it may touch, and how much it may use. Imports nothing of ours.

The filter is a list of what is allowed, so that what nobody thought of is refused: no socket, no process, no program started, no mode,
owner or time of a file changed, no mount, no tracing, no message queue, no key ring. Refused calls return EPERM and the program goes on,
so that a row fails with words ("Operation not permitted"), not with silence.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Sequence

libc = ctypes.CDLL(None, use_errno=True)

# name x86_64 aarch64 ("-": that machine has no such call). Those under CAREFUL are allowed with certain arguments only.
_CALLS = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, close 3 57, close_range 436 436, open 2 -, openat 257 56,
stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44, lseek 8 62, mmap 9 222, mprotect 10 226,
munmap 11 215, mremap 25 216, brk 12 214, madvise 28 233, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
rt_sigpending 127 136, sigaltstack 131 132, access 21 -, faccessat 269 48, faccessat2 439 439, pipe 22 -, pipe2 293 59, select 23 -,
pselect6 270 72, poll 7 -, ppoll 271 73, sched_yield 24 124, dup 32 23, dup2 33 -, dup3 292 24, nanosleep 35 101, clock_nanosleep 230 115,
getpid 39 172, gettid 186 178, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getgroups 115 158,
uname 63 160, fcntl 72 25, flock 73 32, fsync 74 82, fdatasync 75 83, ftruncate 77 46, getdents64 217 61, getcwd 79 17, chdir 80 49,
fchdir 81 50, mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276,
readlink 89 -, readlinkat 267 78, umask 95 166, gettimeofday 96 169, getrlimit 97 163, getrusage 98 165, sysinfo 99 179, times 100 153,
clock_gettime 228 113, clock_getres 229 114, time 201 -, futex 202 98, sched_getaffinity 204 123, set_tid_address 218 96,
set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, exit 60 93, exit_group 231 94, epoll_create1 291 20, epoll_ctl 233 21,
epoll_wait 232 -, epoll_pwait 281 22, eventfd2 290 19, sendto 44 206, recvfrom 45 207, shutdown 48 210, getsockopt 55 209,
getrandom 318 278, setitimer 38 103, getitimer 36 102, alarm 37 -, pause 34 -, restart_syscall 219 128, membarrier 324 283, wait4 61 260,
copy_file_range 326 285, sendfile 40 71
"""
_CAREFUL = (
    "clone 56 220, clone3 435 435, kill 62 129, tgkill 234 131, socketpair 53 199, ioctl 16 29, prlimit64 302 261"
)
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_LOAD, _EQUAL, _MASK, _RETURN = 0x20, 0x15, 0x54, 0x06
_CLONE_THREAD, _NEW_THINGS = 0x00010000, 0x7E020080  # a thread, and never a new namespace
_IOCTLS = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # is it a terminal, how wide, how much to read, blocking, close on exec

Instruction = tuple[int, int, int, int]


def numbers(text: str, machine: str) -> dict[str, int]:
    """The calls of a table that this machine has, by name."""
    at = {"x86_64": 1, "aarch64": 2}[machine]
    rows = [entry.split() for entry in text.replace("\n", " ").split(",")]
    return {row[0]: int(row[at]) for row in rows if row[at] != "-"}


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter as BPF instructions (code, jump if true, jump if false, operand), for the process `pid`."""
    careful = numbers(_CAREFUL, machine)
    out: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _AUDIT[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    for number in numbers(_CALLS, machine).values():
        out += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    out += [
        (_EQUAL, 0, 1, careful["clone3"]),
        (_RETURN, 0, 0, _ENOSYS),
    ]  # its flags are out of reach; libc falls back to clone
    refuse = (_RETURN, 0, 0, _EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    thread = [
        (_MASK, 0, 0, _CLONE_THREAD | _NEW_THINGS), (_EQUAL, 0, 1, _CLONE_THREAD), allow, refuse
    ]  # fmt: skip
    out += _block(careful["clone"], 0, thread)
    for name in ("kill", "tgkill"):
        out += _block(careful[name], 0, [(_EQUAL, 0, 1, pid), allow, refuse])
    # A pair of connected stream sockets reaches nobody else; asyncio's loop needs one.
    stream = [(_EQUAL, 0, 3, 1), (_LOAD, 0, 0, 24), (_MASK, 0, 0, 0xF), (_EQUAL, 1, 0, 1), refuse, allow]
    out += _block(careful["socketpair"], 0, stream)
    known = [step for number in _IOCTLS for step in ((_EQUAL, 0, 1, number), allow)]
    out += _block(careful["ioctl"], 1, [*known, refuse])
    out += _block(careful["prlimit64"], 0, [(_EQUAL, 0, 1, 0), allow, refuse])
    return [*out, refuse]


def _block(number: int, argument: int, then: list[Instruction]) -> list[Instruction]:
    """What is asked of one argument (its low 32 bits) of one call; the block ends in a decision."""
    body: list[Instruction] = [(_LOAD, 0, 0, 16 + 8 * argument), *then]
    return [(_EQUAL, 0, len(body), number), *body]


class _Filter(ctypes.Structure):
    _fields_ = (("size", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def filter_calls() -> None:
    """Put the filter on this process for good. Raises OSError where the kernel takes none."""
    packed = b"".join(struct.pack("HBBI", *step) for step in program(platform.machine(), os.getpid()))
    wanted = _Filter(len(packed) // 8, packed)
    check(libc.prctl(22, 2, ctypes.byref(wanted), 0, 0), "seccomp")


def landlock_version() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    found = int(libc.syscall(444, None, 0, 1))
    return max(found, 0)


_READ, _READ_FILE, _WRITE_FILE = 0b1101, 0b101, 0b110  # execute, read and list; read a file; read and write one


def lock_files(read: Sequence[str], write: Sequence[str]) -> None:
    """Let this process open only what is under `read`, and change only what is under `write`. Landlock 1 or newer."""
    version = landlock_version()
    known = (1 << (13 + (version >= 2) + (version >= 3))) - 1 | (1 << 15 if version >= 5 else 0)
    network = 0b11 if version >= 4 else 0  # bind and connect: none is allowed
    scoped = 0b11 if version >= 6 else 0  # no abstract socket and no signal to anybody outside
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = ctypes.create_string_buffer(struct.pack("QQQ", known, network, scoped)[:size], size)
    ruleset = check(int(libc.syscall(444, rules, ctypes.c_size_t(size), 0)), "landlock")
    for path, rights in [*((p, _READ) for p in read), *((p, known & ~1) for p in write)]:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not os.path.isdir(path):
            rights &= _READ_FILE if path in read else _WRITE_FILE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights & known, place), 12)
        check(int(libc.syscall(445, ruleset, 1, rule, 0)), f"landlock: {path}")
        os.close(place)
    check(int(libc.syscall(446, ruleset, 0)), "landlock")
    os.close(ruleset)


def limit(seconds: int, memory: int, file_size: int) -> None:
    """CPU seconds, bytes of address space and bytes of any one file; no core dumps, few open files."""
    for what, most in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file_size), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_MEMLOCK, 0), (resource.RLIMIT_STACK, 8 << 20), (resource.RLIMIT_NICE, 0),
    ):  # fmt: skip
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def drop_powers() -> None:
    """Give up every capability, for good, and the way to any other."""
    for number in range(64):
        libc.prctl(24, number, 0, 0, 0)  # from the bounding set; numbers that this kernel lacks are refused
    libc.prctl(47, 4, 0, 0, 0)  # the ambient set
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0), 8)
    check(libc.capset(header, ctypes.create_string_buffer(24)), "capset")
    check(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")


def check(result: int, what: str) -> int:
    """The result of a system call. Raises OSError with `what` where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
