"""The sandbox: what it renders is what Jinja renders, and what is hostile neither runs, nor hangs, nor reaches out."""

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.construct.sandbox import MAX_OUTPUT, compiled, literal
from zhiling.errors import RecipeError

REFUSED = [
    "{{ ''.__class__ }}",
    "{{ text.__class__.__mro__[1].__subclasses__() }}",
    "{{ text.format.__globals__ }}",
    "{{ '{0.__class__}'.format(text) }}",
    "{{ text|attr('__class__') }}",
    "{{ text['__class__'] }}",
    "{{ text['upper'] }}",
    "{{ text.upper }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ lipsum() }}",
    "{{ namespace() }}",
    "{{ range.__class__ }}",
    "{{ [].clear() }}",
    "{{ [].pop() }}",
    "{{ text(1) }}",
    "{{ text.strip(*[]) }}",
    "{{ [text]|map('upper')|list }}",
    "{{ text|random }}",
    "{{ 2 ** 100000000 }}",
    "{% include 'other' %}",
    "{% import 'os' as os %}",
    "{% extends 'base' %}",
    "{% block a %}{% include 'b' %}{% endblock %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set ns.x = 1 %}",
    "{% filter upper %}{{ text }}{% endfilter %}",
    "{% call f() %}{% endcall %}",
    "{{ " + "(" * 400 + "1" + ")" * 400 + " }}",
    "{{ text",
    "{% if text %}",
    "{{ " + "9" * 5000 + " }}",
    "{% for x in text %}" * 25 + "{% endfor %}" * 25,
    "{% if text %}" * 200 + "{% endif %}" * 200,
    "{{ text" + "|trim" * 5000 + " }}",
    "{{ text.format_map({}) }}",
    "{{ text.zfill(1000000000) }}",
    "{{ text.center(1000000000) }}",
    "{{ [text]|map(attribute='__class__')|list }}",
    "{{ {'a': 1}|xmlattr }}",
    "{{ text|pprint }}",
    "{{ 1 << 99999 }}",
    "{{ 1 // 0 }}",
    "{% from 'x' import y %}",
    "{% trans %}{{ text }}{% endtrans %}",
    "{% do text.strip() %}",
    "{{ super() }}",
    "x" * 100_001,
]

RUNAWAY = [
    "{% for i in range(1000000000) %}{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% for i in text %}{% for j in text %}{% for k in text %}{% for l in text %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}{{ range(99999)|list|length }}{% endfor %}",
    "{% for i in range(99999) %}{{ text ~ text ~ text }}{% endfor %}",
    "{% for i in range(99999) %}{{ text.upper() }}{% endfor %}",
    "{% set x = text %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
    "{% set x = text %}" + "{% set x = x + x %}" * 60 + "{{ x }}",
    "{% set x = text %}" + "{% set x = [x, x]|join(x) %}" * 30 + "{{ x }}",
    "{% set x = text %}" + "{% set x = x|replace('a', x) %}" * 30 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = x + x %}" * 60 + "{{ x|length }}",
    "{% set n = 9 %}" + "{% set n = n * n %}" * 40 + "{{ n }}",
    "{% for i in range(90000) %}{% if text in text ~ text %}{{ text[1:] }}{% endif %}{% endfor %}",
    "{% for i in range(60000) %}{% if 'zz' in huge %}{% endif %}{% endfor %}",
    "{% for i in range(60000) %}{% if huge == huge %}{% endif %}{% endfor %}",
    "{% for i in range(60000) %}{% set x = huge[1:] %}{% endfor %}",
    "{% for i in range(60000) %}{% set x = huge.count('a') %}{% endfor %}",
    "{% for i in range(60000) %}{% set x = long.strip(long ~ 'b') %}{% endfor %}",
    "{{ huge | default('') }}{% if huge %}{{ huge ~ huge }}{% endif %}",
    "{{ text | trim(long) }}",
    "{% set x = text %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}",
    "{% set x = text %}" + "{% set x = {'a': x, 'b': x} %}" * 40 + "{{ x | tojson }}",
    "{% set x = text %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40 + "{{ x }}",
    "{% set x = [1] %}{% for i in range(60) %}{{ x.append(x) }}{% endfor %}{{ x }}",
    "{{ text | replace('', long) }}",
    "{{ range(90000) | join(long) }}",
    "{{ 'a' * 1000000000 }}",
    "{% set a0 = [text] %}"
    + "".join(f"{{% set a{i} = [{', '.join([f'a{i - 1}'] * 10)}] %}}" for i in range(1, 9))
    + "{{ a8 }}",
    "{% set a = [] %}{% set b = [a, a, a, a, a, a, a, a] %}{% for i in range(9999) %}{{ a.append(text) or '' }}{% endfor %}{{ b }}",
    "{% set a = [] %}{{ a.append(a) or '' }}{{ a }}",
    "{% set a = {} %}{% for i in range(9999) %}{{ a.update({i: text}) or '' }}{% endfor %}",
    "{% set a %}{% for i in range(90000) %}{{ text }}{% endfor %}{% endset %}{{ a|length }}",
    "{% set a %}{% for i in range(90000) %}" + "b" * 900 + "{% endfor %}{% endset %}{{ a|length }}",
    "{{ text.replace('a', text).replace('a', text).replace('a', text).replace('a', text) }}",
    "{{ text.join(text.join(text.join(text))) }}",
    "{{ '%1000000000d' % 1 }}",
    "{% set x = [text] %}" + "{% set x = zip(x, x) %}" * 40 + "{{ x | length }}",  # light until it is shown or compared
    "{{ long }}" * 60,
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_on_the_list_is_refused_in_words(text):
    with pytest.raises(RecipeError) as caught:
        compiled(text).render({"text": "aa" * 50})
    assert "Traceback" not in str(caught.value) and "0x" not in str(caught.value)


