"""The short ways through `text` say what the plain definitions say."""

import re
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from zhiling import text

spaces = st.sampled_from([" ", "\t", "\n", "\x1c", "\x85", "\xa0", "\u2003", "\u3000", "\x00"])
letters = st.sampled_from(["a", "Z", "9", "_", "'", "’", "-", "İ", "ﬁ", "Ａ", "中", "の", "한", "é", "\ud800"])
mixed = st.lists(spaces | letters, max_size=30).map("".join) | st.text(max_size=40)


@given(mixed)
@example("Don't 'quote' rock'n'roll '' it's_")
def test_normalise_folds_all_white_space(passage):
    plain = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", passage)).strip().lower()
    assert text.normalise(passage) == plain


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=60))
@example("Don't 'quote' rock'n'roll '' it's_")
def test_ascii_tokens_are_runs_of_letters_and_digits_with_inner_apostrophes(passage):
    assert text.tokens(passage) == re.findall(r"[a-z0-9]+(?:'[a-z0-9]+)*", passage.lower())


@given(mixed)
def test_tokens_see_no_white_space(passage):
    assert text.tokens(passage) == text.tokens(text.normalise(passage))
