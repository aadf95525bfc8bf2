"""A cheap look at many rows before a dear one at few: which texts may hold what a scorer looks for.

Most rows hold none of it. Python's regular expressions take a hundred times as long for a long alternation as RE2 does, which Arrow brings
along, and which looks at thousands of texts in one call. It cannot say exactly what they say (no look-around, other classes), so a sieve
lets through all that the exact pattern finds, and a little more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from zhiling.text import valid
from zhiling.types import Example

ROWS, CHARACTERS = (
    8192,
    1 << 24,
)  # looked at in one call: a sieve is made anew for each, which takes a thousand rows' time
FEW = 8  # texts for which no sieve pays
FAR = r"(?-i:[^\x00-\x7f])"  # what is not ASCII; without the case RE2 would count k and s in, since the sign for kelvin is a k
ODD = "(?-i:[ıİſK])"  # letters that Python takes for an i, s or k, whatever the case, and RE2 does not


@dataclass(frozen=True, slots=True)
class Sieve:
    """Patterns in RE2's syntax, for texts in ASCII and for `other` texts; the case of letters is no matter. An empty one lets all through."""

    ascii: str
    other: str

    def holds(self, texts: Sequence[str]) -> list[bool]:
        """Which of the texts may hold what is looked for."""
        plain = iter(_matches([text for text in texts if text.isascii()], self.ascii))
        wide = iter(_matches([text for text in texts if not text.isascii()], self.other and f"{self.other}|{ODD}"))
        return [next(plain if text.isascii() else wide) for text in texts]

    def sift(self, examples: Sequence[Example], view: Callable[[Example], str]) -> Iterator[tuple[Example, bool]]:
        """Each row, and whether what `view` shows of it may hold what is looked for."""
        start = size = 0
        texts: list[str] = []
        for text in map(view, examples):
            texts.append(text)
            size += len(text)
            if len(texts) >= ROWS or size > CHARACTERS:
                yield from zip(examples[start : start + len(texts)], self.holds(texts), strict=True)
                start, size, texts = start + len(texts), 0, []
        yield from zip(examples[start:], self.holds(texts), strict=True)


def _matches(texts: list[str], pattern: str) -> list[bool]:
    """Texts that are no valid Unicode always match."""
    if len(texts) < FEW or not pattern:
        return [True] * len(texts)
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        array = pa.array(texts, pa.string())
    except UnicodeEncodeError:
        array = pa.array([text if valid(text) == text else "ı" for text in texts], pa.string())
    found: list[bool] = pc.match_substring_regex(array, f"(?is:{pattern})").to_pylist()
    return found


def whole(row: Example) -> str:
    """Instruction, input and output as one text."""
    return f"{row.instruction}\n{row.input}\n{row.output}"


def parts(examples: Sequence[Example], rows: int = 1024) -> Iterator[Sequence[Example]]:
    """So many rows at a time."""
    for start in range(0, len(examples), rows):
        yield examples[start : start + rows]
