"""Ids depend on content alone; seeds on the row alone."""

import pickle
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from zhiling.types import Example, Record, Reject, Request, Template, as_turns, content_id, row_seed


def test_an_examples_id_is_what_a_model_would_see():
    a = Example("t", "翻译", "你好", "hello", maker="template:x", parents=("p",), lang="zh")
    b = Example("t", "翻译", "你好", "hello", maker="retrieve:y", lang="en")
    assert a.id == b.id
    assert a.id != Example("t", "翻译", "你好", "Hello").id
    assert a.id != Example("u", "翻译", "你好", "hello").id


def test_ids_are_the_same_in_another_process():
    code = "from zhiling.types import Example; print(Example('t', '翻译', '你好', 'hello').id)"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert other.stdout.strip() == Example("t", "翻译", "你好", "hello").id


def test_parts_do_not_run_together():
    assert content_id("ab", "c") != content_id("a", "bc")
    assert content_id(["a"], "b") != content_id("a", ["b"])


@given(st.text())
def test_any_text_has_an_id(text):
    assert len(Example("t", text, text, text).id) == 20


def test_lone_surrogates_have_an_id():
    assert Example("t", "\ud800").id != Example("t", "\ud801").id


@given(st.integers(0, 2**31), st.text(max_size=30))
def test_seeds_are_31_bits_and_repeatable(seed, row):
    assert 0 <= row_seed(seed, row) < 2**31
    assert row_seed(seed, row) == row_seed(seed, row)


def test_nouns_survive_pickling_between_processes():
    for noun in (
        Example("t", "i", "x", "y", history=(("user", "h"),)),
        Record("t", {"a": "1"}),
        Template("t", "zh", "i"),
        Reject("t", "m", "failed", "w"),
    ):
        assert pickle.loads(pickle.dumps(noun)) == noun


def test_messages_carry_system_history_and_answer():
    row = Example("t", "ask", "data", "answer", system="be kind", history=(("user", "a"), ("assistant", "b")))
    assert as_turns(row.messages()) == (
        ("system", "be kind"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "ask\n\ndata"),
        ("assistant", "answer"),
    )
    assert row.messages(answer=False)[-1]["role"] == "user"


def test_a_draw_or_a_parameter_changes_the_cache_key():
    base = Request(messages=(("user", "hi"),))
    keys = {base.key("m"), base.key("n"), Request(messages=(("user", "hi"),), draw=1).key("m"), Request(messages=(("user", "hi"),), temperature=1).key("m"), Request(prompt="hi").key("m")}  # fmt: skip
    assert len(keys) == 5


def test_a_rejects_text_is_cut():
    assert len(Reject("t", "m", "failed", "w", text="x" * 9000).text) == 500
