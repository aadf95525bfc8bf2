"""The page's pictures: what is drawn from which facts, with every label in one language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from zhiling import registry
from zhiling.report import draw, figures
from zhiling.report.draw import Bar, Bin, Column, Line, Part, Whisker
from zhiling.report.figures import count, gain, metric, score
from zhiling.report.files import Result, Results, Tuning
from zhiling.report.gather import Loss, Tables
from zhiling.report.rows import WAYS
from zhiling.report.scores import Scorer
from zhiling.report.varied import Varied
from zhiling.report.words import WORDS, Words

COLOURS = 8  # of lines; more tasks than that share them


def fill(way: str) -> str:
    """The colour class of a way of constructing."""
    return f"f-{way}" if way in WAYS else "f-other"


def flow(tables: Tables, words: Words) -> tuple[Markup, Markup]:
    """The run as a flow of rows, for a wide page and as bars for a narrow one."""
    stages = [("templates", "templates"), ("drafts", "rows"), ("unique", "rows"), ("scored", "rows"), ("kept", "rows")]
    ways = list(tables.by_way("drafts"))
    fills = [fill(way) for way in ways]
    columns = [Column(words("flow.records"), count(tables.records), [tables.records], "records", ["f-plain"])]
    for field, unit in stages:
        found = tables.by_way(field)
        known = [n for n in found.values() if n is not None]
        if known:
            bands = [found.get(way) or 0 for way in ways]
            columns.append(Column(words(f"flow.{field}"), count(sum(known)), bands, unit, fills))
    title, desc = words("flow"), _told(((column.label, column.total) for column in columns), words)
    wide = draw.ribbons(columns, _steps(tables, words)[: len(columns) - 1], title, desc)
    return wide, draw.bars([_as_bar(column, columns) for column in columns], title, desc)


def _as_bar(column: Column, columns: Sequence[Column]) -> Bar:
    """A stage as a bar, its length a share of its unit's fullest stage."""
    most = max(sum(other.bands) for other in columns if other.unit == column.unit) or 1
    return Bar(
        column.label,
        [[Part(n / most, one, "") for n, one in zip(column.bands, column.fills, strict=True)]],
        column.total,
    )


def _told(facts: Iterable[tuple[str, str]], words: Words) -> str:
    """What a picture shows, for those who cannot see it."""
    return words("title.comma").join(f"{name} {figure}" for name, figure in facts)


def _steps(tables: Tables, words: Words) -> list[str]:
    """What happened between one stage of the flow and the next."""
    made, unique, kept = (sum(n or 0 for n in tables.by_way(field).values()) for field in ("drafts", "unique", "kept"))
    ways = sum(bool(n) for n in tables.by_way("templates").values())
    steps = [
        words("flow.word", n=ways),
        words("flow.fill"),
        words("flow.merge", n=made - unique) if made > unique else "",
    ]
    if tables.scorers:
        steps.append(words("flow.score", n=len(tables.scorers)))
    if tables.ledger:
        steps.append(words("flow.select", n=unique - kept) if unique > kept else "")
    return steps


def ways(tables: Tables, words: Words) -> Markup:
    """Rows made and kept per task, by way."""
    drafts, kept = tables.by_task("drafts"), tables.by_task("kept")
    rows = []
    for task, made in drafts.items():
        mine = [way for way in tables.ways if way.task == task]
        tracks = [_track(((way.way, way.drafts) for way in mine), words, "ways.tip_made", "soft ")]
        if kept[task] is not None:
            tracks.append(_track(((way.way, way.kept or 0) for way in mine), words, "ways.tip_kept", ""))
            note = words("ways.note", made=made, kept=kept[task])
        else:
            note = words("ways.note_made", made=made)
        rows.append(Bar(task, tracks, note))
    return draw.bars(rows, words("ways"), _told(((row.label, row.note) for row in rows), words), thick=10)


def _track(parts: Iterable[tuple[str, int]], words: Words, what: str, kind: str) -> list[Part]:
    return [
        Part(n, kind + fill(way), words("ways.tip", way=words.name("way", way), n=n, what=words(what)))
        for way, n in parts
    ]


def scores(scorer: Scorer, words: Words) -> Markup:
    """One scorer's histogram."""
    bins = []
    for bucket in scorer.buckets:
        key = ("scores.value" if scorer.single else "scores.bin") + ("" if bucket.kept is None else "_kept")
        tip = words(key, low=score(bucket.low), high=score(bucket.high), n=bucket.n, kept=bucket.kept)
        bins.append(Bin(tip, bucket.n, bucket.kept))
    if scorer.single:
        ends = [score(bucket.low) for bucket in scorer.buckets]
    elif scorer.buckets:
        more = "+" if scorer.above else ""
        ends = [score(scorer.buckets[0].low), score(scorer.buckets[-1].high) + more]
    else:
        return Markup("")
    aside = words("scores.unscored_tip", n=scorer.unscored)
    name = words.name("score", scorer.name)
    desc = words("scores.median_all", all=score(scorer.median))
    return draw.histogram(bins, ends, name, desc, aside=(scorer.unscored, aside))


