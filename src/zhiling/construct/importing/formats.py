"""Plain `str.format` templates, such as `将句子翻译成{语言}：{句子}`, as a definition: each line (or paragraph) is a phrasing."""

from __future__ import annotations

import re
import string

from zhiling.construct.importing.drafts import Draft, slug
from zhiling.construct.sandbox_foreign import SEPARATOR
from zhiling.construct.template import from_format
from zhiling.errors import RecipeError, say
from zhiling.text import lang

_ANSWER = {"zh": "答案", "en": "answer"}


def read(text: str, file: str, name: str, target: str = "") -> Draft:
    """A definition of the file's texts. What stands after `|||` is the output; without it the output is the field `target`.

    Texts are separated by blank lines where there are any, else each line is one; lines that begin with `#` are comments. Raises
    RecipeError, with the line, for slots that are not plain names, texts whose fields differ, and texts without any.
    """
    phrasings, fields, answer = list[dict[str, str]](), list[str](), target
    for line, wording in _texts(text):
        where = f"{file}:{line}"
        asked, _, answered = (part.strip() for part in wording.partition(SEPARATOR))
        spoken = "zh" if lang(re.sub(r"\{.*?\}", "", wording) or wording) == "zh" else "en"
        answer = answer or (_slots(answered, where) or [_ANSWER[spoken]])[0]
        try:
            made = from_format(asked, output=answered or f"{{{answer}}}", lang=spoken)
        except RecipeError as error:
            raise RecipeError(error.what, where=where, mend=error.mend) from error
        fields += [slot for slot in _slots(asked, where) + _slots(answered, where) if slot not in fields]
        phrasings.append({"lang": made.lang, "instruction": made.instruction, "input": "", "output": made.output})
    if not phrasings:
        raise RecipeError(
            say("no template in the file", "文件中没有模板"),
            where=file,
            mend=say("one to a line, slots written {name}", "每行一条，空位写作 {名称}"),
        )
    if not [slot for slot in fields if slot != answer]:
        raise RecipeError(
            say("none of the templates has a slot", "所有模板都没有空位"),
            where=file,
            mend=say("write a slot as {name}", "空位写作 {名称}"),
        )
    inputs = [slot for slot in fields if slot != answer]
    langs = list(dict.fromkeys(phrasing["lang"] for phrasing in phrasings))
    words = {
        "zh": f"根据{'、'.join(inputs)}给出{answer}。",
        "en": f"Give the {answer} for the given {', '.join(inputs)}.",
    }
    definition = {
        "id": slug(name), "family": "other", "langs": langs, "description": {one: words[one] for one in langs},
        "fields": [*inputs, answer], "target": answer, "phrasings": phrasings,
    }  # fmt: skip
    return Draft(definition, f"str.format {name}")


def _texts(text: str) -> list[tuple[int, str]]:
    """(line, text) of each template."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if not line.startswith("#")]
    if not any(not line.strip() for _, line in lines[1:-1]):
        return [(number, line.strip()) for number, line in lines if line.strip()]
    found: list[tuple[int, str]] = []
    open_ = False
    for number, line in lines:
        if not line.strip():
            open_ = False
        elif open_:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{line}")
        else:
            found.append((number, line))
            open_ = True
    return found


def _slots(text: str, where: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(text) if name]
    except ValueError as error:
        raise RecipeError(
            say(f"not a format text: {error}", f"不是有效的格式文本：{error}"),
            where=where,
            mend=say("write {{ and }} for braces", "花括号本身请写作 {{ 和 }}"),
        ) from error
