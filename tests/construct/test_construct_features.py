"""What a template step may ask for: label words, registers, proportions, caps, the question the other way round, earlier turns."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.construct.fill import SPARE, fill
from zhiling.construct.library import load_definition
from zhiling.construct.library_check import check
from zhiling.construct.template import template
from zhiling.errors import RecipeError
from zhiling.types import Example, Record, Reject, Task, Template

MOOD = Task(
    "mood", family="classification", inputs=("text",), target="label", langs=("zh", "en"), labels=("neg", "pos")
)
QA = Task("qa", family="qa", inputs=("passage", "question"), target="answer", langs=("zh", "en"))
WORDS = {"neg": "差评", "pos": {"zh": "好评", "en": "praise"}}


def made(task, **settings):
    settings.setdefault("here", Path(__file__).parent)
    return [one for one in template(task=task, **settings) if isinstance(one, Template)]


def rows(records, templates, task, **how):
    return list(fill(records, templates, task=task, seed=3, **how))


def mood(said, label="neg", lang="zh"):
    return Record("mood", {"text": said, "label": label}, lang=lang)


def test_labels_are_worded_per_language():
    found = made(MOOD, templates="classification_any", labels=WORDS)
    records = [mood("太吵", lang=lang, label=label) for lang in ("zh", "en") for label in ("neg", "pos")]
    said = {(row.lang, row.output) for row in rows(records, found, MOOD, per_record=99)}
    assert said == {("zh", "差评"), ("zh", "好评"), ("en", "差评"), ("en", "praise")}
    listed = [one.instruction for one in found if one.lang == "zh" and "差评" in one.instruction]
    assert listed and all("好评" in said and "neg" not in said for said in listed)


def test_words_for_some_labels_only_are_refused():
    with pytest.raises(RecipeError, match="no words for the labels pos"):
        made(MOOD, templates="classification_any", labels={"neg": "差评"})


def test_registers_are_filtered_and_spread():
    task = Task(
        "mood",
        family="classification",
        inputs=("text",),
        target="label",
        langs=("zh", "en"),
        labels=("positive", "negative"),
    )
    assert {one.why for one in made(task, registers=["formal", "brief"])} == {"formal", "brief"}
    assert Counter(one.lang for one in made(task, registers=["formal", "brief"], phrasings=2)) == {"zh": 2, "en": 2}


def test_weights_set_proportions_and_zero_leaves_out():
    task = Task(
        "mood",
        family="classification",
        inputs=("text",),
        target="label",
        langs=("zh",),
        labels=("positive", "negative"),
    )
    found = made(
        task,
        templates="classification_sentiment",
        weights={"formal": 3, "casual": 0, "classification_sentiment/zh1": 0.5},
    )
    weights = {one.maker.rpartition("/")[2]: one.weight for one in found}
    assert {one.why for one in found} == {"plain", "brief", "formal", "detailed"} and weights["zh1"] == 0.5
    records = [mood(f"第{i}条", "positive") for i in range(6000)]
    counts = Counter(row.maker.rpartition("/")[2] for row in rows(records, found, task))
    for name, weight in weights.items():
        assert abs(counts[name] / 6000 - weight / sum(weights.values())) < 0.02
    twice = rows(records[:50], found, task, per_record=2)
    assert len({(row.parents, row.maker) for row in twice}) == 100


@pytest.mark.parametrize(("weights", "said"), [({"formel": 1}, "did you mean 'formal'"), ({"formal": -1}, "is negative"), ({"zh": 0, "en": 0}, "no template for the task")])  # fmt: skip
def test_weights_that_cannot_be_meant(weights, said):
    task = Task(
        "mood",
        family="classification",
        inputs=("text",),
        target="label",
        langs=("zh", "en"),
        labels=("positive", "negative"),
    )
    with pytest.raises(RecipeError, match=said):
        made(task, weights=weights)


@pytest.mark.parametrize("wrong", [{"demos": -1}, {"cap": 0}, {"phrasings": 0}])
def test_numbers_that_cannot_be_meant(wrong):
    with pytest.raises(RecipeError, match=f"{next(iter(wrong))}: .* must be at least"):
        made(QA, **wrong)


CAPPED = [Template("mood", "zh", f"判断（{i}）", input="{{ text }}", output="{{ label }}", cap=10) for i in range(3)]


@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_cap_holds_and_the_rest_is_told(shuffle, per_record):
    records = [mood(f"第{i}条", "neg" if i < 250 else "pos") for i in range(500)]
    found = rows(records, CAPPED, MOOD, per_record=per_record)
    examples = [row for row in found if isinstance(row, Example)]
    assert set(Counter(row.parents[0] for row in examples).values()) == {10}
    (told,) = [row for row in found if isinstance(row, Reject)]
    used = len({row.parents[1] for row in examples})
    assert told.state == "dropped" and told.why == f"{500 - used} records more than the templates' caps allow"
    shuffle.shuffle(records)
    again = rows(records, CAPPED, MOOD, per_record=per_record)
    assert [row.id for row in again] == [row.id for row in found]  # no matter how the file is sorted
    assert 4 <= sum(row.output == "pos" for row in examples) <= len(examples) - 4


def test_a_full_template_hands_over_to_the_next():
    records = [mood(f"第{i}条") for i in range(12)]
    found = rows(records, [*CAPPED[:1], Template("mood", "zh", "自由", input="{{ text }}", output="{{ label }}")], MOOD)
    assert len(found) == 12 and sum(row.parents[0] == CAPPED[0].id for row in found) <= 10
    assert [isinstance(row, Example) for row in rows(records[:3], CAPPED, MOOD)] == [True] * 3
    assert SPARE >= 2


def qa(lang="zh"):
    return Record("qa", {"passage": "青石桥建于1736年。", "question": "桥建于哪年？", "answer": "1736年"}, lang=lang)


def test_the_library_asks_the_other_way_round():
    found = made(QA, invert=True)
    assert found and all(one.maker.startswith("template:qa_") for one in found)
    for row in rows([qa()], found, QA, per_record=99):
        assert row.output in ("桥建于哪年？", "青石桥建于1736年。") and "1736年" in row.prompt
        assert row.output not in row.prompt


def test_labels_are_worded_in_an_inverted_question(tmp_path):
    (tmp_path / "write.yaml").write_text(
        "id: write\nfamily: classification\nlangs: [zh]\ndescription: {zh: 写评论。}\nfields: [label, text]\ntarget: text\n"
        "phrasings:\n  - {lang: zh, instruction: '写一条{{ label }}。', output: '{{ text }}'}\n",
        encoding="utf-8",
    )
    found = made(MOOD, templates="write.yaml", here=tmp_path, invert=True, labels=WORDS)
    assert [(row.prompt, row.output) for row in rows([mood("太吵")], found, MOOD)] == [("写一条差评。", "太吵")]
    with pytest.raises(RecipeError, match="its answer is 'text'"):
        made(MOOD, templates="write.yaml", here=tmp_path)


TALK = """id: talk
family: qa
langs: [zh]
description: {zh: 对话}
fields: [passage, question, answer]
target: answer
defaults: {zh: {output: "{{ answer }}"}}
phrasings:
  - lang: zh
    turns: [{user: "请读：{{ passage }}"}, {assistant: 好的。}]
    instruction: "{{ question }}"
  - {lang: zh, target: question, instruction: "答案是{{ answer }}，问题是什么？", input: "{{ passage }}", output: "{{ question }}"}
