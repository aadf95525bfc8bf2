"""Overall quality and wording: what they say, in Chinese as in English, and where they keep silent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_rows import HOSTILE, alpaca, read, row

from zhiling import registry
from zhiling.embed import Use
from zhiling.score import quality_model, signals, wording
from zhiling.score.quality import quality
from zhiling.types import Example

USE = Use()


def judged(*rows):
    return list(quality(list(rows), embedder=USE))


def worded(*fields):
    return next(registry.get("scorer", "wording").fn([row(*fields)]))


GOOD = {
    "en": row(
        "Explain how vaccines protect people from disease.",
        "Vaccines protect people by training the immune system.\n\n1. A vaccine shows the body a harmless piece of the disease.\n"
        "2. The immune system learns to recognise it and makes antibodies.\n3. When the real disease comes, people are protected at once.",
    ),
    "zh": row(
        "解释疫苗如何保护人们免受疾病侵害。",
        "疫苗通过训练免疫系统来保护人们。\n\n1. 疫苗把疾病的无害片段展示给身体。\n2. 免疫系统学会识别它，并产生抗体。\n3. 当真正的疾病来临时，人们会立刻受到保护，免受侵害。",
    ),
}
AWAY = {
    "en": "The train to the coast leaves at nine and there is a small café beside the platform.",
    "zh": "开往海边的火车九点出发，站台旁边有一家小咖啡馆。",
}
REFUSED = {"en": "I'm sorry, but I cannot help with that request.", "zh": "很抱歉，我无法回答这个问题。"}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_full_answer_beats_one_beside_the_point_and_a_refusal(lang):
    good = GOOD[lang]
    scores = judged(
        good, row(good.instruction, AWAY[lang]), row(good.instruction, REFUSED[lang]), row(good.instruction)
    )
    values = [score.value for score in scores]
    assert values[0] > 0.7 > 0.5 > max(values[1:3])
    assert values[3] == 0 and scores[3].why


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_contributions_add_up_to_the_value(lang, monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", lang)
    score = judged(GOOD[lang])[0]
    parts = [part.rpartition(" ") for part in score.why.split(", ")]
    model = quality_model.load("quality")
    assert {name for name, _, _ in parts} == {
        name if lang == "en" else signals.SIGNALS[name].zh for name in model.weights
    }
    values = [float(part) for _, _, part in parts]
    assert [abs(value) for value in values] == sorted((abs(value) for value in values), reverse=True)
    assert 1 / (1 + np.exp(model.langs[lang]["base"] - sum(values))) == pytest.approx(score.value, abs=0.02)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (row("", "An answer to nothing."), "instruction"),
        (row("Write a loop.", "for i in range(9):\n    print(i)"), "code"),
        (row("Write a loop.", "```python\nfor i in range(9):\n    print(i)\n```"), "code"),
        (row("挨拶をしてください。", "こんにちは、元気ですか。"), "ja"),
        (row("!!!", "???"), "words"),
    ],
)
def test_it_keeps_silent_with_a_reason(one, words):
    (score,) = judged(one)
    assert score.value is None and words in score.why


@pytest.mark.parametrize("model", ["quality", "wording"])
def test_no_weight_speaks_against_its_direction(model):
    named = signals.SIGNALS if model == "quality" else wording.SIGNALS
    held = quality_model.load(model)
    assert held.weights and all(weight * named[name].sign > 0 for name, weight in held.weights.items())
    assert set(held.langs) == {"en", "zh"} and held.about["date"] and held.about["cross_validated"]
    for lang in held.langs.values():
        assert set(lang["mean"]) == set(lang["deviation"]) == set(held.weights)
        assert min(lang["deviation"].values()) > 0


def test_hostile_rows_get_one_score_each_in_range():
    for name, scores in (
        ("quality", judged(*HOSTILE)),
        ("wording", list(registry.get("scorer", "wording").fn(HOSTILE))),
    ):
        assert [(score.example, score.scorer) for score in scores] == [(one.id, name) for one in HOSTILE]
        assert all(score.why if score.value is None else 0 <= score.value <= 1 for score in scores)
    assert judged() == []


def test_a_row_s_value_hangs_on_no_other_row():
    rows = [*GOOD.values(), *(row(GOOD["en"].instruction, text) for text in AWAY.values())]
    assert judged(*rows) == [score for one in rows for score in judged(one)]


signs = st.text(alphabet=st.sampled_from("ab 一的了，。“”:：?\n1é\x00\ud800🙂 "), max_size=60)


@given(instruction=signs, given_=signs, output=signs)
def test_signals_stay_in_their_range(instruction, given_, output):
    sides = signals.Sides(Example("t", instruction, given_, output), 0.5, 0.0, 0.0)
    said = {name: signal.of(sides) for name, signal in signals.SIGNALS.items()}
    assert all(np.isfinite(value) and value >= 0 for value in said.values())
    assert all(said[name] <= 1 for name in ("variety", "refusal", "defects", "repetition", "names", "count"))


@pytest.mark.parametrize(
    ("passage", "words"),
    [
        ("The dogs are walking quickly.", {"dogs", "walk", "quick"}),
        ("疫苗的作用", {"疫苗", "作用"}),
        ("用 GPT-4 写诗", {"gpt", "4", "写诗"}),
        ("the of and", set()),
    ],
)
def test_content_words(passage, words):
    assert signals.content(passage) == words


@pytest.mark.parametrize(
    ("instruction", "output", "off"),
    [
        ("List three colours of the flag.", "1. Red\n2. White\n3. Blue", 0),
        ("List three colours of the flag.", "Red and white", 2 / 3),
        ("列出三个颜色。", "红、白、蓝", 0),
        ("列出5个例子。", "1. 一\n2. 二", 1),
        ("Write 100 words.", "No.", 0),
    ],
)
def test_count_of_what_was_asked_for(instruction, output, off):
    assert signals.count(signals.Sides(row(instruction, output), 0.0, 0.0, 0.0)) == pytest.approx(off)


@pytest.mark.parametrize(
    ("signal", "bad", "good"),
    [
        ("fake", ("Name a colour.", "", "<noinput>"), ("Name a colour.", "", "")),
        ("fake", ("说一种颜色。", "", "无输入"), ("说一种颜色。", "", "")),
        ("inline", ("Rewrite as a question: She went to the store.", "", ""), ("Rewrite as a question:", "", "She went to the store.")),
        ("inline", ("改写成疑问句：她去了商店。", "", ""), ("改写成疑问句：", "", "她去了商店。")),
        ("breaks", ("Fix this.\nNow.", "", ""), ("Fix this now.", "", "")),
        ("unended", ("Name some strategies", "", ""), ("Name some strategies.", "", "")),
        ("unended", ("说出几种策略", "", ""), ("说出几种策略。", "", "")),
        ("slips", ("Describe the apperance of an octopus.", "", ""), ("Describe the appearance of an octopus.", "", "")),
        ("slips", ("说明他为什么跑的很快。", "", ""), ("说明他为什么跑得很快。", "", "")),
        ("stiff", ("You need to write a story.", "", ""), ("Write a story.", "", "")),
        ("stiff", ("你需要写一个故事。", "", ""), ("写一个故事。", "", "")),
        ("vague", ("Explain a certain task.", "", ""), ("Explain the task.", "", "")),
    ],
)  # fmt: skip
def test_wording_prefers_what_an_editor_would_write(signal, bad, good):
    views = [view for view, _, _ in wording.views([row(*bad), row(*good)])]
    worse, better = (wording.SIGNALS[signal].of(view) * wording.SIGNALS[signal].sign for view in views)
    assert worse < better
    assert worded(*bad).value < worded(*good).value


def test_wording_keeps_silent():
    assert worded("").value is None and worded("").why
    assert worded("def f(x):\n    return x").value is None
    assert worded("これは何ですか").value is None


def test_chinese_rows_are_not_held_to_be_worse(shared):
    """The community's translation of Alpaca scores as Alpaca does, by both models."""
    en = alpaca(shared / "02_alpaca/alpaca_52k_original.jsonl.gz", 52_000)[::130]
    zh = alpaca(shared / "02_alpaca/alpaca_zh_community_translated.jsonl.gz")[::10]
    for name, fn in (
        ("quality", lambda rows: quality(rows, embedder=USE)),
        ("wording", registry.get("scorer", "wording").fn),
    ):
        means = [np.mean([s.value for s in fn(rows) if s.value is not None]) for rows in (en, zh)]
        assert abs(means[0] - means[1]) < 0.05, name


def test_experts_revisions_are_preferred(shared):
    """A check that the shipped weights are read as they were fitted: in sample, so it proves no more than that."""
    pairs = [item for item in read(shared / "02_alpaca/coachlm_expert_revisions.jsonl.gz") if item["response_changed"]][
        :150
    ]
    rows = [
        row(item["Revised Instruction"], item[f"{side} Response"], item["Revised Input"])
        for item in pairs for side in ("Revised", "Raw")
    ]  # fmt: skip
    values = [-1.0 if score.value is None else score.value for score in judged(*rows)]
    assert np.mean([a > b for a, b in zip(values[::2], values[1::2], strict=True)]) > 0.75
