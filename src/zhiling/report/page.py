"""From facts to HTML: the page is written once per language, and each language's part is whole."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from zhiling.ledger import STATES
from zhiling.llm.bill import per_row
from zhiling.report import figures, pictures
from zhiling.report.files import Results, RunFacts, Tuning
from zhiling.report.gather import Tables
from zhiling.report.rows import WAYS, Text
from zhiling.report.svg import swatch
from zhiling.report.words import Words

HERE = Path(__file__).parent
SECTIONS = (
    "flow", "ways", "scores", "losses", "varied", "loss", "proof", "answers", "samples", "wordings", "bill", "ledger", "recipe",
)  # fmt: skip
OWN = {"en": "English", "zh": "中文"}
RECIPE = 60_000  # characters of the recipe that the page carries


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page is made from."""

    folder: str
    run: RunFacts
    tables: Tables
    results: Results | None
    tuning: Tuning | None
    recipe: str


def render(facts: Facts, langs: Sequence[str], first: str) -> str:
    """The whole page, `first` being the language that is shown first."""
    env = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.globals.update(
        count=figures.count, share=figures.share, score=figures.score, metric=figures.metric, gain=figures.gain,
        loss=figures.loss, chance=figures.chance,
        money=figures.money,
        pictures=pictures, swatch=swatch, known_ways=WAYS, states=STATES, sections=SECTIONS, total=_total,
    )  # fmt: skip
    pages = []
    for lang in langs:
        words = Words(lang)
        body = env.get_template("page.html.j2").render(_context(facts, words))
        pages.append({"lang": lang, "code": words.code, "own": OWN[lang], "body": Markup(body)})
    words, script = Words(first), (HERE / "page.js").read_text(encoding="utf-8")
    name = f"{facts.run.name} · {words('page')} · zhiling" if facts.run.name else f"{words('page')} · zhiling"
    page = env.get_template("shell.html.j2").render(
        pages=pages, first=first, code=words.code, name=name, css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script), script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    return page.translate(CONTROLS) + "\n"


CONTROLS = {code: "\ufffd" for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160))}
"""Characters that HTML forbids, which hostile data may hold."""


def _context(facts: Facts, words: Words) -> Mapping[str, Any]:
    tables, results, run = facts.tables, facts.results, facts.run
    went = sum(tables.ledger.values())
    unreadable = tables.ledger.get("quarantined", 0) - len(tables.quarantined)
    same = all(tables.ledger.get(state, 0) == run.states.get(state, 0) for state in {*tables.ledger, *run.states})
    level = results.confidence if results else None
    return {
        "t": words, "lang": words.lang, "folder": facts.folder, "run": run, "tables": tables, "results": results, "tuning": facts.tuning,
        "recipe": Text(facts.recipe[:RECIPE], len(facts.recipe)), "title": title(facts, words), "lead_text": lead(facts, words), "went": went,
        "ways": list(tables.by_way("drafts")),
        "balanced": run.came == went and same, "bill": bill(facts, words), "moves": {move.task: move for move in tables.moves},
        "more_quarantined": max(unreadable, 0),
        "interval": words("proof.interval") if level is None else words("proof.interval_of", share=f"{100 * level:g}%"),
        "samples": [(way, list(rows)) for way, rows in itertools.groupby(tables.samples, lambda row: row.way)],
    }  # fmt: skip


def title(facts: Facts, words: Words) -> str:
    """The run's verdict in one line; before evaluation, how far it came."""
    tables, results = facts.tables, facts.results
    if results:
        better, worse = results.count("better"), results.count("worse")
        said = [words("title.better", n=better, all=len(results.tasks))]
        said += [words("title.worse", n=worse)] if worse else []
        same = len(results.tasks) - better - worse
        return words("title.comma").join([*said, words("title.same", n=same)] if same else said)
    if tables.ledger:
        return words("title.kept", n=tables.ledger.get("kept", 0))
    return words("title.made", n=_total(tables.by_way("unique")) or 0)


def lead(facts: Facts, words: Words) -> str:
    """Two or three sentences under the title: what came of the rows, how it was tested, and the verdict in the comparison's words."""
    tables, said = facts.tables, list[str]()
    if tables.ledger:
        said.append(words("lead.kept", n=tables.ledger.get("kept", 0), came=sum(tables.ledger.values())))
    overall = facts.results.overall if facts.results else None
    if overall and overall.n is not None:
        said.append(words("lead.heldout", n=overall.n))
    if overall and overall.words.get(words.lang):
        said.append(words("lead.overall", words=overall.words[words.lang]))
    return words("space").join(said)


def bill(facts: Facts, words: Words) -> dict[str, Any]:
    """The models' bills of all executions with their sum in words, and the price of a kept row."""
    rows, kept = facts.run.bills, facts.tables.ledger.get("kept", 0)
    known = [row.usd for row in rows if row.usd is not None]
    unknown = len(rows) - len(known)
    total = short = figures.money(sum(known))
    if unknown:
        total = words("bill.least", usd=total) if sum(known) else words("bill.unknown")
        short = f"≥\u00a0{short}" if sum(known) else figures.DASH
    each = per_row([row.usd for row in rows], kept) if rows else None
    unsure = sum(row.unsure or 0 for row in rows)
    return {
        "rows": rows,
        "total": total,
        "short": short,
        "unknown": unknown,
        "per_row": "" if each is None else figures.money(each),
        "unsure": unsure,
    }


def _total(values: Mapping[str, int | None]) -> int | None:
    known = [n for n in values.values() if n is not None]
    return sum(known) if known else None
