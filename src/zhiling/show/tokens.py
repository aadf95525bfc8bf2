"""What a tuner sees of a row: its tokens in order, and which of them the loss sees. For eyes, in a terminal and as a page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import say
from zhiling.tune.render import LeftOut, Rendered, prepare, render
from zhiling.tune.settings import Sees
from zhiling.types import Example


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one token, or of several that share a character, and whether the loss sees it."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A row's pieces; `why` says instead why it is left out ("empty", "long", "control")."""

    id: str
    task: str
    pieces: tuple[Piece, ...]
    tokens: int = 0
    trained: int = 0
    why: str = ""


def shown(rows: Iterable[Example], base: str, sees: Sees = Sees.ANSWER, limit: int | None = None) -> Iterator[Shown]:
    """Each row as it would be tuned on. `base` is "embedded", a model folder or a hub name."""
    from zhiling.tune import model as models

    tokenizer = prepare(models.load_tokenizer(models.locate(base)))
    for row in rows:
        try:
            made = render(row, tokenizer, sees, limit)
        except LeftOut as left:
            yield Shown(row.id, row.task, (), why=left.why)
        else:
            yield Shown(row.id, row.task, tuple(pieces(made, tokenizer)), len(made.ids), made.targets)


def pieces(row: Rendered, tokenizer: Any) -> Iterator[Piece]:
    """The row's tokens as text. Tokens that only together make a character, as those of Chinese often do, are one piece."""
    held: list[int] = []
    for at, token in enumerate(row.ids):
        held.append(token)
        text = tokenizer.decode(held, clean_up_tokenization_spaces=False)
        border = at + 1 == len(row.ids) or row.trained[at + 1] != row.trained[at]
        if "\ufffd" not in text or border:
            yield Piece(text, row.trained[at])
            held = []


DIM, BOLD, LINE, OFF = "\x1b[2m", "\x1b[1;32m", "\x1b[4m", "\x1b[0m"


def lines(rows: Iterable[Shown], colour: bool = True) -> Iterator[str]:
    """The rows for a terminal: trained tokens bold and green, the others dim, every second one underlined; or in [[ ]] without colour."""
    for row in rows:
        yield _head(row)
        if row.pieces:
            yield _coloured(row.pieces) if colour else _plain(row.pieces)
        yield ""


def _head(row: Shown) -> str:
    if row.why:
        return f"{row.id}  {row.task}  {say('left out: ', '不用于微调：')}{_reason(row.why)}"
    trained = say(f"{row.trained} of {row.tokens} tokens trained", f"{row.tokens} 个词元中训练 {row.trained} 个")
    return f"{row.id}  {row.task}  {trained}"


def _reason(why: str) -> str:
    said = {
        "empty": ("its answer is empty", "答案为空"),
        "long": ("it is longer than the limit", "超出长度上限"),
        "control": ("it holds the model's control tokens", "含有模型的控制符"),
    }
    return say(*said.get(why, (why, why)))


def _coloured(row: Sequence[Piece]) -> str:
    parts = []
    for at, piece in enumerate(row):
        marks = (BOLD if piece.trained else DIM) + (LINE if at % 2 else "")
        parts.append("\n".join(f"{marks}{line}{OFF}" if line else "" for line in _safe(piece.text).split("\n")))
    return "".join(parts)


def _plain(row: Sequence[Piece]) -> str:
    out, inside = "", False
    for piece in row:
        if piece.trained != inside:
            out, inside = out + ("[[" if piece.trained else "]]"), piece.trained
        out += _safe(piece.text)
    return out + ("]]" if inside else "")


def _safe(text: str) -> str:
    """Without control characters: data must not steer the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)


PAGE = """<!doctype html><html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>
body{{font:16px/1.9 system-ui,"Noto Sans CJK SC",sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733;background:#fff}}
section{{margin:0 0 2rem}}h1{{font-size:1.4rem}}h2{{font-size:.95rem;font-weight:600;color:#4a5868}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;margin:0;padding:.8rem 1rem;border:1px solid #d5dde5;border-radius:8px}}
span{{color:#66727f;border-bottom:2px solid #e3e9ee}}span:nth-child(even){{border-color:#b9c5d0}}
span.t{{color:#064a2f;background:#d8f3e3;border-color:#7cc9a0}}span.t:nth-child(even){{border-color:#2f8f5f}}
@media(prefers-color-scheme:dark){{body{{background:#12171d;color:#dde5ec}}h2{{color:#a6b4c2}}pre{{border-color:#33404d}}
span{{color:#93a1ae;border-color:#2b3642}}span:nth-child(even){{border-color:#475665}}span.t{{color:#c9f5dc;background:#123b29;border-color:#2f8f5f}}}}
</style><h1>{title}</h1><p><span class="t">{seen}</span> · <span>{unseen}</span></p>{body}</html>"""


def page(rows: Iterable[Shown], out: Path) -> Path:
    """The rows as an HTML page that needs no network."""
    from zhiling.errors import boundary, lang

    body = []
    for row in rows:
        spans = "".join(
            f"<span{' class=t' if piece.trained else ''}>{html.escape(_safe(piece.text))}</span>"
            for piece in row.pieces
        )
        body.append(f"<section><h2>{html.escape(_head(row))}</h2>{f'<pre>{spans}</pre>' if spans else ''}</section>")
    words = {
        "title": say("What the loss sees", "损失函数看到的内容"),
        "seen": say("trained", "参与训练"),
        "unseen": say("context only", "仅作上下文"),
    }
    try:
        out.write_text(PAGE.format(lang=lang(), body="".join(body), **words), encoding="utf-8")
    except OSError as error:
        raise boundary(error, str(out)) from error
    return out