"""


def test_turns_and_inverted_phrasings_of_one_file(tmp_path):
    (tmp_path / "talk.yaml").write_text(TALK, encoding="utf-8")
    assert check(tmp_path / "talk.yaml") == [] or all(f.level == "warning" for f in check(tmp_path / "talk.yaml"))
    (row,) = rows([qa()], made(QA, templates="talk.yaml", here=tmp_path), QA)
    assert row.history == (("user", "请读：青石桥建于1736年。"), ("assistant", "好的。"))
    assert [m["content"] for m in row.messages()] == ["请读：青石桥建于1736年。", "好的。", "桥建于哪年？", "1736年"]
    (turned,) = rows([qa()], made(QA, templates="talk.yaml", here=tmp_path, invert=True), QA)
    assert (turned.instruction, turned.output) == ("答案是1736年，问题是什么？", "桥建于哪年？") and not turned.history


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("好的。}", "好的。, user: x}", "a turn is one speaker and a text"),
        ("请读：{{ passage }}", "请读：{{ 文章 }}", "unknown variable '文章'"),
        ("{assistant: 好的。}", "{field: 历史}", "no field '历史'"),
        ("target: question", "target: 问题", "no field '问题'"),
        (', output: "{{ question }}"}', "}", "an inverted phrasing with the input or output of the ordinary ones"),
        ("{assistant:", "{robot:", "phrasings.0.turns.1"),
    ],
)
def test_turns_that_are_wrong_are_named(tmp_path, old, new, said):
    assert TALK.count(old) == 1
    (tmp_path / "talk.yaml").write_text(TALK.replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_definition(tmp_path / "talk.yaml")
    assert said in str(caught.value) and "talk.yaml:" in str(caught.value)


def test_the_linter_sees_an_answer_in_a_turn(tmp_path):
    (tmp_path / "talk.yaml").write_text(
        TALK.replace("{assistant: 好的。}", '{assistant: "{{ answer }}"}'), encoding="utf-8"
    )
    assert any(
        "the answer 'answer' stands in the question" in finding.what for finding in check(tmp_path / "talk.yaml")
    )


CHAT = Template("c", "en", "{{ instruction }}", output="{{ output }}", turns=(("field", "history"),))
CHATS = Task("c", inputs=("instruction", "history"), target="output", langs=("en",))


def chat(history):
    return Record("c", {"instruction": "And then?", "output": "The end.", "history": history}, lang="en")


turns = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text()), max_size=4)


@given(turns)
def test_turns_that_a_record_brings_come_through(said):
    history = json.dumps([{"role": role, "content": content} for role, content in said]) if said else ""
    (row,) = rows([chat(history)], [CHAT], CHATS)
    assert row.history == tuple(said)


@pytest.mark.parametrize(
    "history", ["not json", "[1]", '[{"role": "user"}]', '[{"role": "user", "content": 5}]', "7", "[" * 9999]
)
def test_turns_that_are_none_are_a_reject(history):
    (row,) = rows([chat(history)], [CHAT], CHATS)
    assert isinstance(row, Reject) and "the field 'history' holds no turns" in row.why


def test_a_turn_that_comes_out_empty_is_a_reject():
    hollow = Template(
        "c", "en", "{{ instruction }}", output="{{ output }}", turns=(("user", "{{ hint | default('') }}"),)
    )
    (row,) = rows([chat("")], [hollow], CHATS)
    assert isinstance(row, Reject) and "comes out empty" in row.why


def test_what_changes_rows_changes_the_templates_id():
    plain = Template("t", "en", "a", output="b")
    assert Template("t", "en", "a", output="b", weight=2, cap=3).id == plain.id
    others = [{"demos": 1}, {"demos": 2}, {"demos": 1, "choose": "random"}, {"turns": (("user", "x"),)}]
    assert len({Template("t", "en", "a", output="b", **more).id for more in others} | {plain.id}) == 5