@pytest.mark.parametrize("text", RUNAWAY)
def test_a_template_cannot_run_away(text):
    with pytest.raises(RecipeError, match="cannot be rendered"):
        compiled(text).render({"text": "aa" * 50, "long": "a" * 20_000, "huge": "ab" * 5_000_000})


def test_output_is_capped():
    text = "{% for i in range(2000) %}{{ text }}{% endfor %}"
    assert len(compiled(text).render({"text": "a" * 100})) == 200_000
    with pytest.raises(RecipeError, match=f"{MAX_OUTPUT:,}"):
        compiled(text).render({"text": "a" * 1000})


def test_the_budget_is_per_rendering():
    one = compiled("{% for i in range(90000) %}{% endfor %}{{ text }}")
    assert [one.render({"text": "a"}) for _ in range(50)] == ["a"] * 50


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("{{ a }}, {{ b }}", {"a": "1", "b": "2"}, "1, 2"),
        ("100% {{ a }} %s", {"a": "{{ b }}"}, "100% {{ b }} %s"),
        ("{{ 句子 }}", {"句子": "你好"}, "你好"),
        ('{{ a | language("zh") }}', {"a": "fr"}, "法语"),
        ('{{ a | language("en") }}', {"a": "法语"}, "French"),
        ('{{ a | language("zh") }}', {"a": "克林贡语"}, "克林贡语"),
        ("{% if a %}{{ a }}{% else %}-{% endif %}", {}, "-"),
        ("{{ a | default('none') }}", {}, "none"),
        ("{% if a is defined %}x{% endif %}.", {}, "."),
        ("{% for c in a %}{{ loop.index }}{{ c }}{% if not loop.last %} {% endif %}{% endfor %}", {"a": "xy"}, "1x 2y"),
        ("{{ a.strip().upper() }}{{ a|trim|length }}", {"a": " q "}, "Q1"),
        ("{{ [a, b]|join('、') }}{{ a ~ b }}{{ 1 + 2 * 3 }}", {"a": "x", "b": "y"}, "x、yxy7"),
        ("{{ a|replace('x', '{{ b }}') }}", {"a": "axb"}, "a{{ b }}b"),
        ("line\n", {}, "line\n"),
    ],
)
def test_what_templates_may_say(text, values, expected):
    assert compiled(text).render(values) == expected


def test_needs_are_the_variables_that_are_not_merely_asked_about():
    one = compiled("{{ a }}{% if b and not c %}{{ b }}{% endif %}{{ d | default('') }}{% if e == 'x' %}y{% endif %}")
    assert one.names == {"a", "b", "c", "d", "e"}
    assert one.needs == {"a", "e"}


