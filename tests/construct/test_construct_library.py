"""The shipped definitions, each rendered; the linter; and every way in which a user's definition can be wrong."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from zhiling import text
from zhiling.construct.library import FAMILIES, LIBRARY, Definition, Phrasing, list_definitions, load_definition
from zhiling.construct.library_check import check, rendered, show
from zhiling.errors import RecipeError

DEFINITIONS = list_definitions()
NAMES = [definition.id for definition in DEFINITIONS]

GOOD = """\
id: greeting
family: other
langs: [zh, en]
description: {zh: 打招呼。, en: Greet somebody.}
fields: [name, reply]
target: reply
labels: {hi: {zh: 你好, en: hello}}
defaults:
  zh: {input: "{{ name }}", output: "{{ reply }}"}
  en: {input: "{{ name }}", output: "{{ reply }}"}
examples:
  zh: [{name: 小王, reply: hi}]
  en: [{name: Ann, reply: hi}]
phrasings:
  - {lang: zh, instruction: 向这个人问好。}
  - {lang: en, register: formal, instruction: Greet this person.}
"""


def written(folder, content):
    path = folder / "one.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def test_the_library_is_large_and_bilingual():
    assert len(DEFINITIONS) >= 24
    assert {definition.family for definition in DEFINITIONS} == set(FAMILIES)
    assert sum(len(definition.phrasings) for definition in DEFINITIONS) >= 240
    for definition in DEFINITIONS:
        for lang in ("zh", "en"):
            own = [phrasing for phrasing in definition.phrasings if phrasing.lang == lang]
            assert len(own) >= 5, f"{definition.id} has too few phrasings in {lang}"
            assert len({phrasing.register for phrasing in own}) == 5, f"{definition.id} lacks a register in {lang}"


@pytest.mark.parametrize("definition", DEFINITIONS, ids=NAMES)
def test_each_definition_passes_the_linter(definition):
    assert check(definition.file) == []


@pytest.mark.parametrize("definition", [d for d in DEFINITIONS if d.fields], ids=lambda d: d.id)
def test_each_phrasing_renders_in_its_language(definition):
    """One without fields has no examples of its own: tests/library renders it with a task's."""
    made = {example.maker: example for example in rendered(definition)}
    for phrasing in definition.phrasings:
        example = made[f"template:{definition.name(phrasing)}"]
        row = definition.examples[phrasing.lang][0]
        assert "{{" not in example.instruction and "{%" not in example.prompt
        assert not re.search(r"\bNone\b|undefined", example.prompt)
        bare = example.instruction
        for value in row.values():
            bare = bare.replace(value, "")
        assert text.lang(bare) == ("zh" if phrasing.lang == "zh" else "latin"), example.instruction
        inputs = [
            value
            for name, value in row.items()
            if name != definition.target and not name.endswith("_lang") and name != "label"
        ]
        assert all(value in example.prompt for value in inputs), f"{phrasing} loses a field"
        assert example.prompt.count(inputs[0]) == 1, f"{phrasing} says a field twice"
        words = (definition.labels or {}).get(row[definition.target], {})
        assert example.output == words.get(phrasing.lang, row[definition.target])


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_phrasings_of_a_family_say_the_same(family):
    said = [
        (phrasing.lang, phrasing.instruction, text.shingles(phrasing.instruction))
        for definition in list_definitions(family)
        for phrasing in definition.phrasings
    ]
    for (lang, one, a), (other_lang, other, b) in combinations(said, 2):
        if lang == other_lang:
            assert text.jaccard(a, b) <= 0.8, f"{one!r} and {other!r}"