def place(loss: Loss, words: Words) -> str:
    """Where rows were lost, in words."""
    if loss.state == "dropped":
        if loss.stage in WAYS:
            return words("place.proposal")
        chosen = f"select.{loss.stage}" in WORDS or loss.stage in registry.names("selector")
        return words.name("select", loss.stage) if chosen else words("place.making", name=loss.stage)
    name = words.name("place", loss.state)
    return f"{name}{words('colon')}{loss.stage}" if loss.state == "failed" and loss.stage else name


def waterfall(tables: Tables, words: Words) -> Markup:
    """From all rows that came in to those kept, a bar per place where rows were lost."""
    left = sum(tables.ledger.values())
    rows = [Bar(words("losses.came"), [[Part(left, "f-plain", "")]], count(left))]
    for loss in tables.losses:
        left -= loss.n
        name = place(loss, words)
        rows.append(
            Bar(name, [[Part(loss.n, f"f-{loss.state}", f"{name}: {count(loss.n)}")]], f"−{count(loss.n)}", left)
        )
    rows.append(Bar(words("losses.kept"), [[Part(left, "f-kept", "")]], count(left)))
    return draw.bars(rows, words("losses"), _told(((row.label, row.note) for row in rows), words), thick=14)


def asks(varied: Varied, words: Words) -> Markup:
    """What the rows ask for: its share of those made, and under it of those kept."""
    rows = []
    for ask in varied.asks:
        made = figures.share(ask.made, 1)
        tracks = [[Part(ask.made, "soft f-kept" if ask.kept is not None else "f-plain", f"{ask.name}: {made}")]]
        note = made
        if ask.kept is not None:
            tracks.append([Part(ask.kept, "f-kept", f"{ask.name}: {figures.share(ask.kept, 1)}")])
            note = f"{made} → {figures.share(ask.kept, 1)}"
        rows.append(Bar(ask.name, tracks, note))
    return draw.bars(rows, words("varied.asks"), _told(((row.label, row.note) for row in rows), words), thick=10)


def colour(index: int) -> str:
    """The colour class of the line number `index`."""
    return f"line{index % COLOURS}"


def losses(tuning: Tuning, words: Words) -> Markup:
    """The loss of each task over the steps, validation as dots."""
    series = [Line(curve.name, colour(i), curve.points) for i, curve in enumerate(tuning.curves)]
    series += [
        Line(f"{curve.name} · {words('loss.validation')}", colour(i), curve.validation, True)
        for i, curve in enumerate(tuning.curves)
        if curve.validation
    ]
    ends = (
        (curve.name, f"{figures.loss(curve.points[0][1])} → {figures.loss(curve.points[-1][1])}")
        for curve in tuning.curves
    )
    return draw.lines(series, words("loss"), _told(ends, words), words("loss.steps"), words("loss.loss"))


def _named(results: Results, words: Words) -> list[tuple[str, Result]]:
    rows = [(task.name, task) for task in results.tasks]
    return rows if results.overall is None else [*rows, (words("all"), results.overall)]


def before_after(results: Results, words: Words) -> Markup:
    """Base and tuned score per task, as two dots on one line."""
    rows = []
    for name, result in _named(results, words):
        pairs = ((result.base, "base", words("proof.base")), (result.tuned, "tuned", words("proof.tuned")))
        dots = [
            (100 * value, kind, f"{name}: {said} {metric(value)}") for value, kind, said in pairs if value is not None
        ]
        rows.append(Whisker(name, dots, note=f"{metric(result.base)} → {metric(result.tuned)}"))
    desc = _told(((row.label, row.note) for row in rows), words)
    return draw.whiskers(rows, words("proof.scores"), desc, words("proof.axis"), span=(0.0, 100.0))


def verdict(result: Result) -> str:
    """The verdict as a key of the words and a colour class: "better", "worse" or "same" (cannot tell)."""
    return result.verdict if result.verdict in ("better", "worse") else "same"


def differences(results: Results, words: Words) -> Markup:
    """Tuned minus base per task with its interval, against the line of no difference."""
    rows = []
    for name, result in _named(results, words):
        tip = f"{name}: {gain(result.difference)} [{gain(result.low)}, {gain(result.high)}]"
        dots = [(100 * result.difference, verdict(result), tip)] if result.difference is not None else []
        low, high = (None if end is None else 100 * end for end in (result.low, result.high))
        rows.append(Whisker(name, dots, low, high, words(f"proof.{verdict(result)}")))
    return draw.whiskers(
        rows, words("proof.difference"), words("proof.lead"), words("proof.axis_difference"), zero=True
    )
