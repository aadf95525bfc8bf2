"""`zhiling template ...`: the library of templates from the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiling.errors import DataError, say

template = typer.Typer(no_args_is_help=True, help="The library of instruction templates. 指令模板库。")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]


@template.command("list")
def list_templates(
    family: Annotated[str | None, typer.Option(help="Only this family. 只看某一族。")] = None,
    lang: Annotated[str, typer.Option(help="Only phrasings of this language: zh or en. 只看某种语言。")] = "",
    as_json: Json = False,
) -> None:
    """The shipped definitions. 列出自带模板。"""
    from zhiling.construct.library import FAMILIES, list_definitions
    from zhiling.show import show_table

    if family is not None and family not in FAMILIES:
        raise DataError(
            say(f"no family '{family}'", f"没有“{family}”这一族"), where="--family", mend=", ".join(FAMILIES)
        )
    found = [d for d in list_definitions(family) if not lang or lang in d.langs]
    counts = [sum(not lang or phrasing.lang == lang for phrasing in d.phrasings) for d in found]
    rows = [
        {"id": d.id, "family": d.family, "langs": ",".join(d.langs), "fields": ", ".join(d.fields), "phrasings": count}
        for d, count in zip(found, counts, strict=True)
    ]
    show_table(rows, as_json)
    if not as_json:
        print(
            say(f"{len(found)} definitions, {sum(counts)} phrasings", f"{len(found)} 个模板定义，{sum(counts)} 条措辞")
        )


@template.command("show")
def show_template(
    name: Annotated[str, typer.Argument(help="A definition's id or YAML file. 模板 id 或文件。")],
    lang: Annotated[str, typer.Option(help="Only phrasings of this language. 只看某种语言。")] = "",
    as_json: Json = False,
) -> None:
    """A definition with every phrasing, rendered with its example. 查看一个模板的全部措辞。"""
    from zhiling.construct.library_check import rendered, show

    definition = _definition(name)
    if not as_json:
        print(show(definition, lang))
        return
    made = {example.maker.removeprefix("template:"): example for example in rendered(definition)}
    phrasings = [
        {
            **asdict(phrasing),
            "name": (said := definition.name(phrasing)),
            "example": _row(made[said]) if said in made else None,
        }
        for phrasing in definition.phrasings
        if not lang or phrasing.lang == lang
    ]
    print(json.dumps({**asdict(definition), "phrasings": phrasings}, ensure_ascii=False, indent=1))


@template.command("render")
def render_template(
    text: Annotated[
        str, typer.Argument(help="A text with {slots}, a definition's id, or a YAML file. 文本、模板 id 或文件。")
    ],
    values: Annotated[
        list[str] | None, typer.Argument(help="name=value ... 空位名=值", metavar="[NAME=VALUE]...")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A data file: its row fills the template. 数据文件。")] = None,
    row: Annotated[int, typer.Option(min=1, help="Which row of it, from 1. 第几行，从 1 数起。")] = 1,
    lang: Annotated[str, typer.Option(help="Only phrasings of this language. 只看某种语言。")] = "",
    as_json: Json = False,
) -> None:
    """Fill '将句子翻译成{语言}：{句子}', or every phrasing of a definition, with values or a row of data. 填充模板。"""
    pairs = [value.partition("=") for value in values or []]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise DataError(say(f"not name=value: {wrong[0]}", f"不是“名=值”的形式：{wrong[0]}"), where="template render")
    fields = {**(_data_row(data, row) if data else {}), **{name: value for name, _, value in pairs}}
    if "{" in text:
        from zhiling.construct.template import from_format, render

        shown = render(from_format(text), fields)
        print(json.dumps({"prompt": shown}, ensure_ascii=False) if as_json else shown)
        return
    from zhiling.construct.library_check import rendered

    definition = _definition(text)
    made = [one for one in rendered(definition, fields or None) if not lang or one.lang == lang]
    if as_json:
        print(json.dumps([_row(one) for one in made], ensure_ascii=False, indent=1))
    elif made:
        print("\n\n".join(f"# {one.maker.removeprefix('template:')}\n{one.prompt}\n→ {one.output}" for one in made))
    if not made:
        have, need = ", ".join(fields) or "-", ", ".join(definition.fields)
        mend = say(f"it needs {need}; given: {have}", f"需要字段 {need}；现有：{have}")
        raise DataError(
            say("the row does not fill any phrasing", "这一行数据无法填充任何措辞"), where=definition.id, mend=mend
        )


def _data_row(path: Path, number: int) -> dict[str, str]:
    from zhiling.data import rows, text_of

    count = 0
    for count, (line, found) in enumerate(rows(path), 1):
        if count == number:
            if isinstance(found, str):
                raise DataError(found, where=f"{path}:{line}")
            return {str(key): text_of(value) for key, value in found.items()}
    raise DataError(
        say(f"the file has {count} rows", f"文件只有 {count} 行"), where=str(path), mend=f"--row 1..{count}"
    )


def _row(example: Any) -> dict[str, Any]:
    """An example for programs: what a model would see, and where it came from."""
    kept = ("maker", "lang", "system", "instruction", "input", "output")
    return {key: getattr(example, key) for key in kept}


@template.command("check")
def check_templates(
    files: Annotated[
        list[Path] | None, typer.Argument(help="YAML files or folders; none: the shipped library. 模板文件或文件夹。")
    ] = None,
    as_json: Json = False,
) -> None:
    """Lint definitions: variables, leaked answers, near-duplicates, wording, languages, contradictions. 检查模板。"""
    from zhiling.construct.library import LIBRARY
    from zhiling.construct.library_check import check_all

    named = [path for file in files or [LIBRARY / "templates"] for path in _yamls(file)]
    found = list(check_all(named))
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], ensure_ascii=False, indent=1))
    else:
        print("\n".join(str(finding) for finding in found) or say("in order", "没有问题"))
        errors = sum(finding.level == "error" for finding in found)
        counts = len(named), errors, len(found) - errors
        told = say("{} files, {} errors, {} warnings", "{} 个文件，{} 个错误，{} 个警告").format(*counts)
        print(told, file=sys.stderr)
    if any(finding.level == "error" for finding in found):
        raise typer.Exit(2)


def _yamls(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.rglob("*") if one.suffix in (".yaml", ".yml") and one.name != "recipe.yaml")
    if not found:
        raise DataError(say("no YAML file in the folder", "文件夹中没有 YAML 文件"), where=str(path))
    return found


@template.command("import")
def import_templates(
    files: Annotated[list[Path], typer.Argument(help="Files, or folders of them. 文件或文件夹。", metavar="FILE...")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The folder to write; without it they are printed. 输出文件夹。")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="promptsource, ni1, ni2 or format; told from the file. 类型，默认自动识别。")
    ] = "",
    target: Annotated[
        str, typer.Option(help="The answer's field, for str.format texts. 答案字段（str.format）。")
    ] = "",
    as_json: Json = False,
) -> None:
    """Templates of promptsource, Natural Instructions tasks and str.format texts, as definitions of ours. 导入其他模板集。"""
    from zhiling.construct.importing import Draft, Skipped, import_files, write
    from zhiling.construct.importing import as_json as told

    made = list(import_files(files, kind, target))
    drafts = [one for one in made if isinstance(one, Draft)]
    if as_json:
        print("[" + ",\n".join(told(one) for one in made) + "]")
    elif out is None:
        print("\n---\n".join(draft.text().rstrip() for draft in drafts))
    written = write(drafts, out) if out is not None else []
    skipped = [one for one in made if isinstance(one, Skipped)]
    for one in [*skipped, *(note for draft in drafts for note in draft.notes)]:
        print(f"{one.where}: {one.why}", file=sys.stderr)
    if written and not as_json:
        phrasings = sum(len(draft.definition["phrasings"]) for draft in drafts)
        print(
            say(
                f"{len(drafts)} definitions, {phrasings} phrasings, {sum(len(draft.rows) for draft in drafts)} rows -> {out}",
                f"{len(drafts)} 个模板定义，{phrasings} 条措辞，{sum(len(draft.rows) for draft in drafts)} 行数据 → {out}",
            )
        )
        recipe = next((path for path in written if path.name == "recipe.yaml"), None)
        print(
            say("next: ", "下一步：")
            + (f"zhiling run {recipe} --until select" if recipe else f"zhiling template check {out}")
        )
    if skipped:
        raise typer.Exit(1 if drafts else 2)


@template.command("new")
def new_template(
    examples: Annotated[
        Path | None, typer.Argument(help="CSV or JSONL of a few examples. 几条示例。", metavar="[EXAMPLES]")
    ] = None,
    describe: Annotated[str, typer.Option(help="The task in words. 用文字说明任务。")] = "",
    target: Annotated[str, typer.Option(help="The answer's field. 答案字段。")] = "",
    lang: Annotated[str, typer.Option(help="zh or en; told from the examples. 语言。")] = "",
    name: Annotated[str, typer.Option("--id", help="The definition's id. 模板 id。")] = "",
    model: Annotated[
        str, typer.Option(help="provider=openai,model=..,base_url=..; default the embedded one; none: rules. 模型。")
    ] = "",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The YAML file to write. 输出文件。")] = None,
    as_json: Json = False,
) -> None:
    """Draft a definition from a few examples with a model, render and lint it. 由几条示例起草模板。"""
    import asyncio

    from zhiling.construct.drafting import Drafted, draft
    from zhiling.data import rows

    if examples is None and not describe:
        mend = say("zhiling template new FILE, or --describe TEXT", "zhiling template new 文件，或 --describe 说明")
        raise DataError(say("neither examples nor a description", "既无示例也无说明"), where="template new", mend=mend)
    if lang not in ("", "zh", "en"):
        raise DataError(say("the language is zh or en", "语言应为 zh 或 en"), where="--lang")
    if out is not None and out.exists():
        mend = say("name another, or remove it", "请换一个文件名，或先删去")
        raise DataError(say("the file is there already", "文件已存在"), where=str(out), mend=mend)
    given = [row for _, row in rows(examples) if not isinstance(row, str)][:50] if examples else []

    async def work() -> Drafted:
        settings = {
            "describe": describe,
            "lang": lang,
            "target": target,
            "name": name or (examples.stem if examples else ""),
        }
        if model == "none":
            return await draft(given, model=None, **settings)
        from zhiling.llm import open_model

        async with open_model(_spec(model), cache=None, where="--model") as ready:
            return await draft(given, model=ready, **settings)

    made = asyncio.run(work())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made.draft.text(), encoding="utf-8")
    if as_json:
        told = {
            "by": made.by,
            "notes": made.notes,
            "file": str(out) if out else None,
            "definition": made.draft.definition,
        }
        print(json.dumps(told, ensure_ascii=False, indent=1))
        return
    for note in made.notes:
        print(note, file=sys.stderr)
    words = {
        "model": ("the model", "模型"),
        "repaired": ("the model, repaired", "模型（修订后）"),
        "rules": ("rules", "规则"),
    }
    print(say("worded by: ", "措辞来自：") + say(*words[made.by]), file=sys.stderr)
    print(made.draft.text() if out is None else say(f"written: {out}", f"已写出：{out}"))


def _spec(text: str) -> dict[str, Any]:
    """The model's entry from "key=value,key=value"; nothing for the embedded model."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        mend = "provider=openai,model=NAME,base_url=URL"
        raise DataError(say(f"not key=value: {wrong[0]}", f"不是“键=值”的形式：{wrong[0]}"), where="--model", mend=mend)
    return {name.strip(): value.strip() for name, _, value in pairs} or {"provider": "gguf"}


def _definition(name: str) -> Any:
    from zhiling.construct.library import list_definitions, load_definition

    if name.endswith((".yaml", ".yml")):
        return load_definition(name)
    for definition in list_definitions():
        if definition.id == name:
            return definition
    mend = say("zhiling template list shows them", "用 zhiling template list 查看")
    raise DataError(say(f"no template '{name}'", f"没有模板“{name}”"), mend=mend)
