"""What the text module does fast, against the plain definitions; hashes and lengths of many texts against one by one."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling import text

SIGNS = "ab c'’''_-.\n。，的一書か한éİΣß１ＡﬁA9\x00\x1f\u3000\ud800\U00020000ﷺкع"
hostile = st.text(alphabet=st.sampled_from(SIGNS), max_size=30)
word = re.compile(rf"[{text.CJK}]|[^\W_]+(?:['’][^\W_]+)*")


def plain_tokens(given: str) -> list[str]:
    out: list[str] = []
    for found in word.findall(text.normalise(given)):
        pieces = re.findall(rf"[{text.CJK}]|[^{text.CJK}]+", found)
        out.extend(part for piece in pieces if (part := piece.strip("'’")))
    return out


@settings(max_examples=300, deadline=None)
@given(hostile)
def test_tokens_are_runs_of_letters_and_single_characters(given):
    assert text.tokens(given) == plain_tokens(given)


@settings(deadline=None)
@given(st.lists(hostile, max_size=9))
def test_lengths_and_hashes_of_many_texts_are_those_of_each(texts):
    assert text.lengths(texts) == [len(text.tokens(one)) for one in texts]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(block[0] for block in text.hashed(texts))]).tolist()
    every = [token for one in texts for token in text.tokens(one)]
    assert len(hashes) == len(every) and len(set(hashes)) == len(set(every))
    assert len(set(zip(hashes, every, strict=True))) == len(set(every))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"nN无没不暂ax<>[.*,。：\u3000\x85 \n", "no ", "input", "/A", "输入", "one"]), max_size=7
    ).map("".join)
)
def test_blank_is_white_space_or_a_word_for_nothing(given):
    assert text.blank(given) == (not given.strip() or text._nothing.fullmatch(given) is not None)


def test_the_white_space_that_blank_passes_over_is_all_there_is():
    assert text._spaces == "".join(char for char in map(chr, range(0x110000)) if char.isspace())


@settings(max_examples=200, deadline=None)
@given(hostile)
def test_language_by_script_is_that_of_the_single_counts(given):
    count = {
        name: len(re.findall(f"[{signs}]", given))
        for name, signs in {
            "han": text.HAN, "latin": "A-Za-z\u00c0-\u024f", "kana": "\u3040-\u30ff", "ko": "\uac00-\ud7af", "ru": "\u0400-\u04ff",
            "ar": "\u0600-\u06ff",
        }.items()
    }  # fmt: skip
    if not sum(count.values()):
        expected = ""
    elif count["kana"] > 0.1 * (count["han"] + count["kana"]) and count["kana"] * 4 > count["latin"]:
        expected = "ja"
    else:
        weights = {"zh": 4 * count["han"], "ko": 4 * count["ko"], **{key: count[key] for key in ("ru", "ar", "latin")}}
        expected = max(weights, key=lambda key: weights[key])
    assert text.lang(given) == expected
