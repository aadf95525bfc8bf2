from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_models import tiny

from zhiling.types import Example

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as the tuner does: threads that spin stall each other on a busy machine


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture(scope="session")
def rows() -> list[Example]:
    """Two tasks in two languages, 24 rows of many lengths, some with a common instruction or passage."""
    passages = [
        "鲁迅写了《故乡》，那是一九二一年的事。",
        "Jane Austen wrote Emma; it was printed in 1815, in three volumes.",
    ]
    sentiment = [
        ("这家店的面很好吃，下次还来。", "正面"), ("等了一个小时，汤还是凉的。", "负面"), ("老板热情，价钱公道。", "正面"),
        ("包装破了，客服也不回。", "负面"), ("The soup was cold.", "negative"), ("A warm welcome and good bread.", "positive"),
        ("Never again: rude, slow and far too dear.", "negative"), ("We shall be back next week!", "positive"),
    ]  # fmt: skip
    made = []
    for text, label in sentiment:
        zh = label in ("正面", "负面")
        ask = "判断这条评论是正面还是负面。" if zh else "Is the review positive or negative?"
        made.append(Example("sentiment", ask, text, label, lang="zh" if zh else "en"))
        made.append(Example("sentiment", ask, text + text, label, lang="zh" if zh else "en"))
    questions = [
        ("谁写了《故乡》？", "鲁迅"),
        ("《故乡》写于哪一年？", "一九二一年"),
        ("Who wrote Emma?", "Jane Austen"),
        ("When was it printed?", "in 1815"),
    ]
    for question, answer in questions:
        passage = passages[question.isascii()]
        made.append(Example("qa", passage, question, answer))
        made.append(Example("qa", passage, question, answer + ("。" if not question.isascii() else ".")))
    return made
