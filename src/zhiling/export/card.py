"""The card of an exported data set: how it was made, what was decided about its rows, whose data it stands on, and what it does not promise.

Every figure is counted from the run's own tables. What nobody stated (a licence) is said to be unstated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zhiling import recipe as recipes
from zhiling.errors import say
from zhiling.ledger import reasons, waterfall
from zhiling.store import views

MARK = "<!-- made by zhiling export -->"
"""By it an earlier export is known, which may be written over."""
GUARDS = ("heldout", "decontaminate")
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def card(folder: Path, files: Mapping[str, str], note: str = "") -> str:
    """The card of a run's rows in the user's language; `files` are {split: path}, `note` how a tuner reads them."""
    recipe, db = recipes.load(folder / "recipe.yaml"), views(folder)
    languages = [
        row[0] for row in db.execute("select distinct lang from kept where lang <> '' order by lang").fetchall()
    ]
    parts = [_front(recipe, db, files, languages), MARK, f"# {recipe.name}", _made(recipe, db), _counts(folder, db)]
    parts += [_sources(recipe), _clean(db), _limits(recipe, db, languages)]
    if note:
        parts.append(f"## {say('How to tune on it', '如何用于微调')}\n\n{note}")
    db.close()
    return "\n\n".join(parts) + "\n"


def _front(recipe: recipes.Recipe, db: Any, files: Mapping[str, str], languages: Sequence[str]) -> str:
    """What the hub reads. A licence is named only where every source states the same one."""
    stated = {source.licence for task in recipe.tasks.values() for source in task.sources()}
    kept = _one(db, "select count(*) from kept")
    front: dict[str, Any] = {
        "pretty_name": recipe.name,
        "language": list(languages),
        "license": stated.pop().lower()
        if len(stated) == 1 and "" not in stated
        else "other"
        if stated - {""}
        else "unknown",
        "task_categories": ["text-generation"],
        "size_categories": [next((name for most, name in _SIZES if kept < most), "n>10M")],
        "tags": ["instruction-tuning", "zhiling"],
        "configs": [{"config_name": "default", "data_files": [{"split": k, "path": v} for k, v in files.items()]}],
    }
    return "---\n" + yaml.safe_dump(front, allow_unicode=True, sort_keys=False) + "---"


def _made(recipe: recipes.Recipe, db: Any) -> str:
    held = dict(db.execute("select task, count(*) from heldout group by task").fetchall())
    kept = dict(db.execute("select task, count(*) from kept group by task").fetchall())
    head = [
        say(*words)
        for words in (
            ("task", "任务"),
            ("family", "类别"),
            ("languages", "语言"),
            ("rows", "行数"),
            ("held out", "留出"),
        )
    ]
    rows = [
        [name, spec.family, ", ".join(spec.langs), kept.get(name, 0), held.get(name, 0)]
        for name, spec in recipe.tasks.items()
    ]
    makers = db.execute("select maker, count(*) as rows from kept group by maker order by rows desc, maker").fetchall()
    steps = [
        (say("constructed by", "构造"), [_step(step) for step in recipe.construct]),
        (say("scored by", "评分"), [_step(step) for step in recipe.score]),
        (say("selected by", "筛选"), [_step(step) for step in recipe.select]),
    ]
    used = {step.model for step in [*recipe.construct, *recipe.score] if step.model}
    models = [f"{name} = {_model(recipe.models[name])}" for name in sorted(used)]
    lines = [f"- {name}: {', '.join(f'`{step}`' for step in listed) or say('nothing', '无')}" for name, listed in steps]
    lines.append(
        f"- {say('models asked', '所用模型')}: {', '.join(f'`{model}`' for model in models) or say('none', '无')}"
    )
    lines.append(f"- {say('seed', '随机种子')}: {recipe.seed}")
    ways = _table([say("made by", "由谁构造"), say("rows", "行数")], [list(row) for row in _by_way(makers)])
    title = say("How it was made", "如何制作")
    return "\n\n".join([f"## {title}", _table(head, rows), "\n".join(lines), ways])


def _by_way(makers: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Rows by the way and, where a model wrote them, by the model; single templates are not listed."""
    counts: dict[str, int] = {}
    for maker, rows in makers:
        way = maker.split(":")[0] if maker.startswith(("template:", "retrieve:")) else maker
        counts[way] = counts.get(way, 0) + rows
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _step(step: recipes.Step) -> str:
    told = {
        key: _bare(value)
        for key, value in step.settings.items()
        if isinstance(value, str | int | float) and value != ""
    }
    return step.kind + (f"({', '.join(f'{key}={value}' for key, value in sorted(told.items()))})" if told else "")


