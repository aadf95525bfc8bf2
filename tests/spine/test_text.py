"""Text in zh and en through one door."""

from hypothesis import given
from hypothesis import strategies as st

from zhiling.text import bigrams, cut, jaccard, lang, length, ngrams, normalise, sentences, shingles, tokens


def test_chinese_has_a_token_per_character_and_english_one_per_word():
    assert tokens("将句子翻译成法语：{句子}") == list("将句子翻译成法语句子")
    assert tokens("It's GPT-4's 3 answers!") == ["it's", "gpt", "4's", "3", "answers"]
    assert tokens("用GPT模型") == ["用", "gpt", "模", "型"]


def test_full_width_and_case_are_folded():
    assert normalise("　Ｈｅｌｌｏ\n WORLD １２ ") == "hello world 12"


def test_two_character_words_are_index_terms():
    assert "法语" in bigrams("将句子翻译成法语")
    assert bigrams("好 day") == ["好", "day"]


def test_language_by_script():
    assert [lang(text) for text in ("请用 GPT 翻译这句话", "Translate this", "これは本です", "번역해 주세요", "Привет", "مرحبا", "123 !?")] == [
        "zh", "latin", "ja", "ko", "ru", "ar", "",
    ]  # fmt: skip


def test_sentences_of_both_languages():
    assert sentences("你好。你是谁？我走了！") == ["你好。", "你是谁？", "我走了！"]
    assert sentences("He came. She left at 3.5 today. (Really.)") == ["He came.", "She left at 3.5 today.", "(Really.)"]


def test_length_is_what_a_reader_counts():
    assert length("四个汉字") == 4
    assert length("four English words here") == 4


def test_short_sequences_have_one_shingle():
    assert list(ngrams(["a"], 3)) == [("a",)]
    assert list(ngrams([], 3)) == []


@given(st.text(), st.text())
def test_jaccard_is_a_similarity(a, b):
    x, y = shingles(a), shingles(b)
    assert 0 <= jaccard(x, y) <= 1
    assert jaccard(x, y) == jaccard(y, x)
    assert jaccard(x, x) == 1


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    assert normalise(once) == once


def test_cut_is_one_short_line():
    assert cut("a\n b" * 100, 10) == "a ba ba b…"
    assert cut("好", 10) == "好"
