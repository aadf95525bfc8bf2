"""Filling: what a record becomes depends on the record, the seed and the templates, and on nothing else."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.construct.fill import fill
from zhiling.errors import RecipeError
from zhiling.types import Example, Record, Reject, Task, Template

TASK = Task("t", inputs=("text",), target="label", langs=("zh", "en"))
ZH = [
    Template("t", "zh", f"判断（{i}）：", input="{{ text }}", output="{{ label }}", maker=f"template:zh{i}")
    for i in range(5)
]
EN = [
    Template("t", "en", f"Decide ({i}):", input="{{ text }}", output="{{ label }}", maker=f"template:en{i}")
    for i in range(4)
]


def record(text="some text", label="yes", lang="", **more):
    return Record("t", {"text": text, "label": label, **more}, lang=lang, file="data.csv", line=7)


def filled(records, templates=(*ZH, *EN), **settings):
    return list(fill(records, list(templates), task=TASK, seed=settings.pop("seed", 1), **settings))


def test_an_example_carries_its_lineage():
    given = record("房间很干净。", "好")
    (row,) = filled([given], ZH[:1])
    assert isinstance(row, Example)
    assert (row.task, row.instruction, row.input, row.output) == ("t", "判断（0）：", "房间很干净。", "好")
    assert (row.lang, row.maker, row.parents) == ("zh", "template:zh0", (ZH[0].id, given.id))


@pytest.mark.parametrize(
    ("given", "langs"),
    [
        (record("房间很干净。"), {"zh"}),
        (record("The room is clean."), {"en"}),
        (record("La chambre est propre, é."), {"en"}),
        (record("iPhone 手机的屏幕很好"), {"zh"}),
        (record("The room is clean.", lang="zh"), {"zh"}),
        (record("房间", lang="en-GB"), {"en"}),
        (record("部屋はきれいです。"), {"zh", "en"}),
        (record("12345"), {"zh", "en"}),
    ],
)
def test_a_record_gets_templates_of_its_language_where_there_are_any(given, langs):
    assert {row.lang for row in filled([given], per_record=20)} == langs


def test_language_matching_can_be_turned_off():
    assert {row.lang for row in filled([record("房间很干净。")], per_record=20, match_lang=False)} == {"zh", "en"}


def test_no_template_is_taken_twice_and_none_is_favoured():
    records = [record(f"第{i}条") for i in range(3000)]
    rows = filled(records, per_record=2)
    per_row = Counter(row.parents[1] for row in rows)
    assert set(per_row.values()) == {2}
    assert len({(row.parents, row.maker) for row in rows}) == len(rows)
    counts = Counter(row.maker for row in rows)
    assert len(counts) == 5 and min(counts.values()) > 0.9 * 6000 / 5
    assert len(filled(records[:1], per_record=50)) == 5


texts = st.text(min_size=1, max_size=30).filter(lambda text: text.strip())


@settings(deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=8, unique=True),
    st.randoms(use_true_random=False),
    st.integers(0, 9),
    st.integers(1, 4),
)
def test_the_order_of_records_and_templates_changes_nothing(given, shuffle, seed, per_record):
    records = [record(text) for text in given]
    templates = [*ZH, *EN]
    once = filled(records, templates, seed=seed, per_record=per_record)
    shuffle.shuffle(records)
    shuffle.shuffle(templates)
    again = filled(records, templates, seed=seed, per_record=per_record)
    assert sorted(row.id for row in once) == sorted(row.id for row in again)
    alone = [row.id for one in records for row in filled([one], templates, seed=seed, per_record=per_record)]
    assert alone == [row.id for row in again]


@settings(deadline=None)
@given(st.text(), st.text())
def test_whatever_the_data_say_is_data(text, label):
    for row in filled([record(text, label)], per_record=2):
        if isinstance(row, Example):
            assert (row.input, row.output) == (text, label)
        else:
            assert not text.strip() or not label.strip()


def test_templates_in_the_data_are_never_run():
    hostile = "{{ ''.__class__ }}{% for i in range(10**9) %}{{ label }}{% endfor %}"
    (row,) = filled([record(hostile)], EN[:1])
    assert row.input == hostile


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"label": "yes"}, "the field 'text' is missing"),
        ({"text": "", "label": "yes"}, "the field 'text' is empty"),
        ({"text": " \n\u3000", "label": "yes"}, "the field 'text' is empty"),
        ({"text": "x"}, "the field 'label' is missing"),
        ({"text": "x" * 20_001, "label": "yes"}, "the field 'text' has 20,001 characters, more than 20,000"),
    ],
)
def test_an_unusable_record_is_a_reject_that_says_where_and_why(fields, why):
    given = Record("t", fields, lang="en", file="data.csv", line=14_007)
    (row,) = filled([given], EN[:1])
    assert isinstance(row, Reject)
    assert (row.state, row.why, row.where, row.maker) == ("failed", why, "data.csv:14007", "template:en0")
    assert row.parents == (EN[0].id, given.id)
    assert len(row.text) <= 500


def test_a_long_or_missing_field_that_no_template_needs_is_no_trouble():
    (row,) = filled([record(notes="x" * 10_000_000)], EN[:1])
    assert isinstance(row, Example)
    (row,) = filled([record()], EN[:1], max_chars=9)
    assert isinstance(row, Example)
    (row,) = filled([record()], EN[:1], max_chars=8)
    assert isinstance(row, Reject)


def test_optional_fields_and_the_tasks_name():
    one = Template(
        "t", "en", "{{ task }}:{% if hint %} ({{ hint }}){% endif %}", input="{{ text }}", output="{{ label }}"
    )
    assert [row.instruction for row in filled([record(), record(hint="look")], [one])] == ["t:", "t: (look)"]


def test_what_fails_in_rendering_is_a_reject():
    broken = Template("t", "en", "{{ text[0] }}{{ (text|int) / 0 }}", output="{{ label }}")
    empty = Template("t", "en", "{% if text == 'never' %}x{% endif %}", output="{{ label }}")
    first, second = (filled([record()], [one])[0] for one in (broken, empty))
    assert first.state == second.state == "failed"
    assert "division by zero" in first.why and "comes out empty" in second.why


def test_a_template_that_is_not_one_is_refused_at_once():
    with pytest.raises(RecipeError, match="not allowed"):
        filled([record()], [Template("t", "en", "{% include 'x' %}", output="y")])


def test_no_templates_no_rows():
    assert filled([record()], []) == []


def test_filling_streams():
    def endless():
        i = 0
        while True:
            i += 1
            yield record(f"text {i}")

    rows = fill(endless(), EN, task=TASK, seed=1)
    assert [next(rows).output for _ in range(100)] == ["yes"] * 100


def test_rejects_speak_chinese(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    (row,) = filled([Record("t", {"label": "yes"})], ZH[:1])
    assert row.why == "缺少字段“text”" and row.where == ""
