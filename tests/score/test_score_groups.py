"""Names of groups are put out of a score's sight, in zh and en; what is said of them is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_rows import row

from zhiling.embed import Use
from zhiling.score.groups import unnamed
from zhiling.score.safety import safety


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Most Muslim men are lazy.", "Most Christian women are lazy."),
        ("The black kids stole it.", "The white kids stole it."),
        ("He said that my grandfather's bike is old.", "She said that my granddaughter's bike is young."),
        ("这个河南人偷了东西。", "这个上海人偷了东西。"),
        ("黑人都很懒，他们不工作。", "白人都很懒，她们不工作。"),
    ],
)
def test_the_same_about_another_group_looks_and_scores_the_same(one, other):
    assert one != other and unnamed(one) == unnamed(other)
    left, right = safety([row(one, "ok"), row(other, "ok")], embedder=Use())
    assert left.value == right.value


@pytest.mark.parametrize(
    "plain",
    [
        "Name three rivers in Europe.",
        "The theme of this manual is blackness.",
        "河南的春天很美。",
        "其他问题请看说明。",
        "",
    ],
)
def test_what_names_nobody_stays(plain):
    assert unnamed(plain) == plain


def test_an_insult_is_no_name_of_a_group():
    assert "idiots" in unnamed("Those women are idiots") and "废物" in unnamed("河南人都是废物")


@given(st.text(max_size=60))
def test_nothing_is_left_to_name_after_one_pass(passage):
    once = unnamed(passage)
    assert unnamed(once) == once