def _model(entry: Mapping[str, Any]) -> str:
    """A model's provider and name; where it is reached, and with which key, is left out."""
    return f"{entry['provider']}: {_bare(entry.get('model') or entry.get('path') or '')}".rstrip(": ")


def _bare(value: object) -> object:
    """A file's or folder's name without its place, which is nobody else's business."""
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~", ".")) else value


def _counts(folder: Path, db: Any) -> str:
    states = _table(
        [say("way", "方式"), say("state", "状态"), say("stage", "阶段"), say("rows", "行数")],
        [list(row.values()) for row in waterfall(folder)],
    )
    gone = _table(
        [say("stage", "阶段"), say("why", "原因"), say("rows", "行数"), say("left", "剩余")],
        [[row["stage"], row["why"], row["rows"], row["left"]] for row in reasons(folder)],
    )
    verdicts = db.execute(
        "select selector, count(*) filter (where kept), count(*) filter (where not kept) from verdicts group by selector order by selector"
    ).fetchall()
    told = _table(
        [say("selector", "筛选器"), say("kept", "保留"), say("dropped", "丢弃")], [list(row) for row in verdicts]
    )
    return "\n\n".join(
        [f"## {say('What became of every row', '每一行的去向')}", states, gone, f"## {say('Verdicts', '裁决')}", told]
    )


def _sources(recipe: recipes.Recipe) -> str:
    unstated = say("not stated", "未说明")
    rows = [
        [name, Path(source.path).name, source.licence or unstated]
        for name, task in recipe.tasks.items()
        for source in task.sources()
    ]
    lines = [
        f"## {say('Sources and licences', '来源与许可')}",
        _table([say("task", "任务"), say("file", "文件"), say("licence", "许可")], rows),
    ]
    lines.append(
        say(
            "Licences are those that the recipe states (`data: {path, licence}`); they were not checked. What a model wrote may fall under"
            " that model's terms too.",
            "许可以配方所写为准（`data: {path, licence}`），未经核实。模型生成的内容还可能受该模型条款约束。",
        )
    )
    return "\n\n".join(lines)


def _clean(db: Any) -> str:
    """What the guards saw, or that none looked."""
    query = "select selector, count(*), count(*) filter (where not kept) from verdicts group by selector order by selector desc"
    found = [row for row in db.execute(query).fetchall() if row[0] in GUARDS]
    held = _one(db, "select count(*) from heldout")
    lines = [f"## {say('Decontamination', '去污染')}"]
    lines += [
        say(
            f"`{name}` looked at {seen} rows and dropped {dropped} that show a held-out row.",
            f"`{name}` 检查了 {seen} 行，丢弃了 {dropped} 行与留出数据重合的数据。",
        )
        for name, seen, dropped in found
    ]
    if not found:
        lines.append(say("No guard has looked at these rows.", "尚无检查器检查过这些数据。"))
    if not held:
        lines.append(
            say("Nothing was held out, so that nothing was compared with.", "没有留出数据，因而没有可比对的对象。")
        )
    lines.append(
        say(
            "Public benchmarks are compared with only where the recipe names them.",
            "只有配方列出的公开评测集才会参与比对。",
        )
    )
    return "\n\n".join(lines)


def _limits(recipe: recipes.Recipe, db: Any, languages: Sequence[str]) -> str:
    kept = _one(db, "select count(*) from kept")
    silent = db.execute(
        "select scorer, count(*) from scores where value is null and example in (select id from kept) group by scorer order by scorer"
    ).fetchall()
    human = _one(db, "select count(*) from verdicts where selector = 'human' and example in (select id from kept)")
    checked = [name for name, task in recipe.tasks.items() if task.verifier]
    named = ", ".join(languages) or "?"
    lines = [
        say(f"- {human} of {kept} rows were looked at by a person.", f"- {kept} 行中有 {human} 行经人工审阅。"),
        say(f"- Languages: {named}; nothing is known of others.", f"- 语言：{named}；对其他语言一无所知。"),
        say(
            f"- Answers were verified in the tasks: {', '.join(checked) or 'none'}; elsewhere they are as right as the data they come from.",
            f"- 答案经过校验的任务：{'、'.join(checked) or '无'}；其余答案的正确性取决于数据来源。",
        ),
    ]
    lines += [
        say(f"- `{name}` could not score {rows} of the kept rows.", f"- `{name}` 未能为保留数据中的 {rows} 行打分。")
        for name, rows in silent
    ]
    return "\n\n".join([f"## {say('Limits', '局限')}", "\n".join(lines)])


def _one(db: Any, query: str) -> int:
    return int(db.execute(query).fetchone()[0])


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
