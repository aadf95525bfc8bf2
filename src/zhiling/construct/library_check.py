"""A linter for template definitions, and a way to look at one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zhiling import text
from zhiling.construct.bind import bind
from zhiling.construct.fill import fill
from zhiling.construct.library import Definition, faults, list_definitions, parse_text, read_safely
from zhiling.construct.library_rules import NEAR, STATIC, Said, contradictions, leaks_when_rendered
from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError, say
from zhiling.types import Example, Record, Task
from zhiling.yamlines import Keys, Where


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a definition: an "error" keeps it from being used, a "warning" makes its rows worse.

    `code` names the rule. `where` is "file:line key", or the key alone for a definition that came from no file; `file`, `line` and
    `phrasing` (its index, None for what concerns none) say the same to programs.
    """

    level: Literal["error", "warning"]
    where: str
    what: str
    mend: str = ""
    code: str = "invalid"
    file: str = ""
    line: int | None = None
    phrasing: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.level}: {self.what}" + (f" — {self.mend}" if self.mend else "") + f" [{self.code}]"


def check(source: Definition | str | Path) -> list[Finding]:
    """Everything the linter has to say about a definition, or about the YAML file of one; empty when it is in order."""
    return _checked(source)[0]


def check_all(sources: Iterable[Definition | str | Path], library: bool = True) -> Iterator[Finding]:
    """The same for several, and phrasings that say nearly the same as one of another of them (or of the shipped `library`)."""
    known: list[tuple[Definition, Where | None]] = []
    if library:
        known = [(definition, None) for definition in list_definitions()]
    for source in sources:
        found, definition, where = _checked(source)
        yield from found
        if definition is None or where is None:
            continue
        known = [(other, at) for other, at in known if other.id != definition.id]
        known.append((definition, where))
    yield from _across(known)


def _checked(source: Definition | str | Path) -> tuple[list[Finding], Definition | None, Where | None]:
    if isinstance(source, Definition):
        definition, where = source, Where(source.file, {})
    else:
        try:
            definition, where = parse_text(read_safely(source), str(source))
        except RecipeError as error:
            return [Finding("error", error.where, error.what, error.mend, "unreadable", str(source))], None, None
    out = [
        _finding("error", where, (_code(definition, key), key, what, mend)) for key, what, mend in faults(definition)
    ]
    if out:  # a text that does not compile cannot be looked into
        return out, None, None
    shown = _shown(definition)
    said = [one for rule in STATIC for one in rule(definition)]
    said += [*leaks_when_rendered(definition, shown), *contradictions(definition, shown)]
    return [_finding("warning", where, one) for one in said], definition, where


def _finding(level: Literal["error", "warning"], where: Where, said: Said) -> Finding:
    code, key, what, mend = said
    known: Keys = key
    while known and known not in where.lines:
        known = known[:-1]
    index = key[1] if len(key) > 1 and key[0] == "phrasings" and isinstance(key[1], int) else None
    return Finding(level, where.at(key), what, mend, code, where.file, where.lines.get(known), index)


def _code(definition: Definition, key: Keys) -> str:
    """ "undeclared" for a variable that no field declares, "jinja" for a text that does not compile, "invalid" for the rest."""
    if key[-1] not in ("instruction", "input", "output", "system"):
        return "invalid"
    if key[0] == "phrasings" and isinstance(key[1], int):
        wording = getattr(definition.phrasings[key[1]], str(key[-1])) or ""
    else:
        wording = getattr((definition.defaults or {}).get(str(key[1])), str(key[-1]), "")
    try:
        compiled(wording)
    except RecipeError:
        return "jinja"
    return "undeclared"


def _shown(definition: Definition) -> dict[int, Example]:
    """Each phrasing's row made of the definition's first example, by the phrasing's index."""
    names = {f"template:{definition.name(phrasing)}": i for i, phrasing in enumerate(definition.phrasings)}
    return {names[example.maker]: example for example in rendered(definition) if example.maker in names}


def _across(known: list[tuple[Definition, Where | None]]) -> Iterator[Finding]:
    """Phrasings of the given definitions (those with a place) that another definition has nearly the same."""
    index: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    said: list[tuple[Definition, Where | None, int, set[tuple[str, ...]]]] = []
    for definition, where in known:
        for i, phrasing in enumerate(definition.phrasings):
            grams = text.shingles(phrasing.instruction)
            if len(grams) < 3:
                continue
            rivals = {at for gram in grams for at in index.get((phrasing.lang, gram), ())}
            for at in sorted(rivals):
                other, _, k, theirs = said[at]
                if where is not None and other.id != definition.id and text.jaccard(grams, theirs) > NEAR:
                    name = other.name(other.phrasings[k])
                    yield _finding("warning", where, (
                        "near-duplicate", ("phrasings", i),
                        say(f"nearly the same as '{name}' of another definition", f"与另一模板的“{name}”几乎相同"),
                        say("reword it, or use that definition", "请改写，或直接使用那个模板"),
                    ))  # fmt: skip
                    break
            for gram in grams:
                index.setdefault((phrasing.lang, gram), []).append(len(said))
            said.append((definition, where, i, grams))


def show(definition: Definition, lang: str = "") -> str:
    """The definition for reading: what it is for, its fields, and every phrasing (of one language), rendered with its first example."""
    names = ", ".join(definition.fields)
    lines = [f"{definition.id}  [{definition.family}]  {', '.join(definition.langs)}"]
    lines += [f"  {words}" for words in definition.description.values()]
    lines += [say(f"  fields: {names} -> {definition.target}", f"  字段：{names} → {definition.target}")]
    shown = {example.maker: example for example in rendered(definition)}
    for phrasing in definition.phrasings:
        if lang and phrasing.lang != lang:
            continue
        name = definition.name(phrasing)
        lines.append(f"\n  {name}  ({phrasing.register})")
        example = shown.get(f"template:{name}")
        for part in (example.prompt, f"→ {example.output}") if example else (phrasing.instruction,):
            lines += [f"    {line}" for line in part.splitlines()]
    return "\n".join(lines)


def rendered(definition: Definition, fields: Mapping[str, str] | None = None) -> Iterator[Example]:
    """Every phrasing filled with the fields, or with the definition's first example in its language; those that can be."""
    for lang in definition.langs:
        task = sample_task(definition, lang)
        rows = (definition.examples or {}).get(lang, ())[:1] if fields is None else (fields,)
        records = [Record(task.name, row, lang=lang) for row in rows]
        for template in bind(definition, task):
            yield from (made for made in fill(records, [template], task=task, seed=0) if isinstance(made, Example))


def sample_task(definition: Definition, lang: str) -> Task:
    """A task in one language that the definition fits."""
    inputs = tuple(name for name in definition.fields if name != definition.target)
    answers = {row.get(definition.target, "") for row in (definition.examples or {}).get(lang, ())}
    return Task(
        name=definition.id,
        description=definition.description.get(lang, ""),
        family=definition.family,
        inputs=inputs or ("input",),
        target=definition.target or "output",
        langs=(lang,),
        labels=tuple(definition.labels or sorted(answers)),
    )
