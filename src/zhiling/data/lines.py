"""Files as lines of text: gzip or not, in whichever encoding, streaming."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from zhiling.errors import DataError, say

PROBE = 65536
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def encoding_of(head: bytes) -> str:
    """The encoding by byte order mark, else UTF-8 if the first bytes are valid UTF-8, else GB18030 or Big5 if they are valid there
    (whichever reads them as the more usual characters), else UTF-8."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    # The last bytes may be half a character: forgive them, unless that is all there is.
    head = head[:-4] if len(head) >= PROBE else head
    said = {name: text for name in ("utf-8", "gb18030", "big5hkscs") if (text := _decoded(head, name)) is not None}
    if "utf-8" in said or not said:
        return "utf-8"
    if len(said) == 2 and _usual(said["big5hkscs"], "big5hkscs") > _usual(said["gb18030"], "gb18030") + 0.3:
        return "big5hkscs"
    return next(iter(said))


def _decoded(head: bytes, name: str) -> str | None:
    try:
        return head.decode(name)
    except UnicodeDecodeError:
        return None


def _usual(text: str, name: str) -> float:
    """The share of characters that the encoding has among its usual ones: level 1 of GB 2312 or of Big5, and their punctuation.

    Bytes of one are nearly always valid in the other, as characters that hardly anybody writes.
    """
    mark, first, last, trail = (0xAF, 0xB0, 0xD7, 0xA1) if name == "gb18030" else (0xA3, 0xA4, 0xC6, 0x40)
    codes = [char.encode(name) for char in text[:4000] if char > "\x7f"]
    codes = [
        code for code in codes if not (len(code) == 2 and 0xA1 <= code[0] <= mark)
    ]  # punctuation and signs say little
    usual = [code for code in codes if len(code) == 2 and code[1] >= trail and first <= code[0] <= last]
    return len(usual) / len(codes) if codes else 1.0


def _sniffed(raw: IO[bytes]) -> str:
    """The encoding by the first stretch that is not plain ASCII: a file may begin with a million English rows."""
    head = raw.read(PROBE)
    found = encoding_of(head)
    while found == "utf-8" and head and head.isascii():
        head = raw.read(PROBE)
        found = encoding_of(head) if not head.startswith((b"\xff", b"\xfe", b"\xef\xbb")) else "utf-8"
    return found


@contextmanager
def opened(path: Path, newline: str = "\n") -> Iterator[TextIO]:
    """The file's text. Bytes that cannot be decoded come as lone surrogates, so that only their own row is quarantined.

    Raises DataError for a gzip file that is damaged or cut short.
    """
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        raw = cast(IO[bytes], gzip.GzipFile(fileobj=plain) if packed else plain)
        try:
            encoding = _sniffed(raw)
            raw.seek(0)
            errors = "replace" if encoding in ("utf-16", "utf-32") else "surrogateescape"
            yield io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=newline)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                say(f"the gzip file is damaged or cut short: {error}", f"gzip 文件已损坏或不完整：{error}"),
                where=str(path),
                mend=say("copy or download it again", "请重新复制或下载"),
            ) from error


def lines(path: Path, newline: str = "\n") -> Iterator[tuple[int, str]]:
    """(line number, text with its line end)."""
    with opened(path, newline) as file:
        yield from enumerate(file, 1)
