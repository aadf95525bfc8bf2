"""Extraction to a JSON schema: what comes back is valid by the schema, and its values are found in the passage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from zhiling import text
from zhiling.construct.documents import evidence
from zhiling.construct.documents.wording import lang_of, passage_of, verified, worded
from zhiling.construct.generate.asking import Asking, Said, Style, book, styled
from zhiling.construct.generate.checks import Verify
from zhiling.construct.generate.floor import Made, over_records
from zhiling.errors import RecipeError, say
from zhiling.llm.parse import json_value
from zhiling.llm.schema import fault
from zhiling.registry import constructor
from zhiling.types import Record, Reject, Request, Task

if TYPE_CHECKING:
    from zhiling.llm import Model

SHOWN = 6000


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """One row a passage."""
    return 1


@constructor("extract", over="records", ready=ready, langs=("en", "zh"))
async def extract(
    *,
    task: Task,
    records: Iterable[Record],
    model: Model,
    verify: Verify,
    seed: int,
    here: Path,
    schema: dict[str, Any] | str,
    empty: bool = False,
    style: Style = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.0,
    floor: Annotated[float, Ge(0), Le(1)] = 0.05,
) -> list[Made]:
    """The data of each passage as JSON of a `schema` (a mapping, or a JSON file), worded by the library.

    The task's first input is the text, its target the JSON; the row's prompt names the schema's keys. Checks: `schema` (valid),
    `values` (each string and number is in the text; those of an enum or const, and booleans, are labels and need not be), `empty` (all
    values null; such rows are kept with `empty`). Raises RecipeError for a schema that cannot be read. Stops early below `floor`.
    """
    form = _schema(schema, here)
    maker = f"extract:{model.label}"

    async def work(some: Sequence[Record]) -> list[Made]:
        out: list[Made] = []
        for lang in ("en", "zh"):
            mine = [record for record in some if lang_of(record, task) == lang]
            asking = Asking(
                task, model, book("documents", prompts, here), lang, styled(model, style), seed, temperature
            )
            asked = [_request(asking, record, form) for record in mine]
            for record, said in zip(mine, await asking.send(asked) if asked else [], strict=True):
                out.append(_row(record, said, form, task, seed, maker, empty))
        return await verified(out, verify)

    return await over_records(work, list(records), floor=floor, model=model, step=f"tasks.{task.name}")


def _request(asking: Asking, record: Record, form: Mapping[str, Any]) -> Request:
    prompt = asking.book.find("extract", asking.lang, asking.style)
    values = {"schema": json.dumps(form, ensure_ascii=False), "passage": passage_of(record, asking.task)[:SHOWN]}
    able = "schema" in asking.model.provider.can or "chat" in asking.model.provider.can
    held: dict[str, Any] = {"schema": form} if able else {}
    return asking.plain(prompt.filled(values), f"extract:{record.id}", max_tokens=800, **held)


def _row(record: Record, said: Said, form: Mapping[str, Any], task: Task, seed: int, maker: str, empty: bool) -> Made:
    where, parents = f"{record.file}:{record.line}", (record.id, said.key) if said.key else (record.id,)
    if said.fault:
        return Reject(task.name, maker, "failed", said.fault, where, said.text, parents)
    try:
        value = json_value(said.text).value
    except ValueError as error:
        return Reject(task.name, maker, "failed", f"form: {error}", where, said.text, parents)
    if why := wrong(value, form, passage_of(record, task), empty):
        return Reject(task.name, maker, "dropped", why, where, said.text, parents)
    keys = ", ".join(form.get("properties", {})) or json.dumps(form, ensure_ascii=False)
    fields = {task.target: json.dumps(value, ensure_ascii=False), "schema": keys}
    return worded(task, record, fields, seed, maker, parents)


def wrong(value: Any, form: Mapping[str, Any], passage: str, empty: bool = False) -> str:
    """Why a value is not what the passage says in that form; "" where it is."""
    if broken := fault(value, form):
        return f"schema: {broken}"
    leaves = list(_leaves(value, form, "$"))
    if not empty and not any(leaf is not None and leaf != "" for _, leaf, _ in leaves):
        return say("empty: the passage has none of it", "empty：原文中没有所要的信息")
    figures = evidence.figures(passage)
    for path, leaf, free in leaves:
        if free or leaf is None or leaf == "" or isinstance(leaf, bool):
            continue
        if isinstance(leaf, int | float):
            found = _figure(leaf) in {_figure(one) for one in figures}
        else:
            found = evidence.locate(passage, leaf) is not None
        if not found:
            shown = text.cut(str(leaf), 60)
            return say(f"values: {path} is not in the passage: {shown}", f"values：{path} 不在原文中：{shown}")
    return ""


def _figure(value: Any) -> str:
    try:
        return f"{float(str(value).replace(',', '')):g}"
    except ValueError:
        return str(value)


def _leaves(value: Any, form: Any, path: str) -> Iterator[tuple[str, Any, bool]]:
    """(path, value, whether it is a label of the schema's own) of everything that is no mapping or list."""
    form = form if isinstance(form, Mapping) else {}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, form.get("properties", {}).get(key), f"{path}.{key}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _leaves(inner, form.get("items"), f"{path}[{at}]")
    else:
        yield path, value, "enum" in form or "const" in form


def _schema(given: Mapping[str, Any] | str, here: Path) -> Mapping[str, Any]:
    if not isinstance(given, str):
        return given
    try:
        read = json.loads((here / given).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = say(f"the schema cannot be read: {error}", f"无法读取 schema：{error}")
        raise RecipeError(
            what, where=f"schema: {given}", mend=say("name a JSON file", "请指明一个 JSON 文件")
        ) from error
    if not isinstance(read, Mapping):
        raise RecipeError(say("the schema is no JSON object", "schema 不是 JSON 对象"), where=f"schema: {given}")
    return read
