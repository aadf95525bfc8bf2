"""A GGUF file looked at before it is loaded: llama.cpp may abort the whole process on a file that is damaged or cut off.

Only the header is read (metadata and the table of tensors); the weights are not touched. Format: the GGUF specification of the ggml
project, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import ProviderError, say

# (weights per block, bytes per block) by ggml type number
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144),
    13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110),
    22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip
_scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_EDGE = 1 << 20
_LONGEST = 1 << 31


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself. `metadata` holds its scalars and strings; arrays are skipped."""

    metadata: dict[str, Any]
    tensors: int
    bytes: int


def read_header(path: Path) -> Header:
    """Check that the file is a whole GGUF file and read its header; tens of milliseconds.

    Raises ProviderError(kind="model") for a missing file, a file of another kind, and one that ends before its tensors do.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if file.read(4) != b"GGUF":
                raise _broken(path, "this is not a GGUF file", "这不是 GGUF 文件")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _walk(data, size, path)
    except (OSError, ValueError) as error:
        if isinstance(error, ProviderError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise _broken(path, f"the model file cannot be read: {reason}", f"无法读取模型文件：{reason}") from error
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise _cut(path) from error


def fingerprint(path: Path) -> str:
    """Twelve hex digits of the file's size, first and last megabyte: cheap, and different for different weights."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=6)
    with path.open("rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(max(0, size - _EDGE))
        digest.update(file.read(_EDGE))
    return digest.hexdigest()


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def string(self) -> str:
        length = self.take("Q")
        if length > _LONGEST or self.at + length > len(self.data):
            raise IndexError(length)
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind not in _scalars:
            raise IndexError(kind)
        return self.take(_scalars[kind])

    def skip_array(self) -> None:
        kind, count = self.take("I"), self.take("Q")
        if count > len(self.data):
            raise IndexError(count)
        if kind in _scalars:
            self.at += count * struct.calcsize("<" + _scalars[kind])
        else:
            for _ in range(count):
                if kind == _STRING:
                    self.at += struct.unpack_from("<Q", self.data, self.at)[0] + 8
                elif kind == _ARRAY:
                    self.skip_array()
                else:
                    raise IndexError(kind)


def _walk(data: mmap.mmap, size: int, path: Path) -> Header:
    cursor = _Cursor(data)
    cursor.at = 4
    version, tensors, pairs = cursor.take("I"), cursor.take("Q"), cursor.take("Q")
    if version not in (2, 3):
        raise _broken(
            path, f"GGUF version {version} is not one we know (2, 3)", f"不支持的 GGUF 版本 {version}（支持 2、3）"
        )
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key, kind = cursor.string(), cursor.take("I")
        if kind == _ARRAY:
            cursor.skip_array()
        else:
            metadata[key] = cursor.value(kind)
    ends = [0]
    for _ in range(tensors):
        cursor.string()
        shape = [cursor.take("Q") for _ in range(cursor.take("I"))]
        kind, offset = cursor.take("I"), cursor.take("Q")
        per_block, block_bytes = BLOCKS.get(kind, (1, 0))  # a type we do not know must at least start within the file
        ends.append(offset + math.prod(shape) // per_block * block_bytes)
    if cursor.at > size:
        raise _cut(path)
    alignment = int(metadata.get("general.alignment", 32)) or 32
    start = -(-cursor.at // alignment) * alignment
    if start + max(ends) > size:
        raise _cut(path)
    return Header(metadata, tensors, size)


def _cut(path: Path) -> ProviderError:
    return _broken(path, "the GGUF file is damaged or cut off", "GGUF 文件已损坏或不完整")


def _broken(path: Path, en: str, zh: str) -> ProviderError:
    mend = say("download or copy it again, or name another file", "请重新下载或复制，或换一个文件")
    return ProviderError(say(en, zh), where=str(path), mend=mend, kind="model")
