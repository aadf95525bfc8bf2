"""tuning.json: what was sent and made at the provider. Every line of it is on the disk before the next step is taken."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from zhiling.errors import EngineError, boundary, say

NAME = "tuning.json"
PLACE = ("base_url", "key_env", "project", "location", "bucket")
"""Settings that say where files go up to."""


@dataclass(slots=True)
class Sent:
    """Something at the provider: `begun` before it is asked for, `id` what it is called there once that is known; a file has a `name`."""

    name: str = ""
    begun: bool = False
    id: str = ""

    @property
    def unsure(self) -> bool:
        """Whether nobody knows if it was made."""
        return self.begun and not self.id


@dataclass(slots=True)
class State:
    """One plan (`key` is the hash of rows, base and settings) and how far it came.

    `mark` is what its job can be found by; `files` are the uploads, training and validation; `ended` how the job ended ("": it has not)
    and `why`; `base` and `settings` how to reach the provider again; `earlier` the jobs of this folder before this one, and their models.
    """

    path: Path
    key: str = ""
    mark: str = ""
    base: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Sent] = field(default_factory=dict)
    job: Sent = field(default_factory=Sent)
    ended: str = ""
    why: str = ""
    earlier: list[dict[str, str]] = field(default_factory=list)

    def commit(self) -> None:
        """Put it on the disk: after this returns no kill can lose it. Raises EngineError when the disk is full."""
        held = {key: value for key, value in asdict(self).items() if key != "path"}
        with whole(self.path) as file:
            file.write(json.dumps(held, ensure_ascii=False, indent=1).encode())

    def begin(self, sent: Sent) -> None:
        """Note that something is about to be made."""
        sent.begun = True
        self.commit()

    def arrived(self, sent: Sent, id_: str) -> None:
        """Note what the provider calls it."""
        sent.id = id_
        self.commit()

    def refused(self, sent: Sent) -> None:
        """Note that the provider did not make it."""
        sent.begun = False
        self.commit()

    def end(self, how: str, why: str = "") -> None:
        """Note how the job ended."""
        self.ended, self.why = how, why
        self.commit()

    def anew(self, key: str, base: str, settings: Mapping[str, Any], model: str, keep: bool) -> None:
        """Begin another plan, with a mark of its own; `model` is what the plan before it made.

        With `keep`, what went up to the same place need not go up again.
        """
        place = [self.base.partition(":")[0], *(self.settings.get(name) for name in PLACE)]
        same = keep and place == [base.partition(":")[0], *(settings.get(name) for name in PLACE)]
        earlier = [*self.earlier, *([{"job": self.job.id, "model": model}] if self.job.id else [])]
        self.key, self.mark, self.base, self.settings = key, secrets.token_hex(10), base, dict(settings)
        self.files, self.job, self.ended, self.why, self.earlier = self.files if same else {}, Sent(), "", "", earlier
        self.commit()


@contextmanager
def whole(final: Path) -> Iterator[BinaryIO]:
    """A file that is whole or absent, and on the disk with its name once the block has ended. Raises EngineError when the disk is full."""
    partial = final.with_name(f".{final.name}.partial")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, final)
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise boundary(error, str(final)) from error
    finally:
        partial.unlink(missing_ok=True)


def load(out: Path) -> State:
    """What the folder's file says; an empty state where there is none. Raises EngineError for a file that cannot be read."""
    path = out / NAME
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        files = {name: Sent(**sent) for name, sent in held.pop("files").items()}
        return State(path, files=files, job=Sent(**held.pop("job")), **held)
    except FileNotFoundError:
        return State(path)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        mend = say(
            "move it away to forget the job, which goes on and stays billed",
            "移走它会忘记该任务（任务继续进行，费用照付）",
        )
        raise EngineError(say(f"cannot be read: {error}", f"无法读取：{error}"), where=str(path), mend=mend) from error
    except OSError as error:
        raise boundary(error, str(path)) from error


class Busy(EngineError):
    """Another process sends from the folder, or waits for its job."""


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Only one process at a time sends anything from a folder. Raises Busy while another does."""
    import fcntl

    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = (out / ".tuning.lock").open("w")
    except OSError as error:
        raise boundary(error, str(out)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mend = say("wait for it to end, or choose another folder with -o", "请等它结束，或用 -o 另选文件夹")
            what = say("another process waits for this job", "另一个进程正在等待该任务")
            raise Busy(what, where=str(out), mend=mend) from None
        yield
    finally:
        handle.close()
