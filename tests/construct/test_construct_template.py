"""Construction by template: which definitions serve a task, what they become, and the source document's example 5.1."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling import registry
from zhiling.construct.bind import default_slots, label_words
from zhiling.construct.fill import fill
from zhiling.construct.library import list_definitions
from zhiling.construct.sandbox import compiled
from zhiling.construct.template import demos, example_block, from_format, render, template
from zhiling.errors import RecipeError
from zhiling.types import Demo, Example, Record, Reject, Task, Template

ROOT = Path(__file__).parents[2]
SENTIMENT = Task(
    "reviews",
    family="classification",
    inputs=("text",),
    target="label",
    langs=("zh", "en"),
    labels=("positive", "negative"),
)
TRANSLATION = Task(
    "translate",
    family="translation",
    inputs=("source", "source_lang", "target_lang"),
    target="target",
    langs=("zh", "en"),
)
QA = Task("ask", family="qa", inputs=("passage", "question"), target="answer", langs=("zh",))

OWN = """\
id: own
family: classification
langs: [zh, en]
description: {zh: 判断。, en: Decide.}
fields: [text, label]
target: label
defaults: {zh: {input: "{{ text }}", output: "{{ label }}"}, en: {input: "{{ text }}", output: "{{ label }}"}}
phrasings:
  - {lang: zh, instruction: "从{{ choices }}中选择。"}
  - {lang: en, instruction: "Choose from {{ choices }}."}
