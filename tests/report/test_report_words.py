"""Both languages say everything, and nothing that is said is missing or left over."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import zhiling.report
from zhiling import registry
from zhiling.ledger import STATES
from zhiling.report.gather import Loss
from zhiling.report.pictures import place
from zhiling.report.rows import WAYS
from zhiling.report.words import LANGS, WORDS, Words

HERE = Path(zhiling.report.__file__).parent
SAME = {
    "more",
    "metric.f1",
    "metric.chrf",
    "metric.rouge_l",
    "metric.rouge_1",
    "metric.rouge_2",
    "metric.bleu",
    "ledger.sum",
    "space",
    "title.comma",
    "colon",
}  # need no Han characters


def slots(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", WORDS)
def test_a_text_says_the_same_in_both_languages(key: str):
    english, chinese = WORDS[key]
    assert english and (chinese or key == "space")
    for form in english.split("|"):
        assert slots(form) | {"n"} == slots(chinese) | {"n"}, "the languages name different figures"
    assert not re.search("[一-鿿]", english)
    assert re.search("[一-鿿]", chinese) or key in SAME
    assert "|" not in chinese and english.count("|") <= 1
    assert not re.search(r"[,;:!?](?=\s|$)", chinese), "half-width punctuation in Chinese"


def test_every_text_that_is_asked_for_exists_and_none_is_left_over():
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in sorted([*HERE.glob("*.py"), *HERE.glob("*.j2")])
        if path.name != "words.py"
    )
    rooms = {key.split(".")[0] for key in WORDS if "." in key}
    plain = set(re.findall(r'\b(?:t|words|head|lead)\("([a-z_.]+)"[,)]', source))
    plain |= {
        key
        for key in re.findall(r'"([a-z]+\.[a-z_]+)"', source)
        if key.split(".")[0] in rooms and not key.endswith((".js", ".css", ".yaml"))
    }
    assert plain <= set(WORDS)
    named = {f"{sort}.{name}" for sort, names in (("way", WAYS), ("state", STATES)) for name in names}
    groups = ("score.", "select.", "metric.", "lang.", "place.")  # asked for by name at run time
    built = (
        {f"facts.{k}" for k in ("seed", "engine", "until")}
        | {f"proof.{k}" for k in ("better", "worse", "same")}
        | {"scores.high", "scores.low"}
    )
    built |= {f"flow.{k}" for k in ("templates", "drafts", "unique", "scored", "kept")} | {
        "scores.bin",
        "scores.bin_kept",
        "scores.value",
        "scores.value_kept",
    }
    built |= {f"bill.{k}" for k in ("calls", "cached", "prompt", "completion", "failed", "retries", "usd")}
    built |= {f"beside.{k}" for k in ("judge", "forgetting", "too_much", "too_little")}
    built |= {f"ways.{k}" for k in ("templates", "made", "kept", "share")}
    left = {key for key in WORDS if key not in plain | named | built and not key.startswith(groups)}
    assert not left


@pytest.mark.parametrize("sort", ["scorer", "selector", "metric"])
def test_every_built_in_has_a_name_in_both_languages(sort: registry.Sort):
    prefix = {"scorer": "score", "selector": "select", "metric": "metric"}[sort]
    assert {f"{prefix}.{name}" for name in registry.BUILTIN[sort]} <= set(WORDS)


def test_one_is_singular_and_numbers_are_grouped():
    english, chinese = (Words(lang) for lang in LANGS)
    assert english("scores.unscored_tip", n=1) == "1 row could not be scored"
    assert english("scores.unscored_tip", n=12345) == "12,345 rows could not be scored"
    assert chinese("scores.unscored_tip", n=12345) == "12,345 行无法评分"
    assert english.name("score", "somebody_s_own") == "somebody_s_own" and chinese.name("score", "length") == "长度"


def test_a_constructors_own_checks_are_told_as_such_in_both_languages():
    """A selector has a name of its own; what refused a row while it was made is told by the constructor's name."""
    told = [
        [place(Loss("dropped", stage, 2, 1, ()), Words(lang)) for lang in LANGS] for stage in ("verify", "sql", "human")
    ]
    assert told[0] == ["refused by the task's verifier", "未通过任务的校验"]
    assert told[1] == ["refused while made: sql", "构造时未通过检查：sql"]
    assert told[2] == ["a person's review", "人工审核"]
    lost = [place(Loss("failed", stage, 1, 1, ()), Words("zh")) for stage in ("evol", "magpie")]
    assert lost == ["构造失败：evol", "构造失败：magpie"]
