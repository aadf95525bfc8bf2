"""Lone surrogates, which no file, tokenizer or checker takes, become question marks; all other text stays as it is."""

from hypothesis import given
from hypothesis import strategies as st

from zhiling.text import valid


@given(st.text(), st.sampled_from(["\ud800", "\udfff", "\udc80"]))
def test_valid(text, lone):
    assert valid(text) == text
    assert valid(f"{text}{lone}中") == f"{text}?中"