"""


def made(task, **settings):
    return list(template(task=task, here=settings.pop("here", Path()), **settings))


def test_the_constructor_is_registered_with_its_settings():
    plugin = registry.get("constructor", "template")
    assert plugin.wants == {"task", "here"}
    settled = registry.settle(plugin, {"phrasings": 3})
    assert settled.pop("templates") == "library" and settled.pop("phrasings") == 3
    assert not any(value for key, value in settled.items() if key != "choose") and settled["choose"] == "similar"


def test_the_library_serves_a_task_in_its_languages():
    found = made(SENTIMENT)
    assert all(isinstance(one, Template) for one in found)
    assert [one.lang for one in found] == ["zh"] * 6 + ["en"] * 6
    assert all(one.maker == f"template:{one.parents[0]}/{one.maker.split('/')[1]}" for one in found)
    assert {one.parents for one in found} == {("classification_sentiment",)}
    assert found == made(SENTIMENT)


def test_labels_are_worded_and_choices_written_in():
    zh, en = (next(one for one in made(SENTIMENT) if one.lang == lang) for lang in ("zh", "en"))
    assert "正面、负面" in zh.instruction and "positive, negative" in en.instruction
    assert "choices" not in zh.instruction
    assert [compiled(zh.output).render({"label": label}) for label in ("positive", "negative", "?")] == [
        "正面",
        "负面",
        "?",
    ]
    assert compiled(en.output).render({"label": "positive"}) == "positive"


def test_a_label_is_known_by_any_of_its_words():
    task = Task(
        "zh", family="classification", inputs=("text",), target="label", langs=("zh", "en"), labels=("正面", "负面")
    )
    found = made(task)
    assert {one.parents for one in found} == {("classification_sentiment",)}
    assert compiled(found[-1].output).render({"label": "负面"}) == "negative"


def test_labels_of_ones_own_are_used_as_they_are():
    task = Task(
        "mail",
        family="classification",
        inputs=("text",),
        target="label",
        langs=("en",),
        labels=("billing {x}", "{{ 7 }}"),
    )
    found = made(task)
    assert {one.parents for one in found} == {("classification_any",)}
    assert "billing {x}, {{ 7 }}" in compiled(found[0].instruction).render({})
    assert found[0].output == "{{ label }}"


def test_the_more_specific_definition_wins():
    assert {one.parents[0] for one in made(TRANSLATION)} == {"translation_text"}
    narrow = Task("t", family="translation", inputs=("source", "target_lang"), target="target", langs=("zh",))
    assert {one.parents[0] for one in made(narrow)} == {"translation_into"}
    assert {one.parents[0] for one in made(QA)} == {"qa_passage"}  # never the one that would lose the passage


def test_language_names_are_in_the_instructions_language():
    fields = {"source": "你好", "target": "Bonjour", "source_lang": "zh", "target_lang": "fr"}
    found = {one.lang: one for one in reversed(made(TRANSLATION))}
    assert compiled(found["zh"].instruction).render(fields) == "把下面的中文翻译成法语。"
    assert compiled(found["en"].instruction).render(fields) == "Translate the following Chinese text into French."


@pytest.mark.parametrize("definition", list_definitions(), ids=lambda d: d.id)
def test_every_shipped_definition_can_be_asked_for_by_name(definition):
    inputs = tuple(name for name in definition.fields if name != definition.target) or ("anything",)
    labels = tuple(definition.labels or ("a", "b"))
    task = Task(
        "t", "把输入变成输出。\nTurn the input into the output.", definition.family, inputs, definition.target or "made",
        langs=("zh", "en"), labels=labels,
    )  # fmt: skip
    found = made(task, templates=definition.id)
    assert len(found) == len(definition.phrasings)
    fields = dict.fromkeys((*inputs, task.target), "值 value")
    records = [Record("t", fields, lang=lang) for lang in ("zh", "en")]
    rows = [row for one in found for row in fill(records[:1], [one], task=task, seed=1)]
    assert all(isinstance(row, Example) and "{" not in row.instruction for row in rows)


def test_a_family_without_definitions_of_its_own_uses_the_description():
    task = Task("odd", "把词倒过来写。\nWrite the word backwards.", "other", ("word",), "reversed", langs=("zh", "en"))
    zh, en = (next(one for one in made(task) if one.lang == lang) for lang in ("zh", "en"))
    assert (zh.instruction, en.instruction) == ("把词倒过来写。", "Write the word backwards.")
    assert (zh.input, zh.output) == ("{{ word }}", "{{ reversed }}")


def test_phrasings_limits_per_language_and_spreads_over_registers():
    found = made(SENTIMENT, phrasings=3)
    assert [one.lang for one in found] == ["zh"] * 3 + ["en"] * 3
    assert all(len({one.why for one in found if one.lang == lang}) == 3 for lang in ("zh", "en"))
    assert len(made(SENTIMENT, phrasings=100)) == 12
    assert made(SENTIMENT, phrasings=2) == made(SENTIMENT, phrasings=2)


def test_nothing_fits_says_what_is_needed_and_what_is_there():
    task = Task("mine", family="qa", inputs=("story", "q"), target="a", langs=("en",))
    with pytest.raises(RecipeError) as caught:
        made(task)
    said = str(caught.value)
    assert "'qa'" in said and "'mine'" in said and "story, q, a" in said
    assert "qa_passage: passage, question, answer (the task has no field passage, question, answer)" in said
    assert caught.value.exit_code == 2


def test_labels_that_a_task_forgets_are_named():
    task = Task("nli", family="nli", inputs=("premise", "hypothesis"), target="label")
    with pytest.raises(RecipeError, match="the task names no labels"):
        made(task)


def test_templates_of_ones_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.yaml").write_text(OWN, encoding="utf-8")
    (tmp_path / "mine" / "other.yaml").write_text(
        OWN.replace("id: own", "id: other").replace("text", "story"), encoding="utf-8"
    )
    one = made(SENTIMENT, here=tmp_path, templates="mine/own.yaml")
    assert [row.instruction for row in one] == ["从positive、negative中选择。", "Choose from positive, negative."]
    several = made(SENTIMENT, here=tmp_path, templates=["mine/*.yaml", "classification_sentiment"])
    rejects = [row for row in several if isinstance(row, Reject)]
    assert len(several) == 1 + 2 + 12
    assert rejects[0].state == "dropped" and "no field story" in rejects[0].why and rejects[0].where == "other.yaml"
    with pytest.raises(
        RecipeError,
        match=r"does not fit the task 'reviews': the task has no field story — the task's fields are text, label",
    ):
        made(SENTIMENT, here=tmp_path, templates="mine/other.yaml")
    with pytest.raises(RecipeError, match="no template for the task"):
        made(SENTIMENT, here=tmp_path, templates="nowhere/*.yaml")
    with pytest.raises(RecipeError, match="cannot read the template"):
        made(SENTIMENT, here=tmp_path, templates="nowhere.yaml")
    with pytest.raises(RecipeError, match="did you mean 'classification_sentiment'"):
        made(SENTIMENT, here=tmp_path, templates="clasification_sentiment")


def test_the_tasks_own_words_are_written_in_wherever_they_are_asked_for(tmp_path):
    said = '  - {lang: en, instruction: "{{ description }}", system: "One of {{ choices }}.", input: "{{ task }}: {{ text }}"}\n'
    (tmp_path / "own.yaml").write_text(OWN + said, encoding="utf-8")
    task = Task(
        "reviews", "判断{x}。\nDecide {{ x }}.", "classification", ("text",), "label", langs=("en",), labels=("a", "b")
    )
    _, one = made(task, here=tmp_path, templates="own.yaml")
    (row,) = fill([Record("reviews", {"text": "t", "label": "a"})], [one], task=task, seed=1)
    assert (row.instruction, row.system, row.input) == ("Decide {{ x }}.", "One of a, b.", "reviews: t")
    mute = Task("reviews", "判断。", "classification", ("text",), "label", langs=("en",), labels=("a", "b"))
    assert len(made(mute, here=tmp_path, templates="own.yaml")) == 1  # no description in English to quote


def test_a_field_of_the_data_wins_over_the_tasks_own_words(tmp_path):
    content = OWN.replace("text", "description").replace('"从{{ choices }}中选择。"', '"这是什么？{{ description }}"')
    (tmp_path / "own.yaml").write_text(content, encoding="utf-8")
    task = Task("things", "任务说明。", "classification", ("description",), "label", langs=("zh",), labels=("a",))
    (one,) = made(task, here=tmp_path, templates="own.yaml")
    (row,) = fill([Record("things", {"description": "一把椅子", "label": "a"})], [one], task=task, seed=1)
    assert row.instruction == "这是什么？一把椅子"


def test_a_template_with_an_unknown_variable_is_one_clear_line(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN.replace("从{{ choices }}", "从{{ chioces }}"), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        made(SENTIMENT, here=tmp_path, templates="own.yaml")
    assert "\n" not in str(caught.value)
    assert "own.yaml:9 phrasings.0.instruction: unknown variable 'chioces' — declared fields: text, label" in str(
        caught.value
    )


def test_default_slots():
    assert default_slots(QA, "zh") == ("文章：{{ passage }}\n问题：{{ question }}", "{{ answer }}")
    source, output = default_slots(SENTIMENT, "zh")
    assert source == "{{ text }}" and compiled(output).render({"label": "negative"}) == "负面"
    assert default_slots(Task("x"), "en") == ("{{ input }}", "{{ output }}")
    odd = Task("x", family="qa", inputs=("title", "body_text"), target="reply")
    assert default_slots(odd, "en") == ("Title: {{ title }}\nBody text: {{ body_text }}", "{{ reply }}")
    assert default_slots(odd, "zh") == ("标题：{{ title }}\nbody_text：{{ body_text }}", "{{ reply }}")
    assert label_words(SENTIMENT, "zh") == ["正面", "负面"]


# str.format texts and example 5.1.


def test_the_source_documents_example_5_1_prints_exactly_its_text():
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "source_5_1_template.py"], capture_output=True, check=True, encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert ran.stdout == "将句子翻译成法语：你好，世界！\n示例：\n输入：Hello, world!\n输出：Bonjour, le monde!\n"


def test_a_format_text_becomes_a_template():
    one = from_format("将句子翻译成{目标语言}：{句子}", task="t", output="{译文}")
    assert (one.lang, one.instruction, one.output) == ("zh", "将句子翻译成{{ 目标语言 }}：{{ 句子 }}", "{{ 译文 }}")
    task = Task("t", inputs=("目标语言", "句子"), target="译文", langs=("zh",))
    record = Record("t", {"目标语言": "法语", "句子": "{{ 你好 }}", "译文": "Bonjour"})
    (row,) = fill([record], [one], task=task, seed=1)
    assert (row.instruction, row.output) == ("将句子翻译成法语：{{ 你好 }}", "Bonjour")


names = st.sampled_from(["a", "名字", "target_language"])
plain = st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(plain, names), max_size=4), plain, plain)
def test_a_format_text_renders_as_str_format_would(parts, tail, value):
    escaped = [(before.replace("{", "{{").replace("}", "}}"), name) for before, name in parts]
    text = "".join(f"{before}{{{name}}}" for before, name in escaped) + tail.replace("{", "{{").replace("}", "}}")
    fields = {"a": value, "名字": "{a}", "target_language": "{{ a }}"}
    assert render(from_format(text, lang="en"), fields) == text.format(**fields)


@pytest.mark.parametrize("text", ["{}", "{0}", "{a b}", "{a!r}", "{a:>5}", "{a.b}", "{a[0]}", "{", "}", "{a"])
def test_other_format_texts_are_refused_in_words(text):
    with pytest.raises(RecipeError, match="—"):
        from_format(text)


def test_example_blocks_in_both_languages():
    block = [Demo("1+1", "2"), Demo("2+2", "4")]
    assert example_block(block, "zh") == "示例：\n输入：1+1\n输出：2\n示例：\n输入：2+2\n输出：4"
    assert example_block(block[:1], "en") == "Example:\nInput: 1+1\nOutput: 2"
    with_input = Template("t", "en", "Add.", input="{{ sum }}", output="{{ result }}")
    assert render(with_input, {"sum": "3+3"}, block[:1]) == "Add.\n\n3+3\nExample:\nInput: 1+1\nOutput: 2"
    with pytest.raises(RecipeError, match="'sum'"):
        render(with_input, {})


def test_a_definitions_examples_become_demos():
    (definition,) = (one for one in list_definitions() if one.id == "nli_label")
    task = Task(
        "n",
        family="nli",
        inputs=("premise", "hypothesis"),
        target="label",
        langs=("zh",),
        labels=("entailment", "contradiction"),
    )
    first, second = demos(definition, task, "zh")
    assert first == Demo("前提：三个孩子在河边放风筝。\n假设：有人在户外。", "蕴含")
    assert second.output == "矛盾"
    assert demos(definition, task, "fr") == []
