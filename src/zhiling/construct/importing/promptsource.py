"""promptsource collections (`templates.yaml` with `!Template` tags) as definitions of ours, one per data set and answer field.

Bach et al. 2022, "PromptSource: An Integrated Development Environment and Repository for Natural Language Prompts". Rendering
follows its `Template.apply(truncate=False)`; `choice`, which draws at random there, is drawn by the row's content here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from zhiling.construct.importing.drafts import Draft, Skipped, slug
from zhiling.construct.importing.jinja_source import halves
from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError, say
from zhiling.text import cut, lang

_MAX_NODES = 200_000
_MAX_DEPTH = 30
_FAMILIES = (
    ("translation", r"wmt|flores|opus|translat"), ("summarisation", r"sum\b|xsum|samsum|multi_news|gigaword|cnn_dailymail|summ"),
    ("nli", r"nli|rte|/cb\b|anli|copa"), ("sql", r"sql|spider"), ("code", r"\bcode|apps\b"),
    ("classification", r"imdb|sst|tomatoes|yelp|amazon|ag_news|dbpedia|trec|emotion|qqp|quora|mrpc|paws|cola|stsb|wic|wsc|sentiment"),
    ("qa", r"squad|qa\b|_qa|boolq|openbook|hellaswag|piqa|multirc|ropes|quoref|quarel|quartz|race|duorc|drop\b|trivia|natural_questions"),
    ("extraction", r"ner\b|ncbi|conll|disease"), ("dialogue", r"dialog|persona|dream"),
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, and promptsource's two tags as plain mappings."""


def _mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, f"{node.tag} is not a mapping", node.start_mark)
    return loader.construct_mapping(node, deep=True)


for _tag in ("!Template", "!TemplateMetadata"):
    _Loader.add_constructor(_tag, _mapping)


def is_promptsource(text: str) -> bool:
    """Whether a YAML text looks like a promptsource collection."""
    return re.search(r"!Template\b", text) is not None and "jinja:" in text


def read(text: str, file: str) -> Iterator[Draft | Skipped]:
    """A definition per answer field of the collection; a template that cannot be one is Skipped, saying why.

    Raises RecipeError, with the line, for what is not YAML, not promptsource's, or hostile.
    """
    tree, lines = _tree(text, file)
    if not isinstance(tree, dict) or not isinstance(tree.get("templates"), dict):
        raise RecipeError(
            say("not a promptsource file: no mapping of templates", "不是 promptsource 文件：缺少 templates 映射"),
            where=file,
            mend=say("it begins with dataset: and templates:", "文件应以 dataset: 与 templates: 开头"),
        )
    dataset = "_".join(str(tree[key]) for key in ("dataset", "subset") if tree.get(key)) or "promptsource"
    groups: dict[str, list[dict[str, Any]]] = {}
    for key, given in tree["templates"].items():
        where = f"{file}:{lines.get(key, 1)} {given.get('name', key) if isinstance(given, dict) else key}"
        try:
            phrasing = _phrasing(given)
        except RecipeError as error:
            yield Skipped(where, str(error))
            continue
        groups.setdefault(_target(phrasing), []).append(phrasing)
    for target, phrasings in sorted(groups.items()):
        yield _draft(dataset, target, phrasings, len(groups) > 1, file)


def _tree(text: str, file: str) -> tuple[Any, dict[str, int]]:
    try:
        root = yaml.compose(text, Loader=_Loader)
        _harmless(root, file)
        tree = yaml.load(text, Loader=_Loader)  # a SafeLoader: see the class
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        what = say(f"not valid YAML: {error.problem}", f"YAML 有误：{error.problem}")
        raise RecipeError(cut(what, 200), where=f"{file}{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(
            cut(say(f"not valid YAML: {error or 'nested too deeply'}", f"YAML 有误：{error or '嵌套过深'}"), 200),
            where=file,
        ) from None
    lines: dict[str, int] = {}
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value == "templates" and isinstance(value, yaml.MappingNode):
            lines = {name.value: name.start_mark.line + 1 for name, _ in value.value}
    return tree, lines