def test_phrasings_vary_in_length():
    for lang in ("zh", "en"):
        lengths = sorted(text.length(p.instruction) for d in DEFINITIONS for p in d.phrasings if p.lang == lang)
        assert lengths[len(lengths) // 10] * 4 < lengths[-len(lengths) // 10]


def test_the_library_lies_inside_the_package():
    assert all(Path(definition.file).is_relative_to(LIBRARY / "templates") for definition in DEFINITIONS)


def test_a_good_definition_loads_and_shows(tmp_path):
    definition = load_definition(written(tmp_path, GOOD))
    assert check(definition) == []
    assert [definition.name(phrasing) for phrasing in definition.phrasings] == ["greeting/zh1", "greeting/en1"]
    shown = show(definition)
    assert "向这个人问好。" in shown and "小王" in shown and "→ 你好" in shown and "→ hello" in shown


WRONG = [
    ("id: greeting\n", "", r"one\.yaml id: Field required"),
    ("id:", "idd:", r"one\.yaml:1 idd: .* known keys: id, family"),
    ("family: other", "family: chess", r"one\.yaml:2 family: Input should be 'news'"),
    ("target: reply", "target: answer", r"one\.yaml:6 target: .* name, reply"),
    (
        "instruction: 向这个人问好。",
        'instruction: "{{ nmae }}"',
        r"one\.yaml:15 phrasings\.0\.instruction: unknown variable 'nmae' — declared fields",
    ),
    (
        "instruction: 向这个人问好。",
        'instruction: "{{ name"',
        r"one\.yaml:15 phrasings\.0\.instruction: .*not a valid template",
    ),
    ("instruction: 向这个人问好。", 'instruction: "{% include x %}"', r"one\.yaml:15 .*'include' is not allowed"),
    (
        'en: {input: "{{ name }}"',
        'en: {input: "{{ nom }}"',
        r"one\.yaml:10 defaults\.en\.input: unknown variable 'nom'",
    ),
    ("{lang: zh, ins", "{lang: fr, ins", r"one\.yaml:15 phrasings\.0\.lang: 'fr' is not among langs"),
    (
        '  en: {input: "{{ name }}", output: "{{ reply }}"}\n',
        "",
        r"one\.yaml:15 phrasings\.1: no output — add defaults\.en\.output",
    ),
    ("register: formal", "register: shouting", r"one\.yaml:16 phrasings\.1\.register: Input should be 'plain'"),
    ("langs: [zh, en]", "langs: [zh, en", r"one\.yaml:\d+: not valid YAML"),
    ("langs: [zh, en]", "langs: [zh, en]\nlangs: [zh]", r"one\.yaml:4 langs: the key 'langs' appears twice"),
    ("{lang: en, register: formal,", "{lang: en, id: zh1, register: formal,", None),
    (
        "{lang: en, register: formal,",
        "{lang: zh, id: zh1, register: formal,",
        r"one\.yaml:16 phrasings\.1: 'greeting/zh1' stands twice",
    ),
    ("fields: [name, reply]", "fields: &f [name, reply]\nlangs2: *f", r"aliases"),
    (GOOD, "- just\n- a list\n", r"one\.yaml:1: a template definition is a mapping"),
    (GOOD, "", r"one\.yaml:1: a template definition is a mapping"),
    (GOOD, "[" * 5000, r"one\.yaml.*not valid YAML"),
    (GOOD, "id: 2024-13-45", r"one\.yaml.*not valid YAML"),
    (GOOD, "#" * 1_000_001, r"more than 1 MB"),
]


@pytest.mark.parametrize(("old", "new", "expected"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_definition_names_file_line_and_key(tmp_path, old, new, expected):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    if expected is None:  # an id may repeat another language's
        return
    with pytest.raises(RecipeError) as caught:
        load_definition(path)
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert caught.value.exit_code == 2
    findings = check(path)
    assert findings and all(finding.level == "error" for finding in findings)
    assert any(re.search(expected, str(f).replace("error: ", "")) for f in findings), findings


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(RecipeError, match="cannot read"):
        load_definition(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="cannot read"):
        load_definition(tmp_path)
    path = tmp_path / "gbk.yaml"
    path.write_bytes(GOOD.encode("gbk"))
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_definition(path)
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_definition(path).id == "greeting"


DOUBTFUL = [
    ("description: {zh: 打招呼。, en: Greet somebody.}", "description: {zh: 打招呼。}", "no task description in 'en'"),
    ("fields: [name, reply]", "fields: [name, reply, age]", "'age' is never used"),
    ("instruction: Greet this person.", 'instruction: "Say {{ reply }}."', "the answer 'reply' stands in the question"),
    (
        "instruction: Greet this person.",
        'instruction: "Greet {{ name }}."',
        "'name' stands in the instruction and again in the input",
    ),
    ("instruction: Greet this person.", 'instruction: "Greet {name}."', "'{name}' stays as it is"),
    ("instruction: Greet this person.", "instruction: 请问好 to this person.", "not in the phrasing's language 'en'"),
    (
        "instruction: 向这个人问好。",
        "instruction: 请 say hello to this person 吧。",
        "not in the phrasing's language 'zh'",
    ),
    ("labels: {hi: {zh: 你好, en: hello}}", "labels: {hi: {zh: 你好}}", "no word for it in 'en'"),
    ("zh: [{name: 小王, reply: hi}]", "zh: [{name: 小王}]", "disagree about 'reply'"),
    (
        "  - {lang: zh, instruction: 向这个人问好。}\n",
        "  - {lang: zh, instruction: 请你现在就向这个人大声地问好。}\n  - {lang: zh, instruction: 请你现在就向这个人大声地问好！}\n",
        "nearly the same as 'greeting/zh1'",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), DOUBTFUL, ids=range(len(DOUBTFUL)))
def test_the_linter_finds(tmp_path, old, new, expected):
    assert old in GOOD
    findings = check(written(tmp_path, GOOD.replace(old, new)))
    assert any(expected in finding.what for finding in findings), findings
    assert all(finding.level == "warning" and "one.yaml:" in finding.where for finding in findings)


def test_the_linter_reads_definitions_made_in_python():
    one = Definition(
        id="x", family="other", langs=("en",), description={"en": "x"}, fields=("a", "b"), target="b",
        phrasings=(Phrasing(lang="en", instruction="{{ c }}", output="{{ b }}"),),
    )  # fmt: skip
    (finding,) = check(one)
    assert finding.level == "error" and "'c'" in finding.what