def test_an_unknown_variable_is_named():
    for text in ("{{ missing }}", "{{ missing|upper }}", "{% for x in missing %}{% endfor %}"):
        with pytest.raises(RecipeError, match="missing"):
            compiled(text).render({"a": "b"})


def test_errors_name_the_line():
    with pytest.raises(RecipeError, match=r"line 2 of the template: \{% include"):
        compiled("first\n{% include 'x' %}")


def test_errors_speak_chinese(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(RecipeError, match="不允许"):
        compiled("{{ a.__dict__ }}")


hostile = st.text() | st.sampled_from(
    ["{{ a }}", "{% for x in y %}", "{{ 7*7 }}", "%s", "{0}", "{#", "}}", "\ud800", "{{ ''.__class__ }}"]
)


@settings(deadline=None)
@given(hostile, hostile)
def test_braces_in_data_are_data(a, b):
    values = {"a": a, "b": b}
    assert compiled("<{{ a }}|{{ b }}>").render(values) == f"<{a}|{b}>"
    assert compiled("<{{ a ~ b }}>").render(values) == f"<{a}{b}>"


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_literal_text_renders_to_itself(text):
    assert compiled(literal(text)).render({}) == text


words = st.text(alphabet="ab正负 %", max_size=4)


@settings(deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), words, words)
def test_label_words_render_as_jinja_renders_them(table, value, tail):
    tests = "".join(f'{{% {"elif" if i else "if"} x == "{raw}" %}}{word}' for i, (raw, word) in enumerate(table))
    text = f"{tests}{{% else %}}{{{{ x }}}}{{% endif %}}{tail}"
    assert compiled(text).render({"x": value}) == jinja2.Environment().from_string(text).render(x=value)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["{{ a }}", "{{ b }}", "text %", "正文", "\n", '{{ "{" }}', "{{ a ~ b }}"]), max_size=8),
    words,
    words,
)
def test_both_ways_through_render_as_jinja_renders(parts, a, b):
    text = "".join(parts)
    plain = jinja2.Environment(keep_trailing_newline=True).from_string(text).render(a=a, b=b)
    assert compiled(text).render({"a": a, "b": b}) == plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ (answers | nested)['text'][0] }}", "Paris"),
        ("{{ ['no', 'yes'][label | typed] }}", "yes"),
        ("{% if flag | typed %}set{% else %}unset{% endif %}", "unset"),
        ("{{ broken | nested }}", "[laughs] hello"),
        ("{% for a, b in zip([1, 2], ['x', 'y']) %}{{ a }}{{ b }}{% endfor %}", "1x2y"),
        ("{{ ['a', 'b', 'a', 'b', 'c'] | most_frequent | join('/') }}", "a/b"),
        ("{{ ' one ||| two' | parts | join('/') }}", "one/two"),
        ("{{ ', '.join(['a', 'b']) }}{{ 'a_b'.replace('_', ' ') }}", "a, ba b"),
        ("{{ ['', 'x'] | reject('equalto', '') | list | length }}", "1"),
        ("{{ (5 * 2.62) | round / 5 }}", "2.6"),
        ("{% set d = {'list': []} %}{{ d['list'].append('x') | default('', True) }}{{ d['list'][0] }}", "x"),
        ("{% set a %}{{ label }} of{% endset %}{{ a }}", "1 of"),
        ("{#- trim -#}{% if true %} kept {% endif %}", "kept"),
    ],
)
def test_what_other_collections_expect_of_jinja(text, shown):
    row = {"answers": '{"text": ["Paris"]}', "label": "1", "flag": "false", "broken": "[laughs] hello"}
    assert compiled(text).render(row) == shown


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=5), min_size=1))
def test_a_choice_depends_on_the_row_and_on_nothing_else(row):
    choice = compiled("{{ ['x', 'y', 'z'] | choice }}")
    first = choice.render(row)
    assert {choice.render(dict(reversed(row.items()))) for _ in range(3)} == {first}


def test_choices_are_spread_over_rows():
    choice = compiled("{{ ['x', 'y', 'z'] | choice }}")
    drawn = [choice.render({"text": str(i)}) for i in range(300)]
    assert all(drawn.count(item) > 60 for item in "xyz")