def _harmless(root: yaml.Node | None, file: str) -> None:
    """Refuse a document that unfolds beyond all measure: aliases may be shared, as promptsource's are, but not multiply."""
    open_: list[tuple[Any, int]] = [(root, 0)]
    seen = 0
    while open_:
        node, depth = open_.pop()
        seen += 1
        if seen > _MAX_NODES or depth > _MAX_DEPTH:
            raise RecipeError(
                say("the YAML unfolds to too much (aliases or nesting)", "YAML 展开后过大（别名或嵌套过多）"),
                where=file,
                mend=say("split the file, write aliases out", "请拆分文件，并写出别名的内容"),
            )
        if isinstance(node, yaml.MappingNode):
            open_ += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            open_ += [(part, depth + 1) for part in node.value]


def _phrasing(given: Any) -> dict[str, Any]:
    jinja = given.get("jinja") if isinstance(given, Mapping) else None
    if not isinstance(jinja, str) or not jinja.strip():
        raise RecipeError(
            say("a template without 'jinja'", "模板缺少 jinja 键"), mend=say("add its text", "请补上模板文本")
        )
    choices = given.get("answer_choices")
    instruction, output = halves(jinja, choices if isinstance(choices, str) else "")
    metadata = given.get("metadata")
    named = (metadata.get("languages") if isinstance(metadata, Mapping) else None) or []
    said = lang(re.sub(r"\{[{%#].*?[}%#]\}", " ", instruction, flags=re.S))
    found = str(named[0]) if isinstance(named, list) and len(named) == 1 else {"latin": "en", "": "en"}.get(said, said)
    return {
        "id": slug(str(given.get("name", ""))),
        "lang": found,
        "instruction": instruction,
        "input": "",
        "output": output,
    }


def _target(phrasing: Mapping[str, Any]) -> str:
    """The field that holds the answer: the first of the output that the instruction does not tell, else the first."""
    fields = _in_order(phrasing["output"]) or _in_order(phrasing["instruction"])
    if not fields:
        raise RecipeError(
            say("a template without any field", "模板不含任何字段"), mend=say("it makes one row only", "它只能生成一行")
        )
    told = compiled(phrasing["instruction"]).names
    return next((name for name in fields if name not in told), fields[0])


def _in_order(text: str) -> list[str]:
    names = compiled(text).names
    tags = " ".join(re.findall(r"\{[{%].*?[}%]\}", text, flags=re.S))
    return sorted(
        names, key=lambda name: (found.start() if (found := re.search(rf"\b{name}\b", tags)) else len(tags), name)
    )


def _draft(dataset: str, target: str, phrasings: list[dict[str, Any]], several: bool, file: str) -> Draft:
    fields = set[str]()
    for phrasing in phrasings:
        fields |= compiled(phrasing["instruction"]).names | compiled(phrasing["output"]).names
    inputs = sorted(fields - {target})
    langs = list(dict.fromkeys(phrasing["lang"] for phrasing in phrasings))
    family = next((name for name, form in _FAMILIES if re.search(form, dataset.lower().replace("_", "/"))), "")
    family = family or next((name for name, form in _FAMILIES if re.search(form, dataset.lower())), "other")
    known = ", ".join(inputs)
    words = {"zh": f"根据 {dataset} 数据集的 {known} 给出 {target}。"}
    description = {one: words.get(one, f"Give the {target} of a row of {dataset} from its {known}.") for one in langs}
    seen: dict[str, int] = {}
    for phrasing in phrasings:
        seen[phrasing["id"]] = seen.get(phrasing["id"], 0) + 1
        if seen[phrasing["id"]] > 1:
            phrasing["id"] += f"_{seen[phrasing['id']]}"
    definition = {
        "id": slug(f"{dataset}_{target}" if several else dataset),
        "family": family, "langs": langs, "description": description, "fields": [*inputs, target], "target": target,
        "phrasings": phrasings,
    }  # fmt: skip
    notes = [
        Skipped(phrasing["id"], say("draws by the row's content, not at random", "按行内容选取，而非随机"), kept=True)
        for phrasing in phrasings
        if re.search(r"\|\s*choice\b", phrasing["instruction"] + phrasing["output"])
    ]
    return Draft(definition, f"promptsource {dataset}", notes=notes)
