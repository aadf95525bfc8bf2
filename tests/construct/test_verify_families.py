"""The verifiers that need neither a cage nor a database: right rows pass, wrong ones are refused with the reason, in zh and en."""

import asyncio
import gzip
import inspect
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling import registry
from zhiling.construct.verify.arithmetic import evaluate
from zhiling.construct.verify.arithmetic import judged as sums
from zhiling.construct.verify.subtitles import Cue, cues, srt
from zhiling.construct.verify.translation import missing_numbers
from zhiling.construct.verify.verse import syllables
from zhiling.errors import RecipeError
from zhiling.types import Example, Reply, Task


def lines(path):
    """The JSON rows of a gzipped file."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


NAMES = (
    "subtitles",
    "verse",
    "constraints",
    "arithmetic",
    "json_schema",
    "translation",
    "labels",
    "span",
    "summary",
    "dialogue",
    "nli",
)


def told(name, *rows, **given):
    """(value, why) of each row, given as (instruction, input, output) or an Example."""
    made = [row if isinstance(row, Example) else Example("t", *row) for row in rows]
    plugin = registry.get("verifier", name)
    hand = {"task": Task("t", labels=("positive", "negative")), "seed": 1, "here": None, "model": None}
    scores = (
        plugin.fn(made, **{key: hand[key] for key in plugin.wants}, **given)
        if "model" not in given
        else plugin.fn(made, **{**{key: hand[key] for key in plugin.wants}, **given})
    )
    if inspect.isawaitable(scores):
        scores = asyncio.run(scores)
    scores = list(scores)
    assert [score.example for score in scores] == [row.id for row in made]
    assert {score.scorer for score in scores} <= {name}
    assert all(score.value in (1.0, 0.0, None) for score in scores)
    return [(score.value, score.why) for score in scores]


def values(name, *rows, **given):
    return [value for value, _ in told(name, *rows, **given)]


@pytest.mark.parametrize("name", NAMES)
def test_anything_can_be_checked_and_nothing_breaks(name):
    odd = [
        "",
        " ",
        "\x00",
        "\ud800",
        "好" * 5000,
        "a" * 20000,
        "{" * 3000,
        "1 / 0 = 3",
        "####",
        "<<2=2>>",
        "00:00 --> 1",
        "1\n00:00:01,000 --> 00:00:00,500\nx",
        "[[[[",
        "(" * 500 + "1+1=2",
    ]
    rows = [
        Example("t", a, b, c)
        for a, b in (("", ""), ("写一首五言绝句，不超过20字", "x"), ("Translate: 3", "12"))
        for c in odd
    ]
    kwargs = {"model": None} if name in ("labels", "nli") else {}
    assert len(told(name, *rows, **kwargs)) == len(rows)


def test_every_verifier_states_its_family_and_languages():
    for name in registry.BUILTIN["verifier"]:
        facts = registry.get("verifier", name).facts
        assert facts["families"] and facts["langs"] == ("zh", "en") and facts["paper"], name


# --- subtitles

SRT = "1\n00:00:01,000 --> 00:00:03,500\nWe have to leave before dawn.\n\n2\n00:00:04,000 --> 00:00:06,000\nDon't worry.\nI'm here."
ZH = "1\n00:00:01,000 --> 00:00:03,500\n我们得在天亮前离开。\n\n2\n00:00:04,000 --> 00:00:06,000\n别担心，\n我在这儿。"


def test_translated_subtitles_keep_cues_and_times():
    right = told(
        "subtitles",
        ("译成中文", SRT, ZH),
        ("Translate", ZH, SRT),
        ("译", SRT.replace(",", "."), ZH),
        ("译", "Don't worry.", "别担心。"),
    )
    assert [value for value, _ in right] == [1.0] * 4 and right[0][1] == "2 cues, times untouched"
    wrong = {
        "1 cues where 2": ZH.split("\n\n")[0],
        "its time was changed from 00:00:04,000": ZH.replace("00:00:06,000", "00:00:06,100"),
        "cue 2: it is empty": "\n".join(ZH.split("\n")[:6]),
        "cannot be read": ZH.replace("00:00:04,000 -->", "00:00:xx -->"),
        "cue 1: it is not translated": SRT,
        "cue 1: 3 lines": ZH.replace("天亮前", "天\n亮\n前"),
        "a line of 28 characters": ZH.replace("离开。", "离开" + "啊" * 18 + "。"),
        "characters a second": ZH.replace("我在这儿。", "我在这儿陪着你呢不用怕啊真的").replace("别担心，", "别担心天就要亮了我们一起走"),
        "replacement characters": ZH.replace("别", "\ufffd"),
    }  # fmt: skip
    for reason, output in wrong.items():
        value, why = told("subtitles", ("译", SRT, output))[0]
        assert value == 0.0 and reason in why, (reason, why)
    assert values("subtitles", ("译", "Don't worry.", SRT), ("译", "Stay.", "留下" * 15)) == [0.0, 0.0]


def test_bilingual_subtitles_want_both_languages():
    both = "\n\n".join(
        f"{one}\n{two.split(chr(10), 2)[2]}" for one, two in zip(SRT.split("\n\n"), ZH.split("\n\n"), strict=True)
    )
    assert values("subtitles", ("双语", SRT, both), ("双语", SRT, ZH), kind="bilingual") == [1.0, 0.0]
    assert values("subtitles", ("缩短", SRT, SRT), kind="any") == [1.0]
    assert values("subtitles", ("译", SRT, ZH), to="en") == [0.0]


def test_broken_times_in_the_question_are_nobodys_fault():
    assert values("subtitles", ("译", "1\n00:00:0x --> 00:00:03\nHi", "嗨")) == [None]


def test_a_cue_is_not_blamed_for_what_its_original_is():
    fast = "1\n00:00:01,000 --> 00:00:01,500\n" + "This is far too long for anybody to read in time"
    assert values("subtitles", ("译", fast, "1\n00:00:01,000 --> 00:00:01,500\n这句话太长了谁都来不及看完")) == [1.0]


@given(
    st.lists(
        st.tuples(st.integers(0, 3_600_000), st.integers(1, 10_000), st.sampled_from(["Hello.", "你好。", "a\nb"])),
        min_size=1,
        max_size=8,
    )
)
def test_times_survive_writing_and_reading(made):
    given_ = [Cue(start, start + size, tuple(text.split("\n"))) for start, size, text in made]
    assert cues(srt(given_)) == (given_, [])


def test_the_six_real_pairs_keep_every_cue_and_time(shared):
    folder = shared / "10_parallel_docs/subtitles"
    pairs = [(en, en.with_name(en.name.replace(".en.", ".zh."))) for en in sorted(folder.glob("*.en.srt"))]
    assert len(pairs) == 3  # three films, each in two directions: six
    for one, other in [*pairs, *[(zh, en) for en, zh in pairs]]:
        a, b = one.read_text("utf-8-sig"), other.read_text("utf-8-sig")
        read, bad = cues(a)
        assert not bad and len(read) == a.count("-->") and srt(read).count("-->") == len(read)
        assert told("subtitles", ("Translate the subtitles.", a, b), slow=1.0)[0] == (
            1.0,
            f"{len(read)} cues, times untouched",
        )
        both = srt([Cue(x.start, x.end, (*x.lines, *y.lines)) for x, y in zip(read, cues(b)[0], strict=True)])
        assert values("subtitles", ("双语字幕", a, both), kind="bilingual", slow=1.0) == [1.0]
        assert values("subtitles", ("译", a, b.replace(",", ",9", 1)), ("译", a, b.split("\n\n", 1)[1])) == [0.0, 0.0]
    for file in folder.glob("*.ass"):
        read, bad = cues(file.read_text("utf-8-sig"))
        assert not bad and len(read) == len(re.findall(r"^Dialogue:", file.read_text("utf-8-sig"), re.M))


# --- verse


@pytest.mark.parametrize(("instruction", "output", "value"), [
    ("写一首五言绝句。", "《山居》\n竹外一泉鸣，\n门前众鸟轻。\n客来无俗语，\n扫石看云生。", 1.0), ("写一首五言绝句。", "竹外一泉鸣，门前众鸟轻。客来无俗语，扫石看云生。", 1.0),
    ("写一首五言绝句。", "竹外一泉鸣，门前众鸟轻轻。客来无俗语，扫石看云生。", 0.0), ("写一首五言绝句。", "竹外一泉鸣，门前众鸟轻。", 0.0), ("写一首七言绝句", "残雪初消柳未匀，东风先到小桥津。儿童不识春深浅，折得梅花报比邻。", 1.0),
    ("写一首七律", "残雪初消柳未匀，东风先到小桥津。儿童不识春深浅，折得梅花报比邻。", 0.0), ("写一副春联", "上联：春回大地千山秀\n下联：日照神州万物新\n横批：万象更新", 1.0), ("写一副对联", "春回大地\n日照神州万物新", 0.0),
    ("Write a haiku about frogs.", "An old silent pond\nA frog jumps into the pond\nSplash! Silence again", 1.0), ("Write a haiku.", "The dog runs\nacross the wide and empty yellow field at noon\nhome", 0.0),
    ("写一首俳句", "古池塘水静\n青蛙跳入水中央\n水声轻轻响", 1.0), ("Write a limerick.", "a b\nc d\ne f\ng h\ni j", 1.0), ("Write a sonnet.", "one line\n" * 14, 1.0), ("Write a sonnet.", "one line\n" * 13, 0.0),
    ("Write a poem about rain.", "Rain.", None), ("Write a couplet.", "Title: Rain\nThe rain comes down,\nupon the town.", 1.0),
])  # fmt: skip
def test_forms_of_verse(instruction, output, value):
    assert values("verse", (instruction, "", output)) == [value]


def test_syllables_are_counted_with_their_doubt():
    assert [
        syllables(line)[1]
        for line in (
            "An old silent pond",
            "walked",
            "wanted",
            "little",
            "beautiful",
            "makes",
            "roses",
            "rhythm of the rain",
        )
    ] == [5, 1, 2, 2, 3, 1, 2, 5]
    least, _, most = syllables("every fire")
    assert least < most
    assert values(
        "verse", ("Write a haiku.", "", "Every fire burns hot\nA frog jumps into the pond\nSplash! Silence again")
    )[0] in (1.0, None)


# --- constraints


@pytest.mark.parametrize(("instruction", "good", "bad"), [
    ("Describe rain in at most 5 words.", "Rain falls on the roof.", "Rain falls on the old red roof."), ("用不超过10个字描述雨。", "雨落在屋顶上。", "雨点轻轻地落在红色的屋顶上。"), ("Write at least 3 sentences.", "One here. Two here. Three here.", "One here. Two here."),
    ("写至少三句话。", "一。二。三。", "一。二。"), ("Write exactly two lines.", "a\nb", "a\nb\nc"), ("分成两段写。", "甲。\n\n乙。", "甲。"), ('Use the words "sea" and "salt".', "Salt of the sea.", "The sea."), ("必须包含“秋天”和“落叶”。", "秋天到了，落叶满地。", "秋天到了。"),
    ('Write about rain. Avoid using the word "wet".', "Rain falls.", "Rain is wet."), ("写雨，不要使用“湿”。", "雨落。", "雨很湿。"), ("以“从前”开头写一句话。", "从前有座山。", "有座山。"), ('End with "the end".', "It is over. The end.", "It is over."),
    ("Answer in English.", "Yes.", "是的。"), ("请用中文回答。", "是的。", "Yes."), ("List 3 items.", "- a\n- b\n- c", "- a\n- b"), ("Reply in JSON.", '{"a": 1}', "a: 1"), ("Write about 10 words.", "one two three four five six seven eight nine", "one two"), ("写100字左右。", "好" * 95, "好" * 50),
    ("Write in all lowercase.", "quiet", "Quiet"), ("Write between 2 and 4 words.", "a b c", "a b c d e"), ("写十到二十个字。", "好" * 15, "好" * 25), ("Name a fruit. Return it without commas.", "fig", "fig, plum"),
])  # fmt: skip
def test_conditions_are_counted(instruction, good, bad):
    assert values("constraints", (instruction, "", good), (instruction, "", bad)) == [1.0, 0.0], told(
        "constraints", (instruction, "", good), (instruction, "", bad)
    )


def test_no_condition_is_no_evidence(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert told("constraints", ("写一首诗。", "", "诗")) == [(None, "指令没有可以核对的条件")]
    assert "实际为 3" in told("constraints", ("用不超过2个字回答。", "", "一二三"))[0][1]


# --- arithmetic


@pytest.mark.parametrize(("question", "answer", "value"), [
    ("计算：36 × 25", "900", 1.0), ("计算：36 × 25", "901", 0.0), ("What is 12 + 30 / 4?", "The answer is 19.5", 1.0), ("What is 12 + 30 / 4?", "10.5", 0.0), ("小明有24颗糖，平均分给6个同学，每人几颗？", "24÷6=4（颗）。答案：4", 1.0),
    ("小明有24颗糖，平均分给6个同学，每人几颗？", "24÷6=3（颗）。答案：3", 0.0), ("小明有24颗糖，平均分给6个同学，每人几颗？", "24÷6=4（颗）。答案：5", 0.0), ("How many?", "He has <<3*4=12>>12 and <<12-2=10>>10.\n#### 10", 1.0),
    ("How many?", "He has <<3*4=13>>13.\n#### 13", 0.0), ("How many?", "He has 3*4=<<3*4=12>>12.\n#### 99", 0.0), ("How many?", "Twelve.", None), ("How much?", "20% of 50 is 20% * 50 = 10\n#### 10", 1.0), ("How much?", "10 / 3 = 3.33\n#### 3.33", 1.0),
    ("How much?", "1,200 + 300 = 1,500\n#### 1,500", 1.0), ("计算 2^10。", "1024", 1.0), ("How much?", "34 books + 2 books = 36 books. The answer is 36", 1.0),
])  # fmt: skip
def test_sums_are_recomputed(question, answer, value):
    assert values("arithmetic", (question, "", answer)) == [value], told("arithmetic", (question, "", answer))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "9**9**9",
        "1/0",
        "1e999",
        "(" * 1000 + "1",
        "a+1",
        "2**65",
        "10000000**9",
        "",
        "1,2,3",
    ],
)
def test_what_is_no_small_sum_is_not_evaluated(text):
    assert evaluate(text) is None


@given(st.integers(-999, 999), st.integers(1, 999), st.sampled_from("+-*"))
def test_random_sums(a, b, sign):
    right = eval(f"({a}){sign}{b}")
    assert sums("How much?", f"{a} {sign} {b} = {right}\n#### {right}")[0] == 1.0
    assert sums("How much?", f"{a} {sign} {b} = {right + 1}\n#### {right + 1}")[0] == 0.0


def test_the_shared_word_problems(shared):
    rows = lines(shared / "14_code_math/gsm8k_test.jsonl.gz")
    said = [sums(row["question"], row["answer"])[0] for row in rows]
    assert said.count(1.0) / len(said) > 0.95 and said.count(0.0) / len(said) < 0.01
    wrong = [
        sums(
            row["question"],
            re.sub(r"#### -?([\d,]+)", lambda m: f"#### {int(m[1].replace(',', '')) * 7 + 13}", row["answer"]),
        )[0]
        for row in rows
    ]
    assert wrong.count(1.0) / len(wrong) < 0.02


# --- JSON

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "mood": {"enum": ["good", "bad"]}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_json_is_valid_and_stands_in_the_text(tmp_path):
    text = "李芳今年32岁，今天很高兴。"
    rows = {
        '{"name": "李芳", "age": 32, "mood": "good"}': 1.0, '```json\n{"name": "李芳"}\n```': 1.0, '{"name": "王芳"}': 0.0, '{"name": "李芳", "age": 33}': 0.0, '{"age": 32}': 0.0, '{"name": "李芳", "x": 1}': 0.0,
        '{"name": 5}': 0.0, "李芳": 0.0, '{"name": "李芳",}': 0.0, '"李芳"': 0.0,
    }  # fmt: skip
    assert values("json_schema", *[("抽取", text, output) for output in rows], schema=SCHEMA) == list(rows.values())
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    fn = registry.get("verifier", "json_schema").fn
    assert [
        s.value
        for s in fn([Example("t", "抽取", text, '{"name": "王"}')], here=tmp_path, schema="s.json", grounded=False)
    ] == [1.0]
    assert [
        s.value
        for s in fn([Example("t", "抽取", text, '{"name": "王"}')], here=tmp_path, schema="s.json", free=["name"])
    ] == [None]
    with pytest.raises(RecipeError, match="cannot be read"):
        list(fn([Example("t", "抽取", text, "{}")], here=tmp_path, schema="no.json"))
    assert values(
        "json_schema",
        ("Extract.", "Due 3 May 2021, total $1,250.", '{"date": "2021-05-03", "total": 1250}'),
        ("Extract.", "Due 3 May 2021.", '{"date": "2021-06-03"}'),
    )[0] in (0.0, 1.0)
    assert values(
        "json_schema",
        ("Extract.", "Paid $1,250 on 2021-05-03.", '{"total": 1250, "date": "2021/05/03"}'),
        ("Extract.", "Paid.", "{}"),
    ) == [1.0, 1.0]


# --- translation


@pytest.mark.parametrize(("instruction", "text", "output", "value"), [
    ("译成中文。", "The cat sat on the mat near the old door.", "猫坐在旧门旁边的垫子上。", 1.0), ("译成中文。", "The cat sat on the mat.", "The cat sat on the mat.", 0.0), ("译成中文。", "The cat sat on the mat.", "Die Katze sass auf der Matte.", 0.0),
    ("Translate into English.", "会议于2023年5月12日召开，有1.2万人参加。", "The meeting was held on 12 May 2023 with 12,000 people.", 1.0), ("Translate into English.", "会议于2023年召开，有350人参加。", "The meeting was held in 2023 with 530 people.", 0.0),
    ("译成中文。", "Sales rose to 3.5 million in 2020.", "2020年销量升至350万。", 1.0), ("译成中文。", "See https://example.org/a for more.", "更多内容见该网站。", 0.0), ("译成中文。", "Run `ls -l` now.", "现在运行 `ls -l`。", 1.0), ("译成中文。", "A short sentence about nothing at all, really.", "短" * 90, 0.0),
    ("译成中文。", "A long sentence about many things that happened to all of us in the summer of that year.", "事。", 0.0), ("译成中文。", "Hello.", "", 0.0), ("译成中文。", "", "", None), ("把“The sky is blue today.”译成中文", "", "今天天空是蓝色的。", 1.0), ("译成中文。", "He has two dogs and 53 cats.", "他有两只狗和五十三只猫。", 1.0),
])  # fmt: skip
def test_translations(instruction, text, output, value):
    assert values("translation", (instruction, text, output)) == [value], told(
        "translation", (instruction, text, output)
    )


def test_numbers_in_their_forms():
    assert (
        missing_numbers("1.2 million", "120万")
        == ""
        == missing_numbers("3亿", "300 million")
        == missing_numbers("twenty 20", "二十")
        == missing_numbers("2019", "二〇一九年")
    )
    assert missing_numbers("45 men", "五十四人") == "45"


def test_chinese_numbers_of_two_scales_are_one_number():
    said = ("Translate into Chinese.", "The plant serves 350,000,000 people.", "该厂为三亿五千万人供电。")
    wrong = (said[0], said[1], "该厂为三亿四千万人供电。")
    assert values("translation", said, wrong) == [1.0, 0.0]


def test_professional_translations_pass(shared):
    rows = lines(shared / "10_parallel_docs/ntrex_en_zh_de_ja_fr.jsonl.gz")[:400]
    assert values("translation", *[("Translate into Chinese.", row["en"], row["zh"]) for row in rows]).count(
        1.0
    ) >= 0.98 * len(rows)
    assert values("translation", *[("译成英文。", row["zh"], row["en"]) for row in rows]).count(1.0) >= 0.98 * len(rows)
    numbered = [row for row in rows if re.search(r"\d{3}", row["en"])]
    broken = [
        ("Translate into Chinese.", re.sub(r"\d{3}", lambda m: str(1001 - int(m[0])), row["en"], count=1), row["zh"])
        for row in numbered
    ]
    assert values("translation", *broken).count(0.0) >= 0.95 * len(broken)


# --- labels, NLI: with and without a model


class Judge:
    """A model that answers what it is told to; the question decides."""

    label = "judge"

    def __init__(self, answer):
        self.answer = answer

    async def ask_all(self, requests):
        return [Reply(self.answer(request)) for request in requests]


def test_labels_are_of_the_set():
    rows = [
        ("Say it.", "x", output)
        for output in ("positive", " Positive. ", "“negative”", "neutral", "positive or negative", "")
    ]
    assert values("labels", *rows) == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert values("labels", ("判断", "x", "正面"), ("判断", "x", "ＡＢ"), names=["正面", "ab"]) == [1.0, 1.0]


def test_draws_that_disagree_refuse_a_label():
    sunny = Judge(lambda request: "positive" if request.draw < 2 else "negative")
    assert told("labels", ("Say it.", "x", "positive"), ("Say it.", "x", "negative"), draws=3, model=sunny) == [
        (1.0, "2 of 3 draws say positive"),
        (0.0, "2 of 3 draws say positive"),
    ]
    assert values("labels", ("Say it.", "x", "positive"), draws=1, model=Judge(lambda _: "dunno")) == [None]


PAIRS = [
    ("Say the relation.", "Premise: A man sleeps.\nHypothesis: A man is awake.", "contradiction"), ("判断关系。", "前提：他在睡觉。\n假设：他没有醒着。", "蕴含"), ("Say the relation.", "Premise: A man sleeps.\nHypothesis: A man sleeps.", "neutral"),
    ("Say the relation.", "Premise: A man sleeps.\nHypothesis: He dreams.", "maybe so"), ("Say the relation.", "just one line", "neutral"),
]  # fmt: skip


def test_a_label_of_inference_needs_an_independent_judge():
    assert values("nli", *PAIRS) == [None, None, 0.0, 0.0, None]
    assert values("nli", *PAIRS, model=Judge(lambda r: "矛盾" if "他" in r.messages[-1][1] else "contradiction")) == [
        1.0,
        0.0,
        0.0,
        0.0,
        None,
    ]
    assert values("nli", *PAIRS, model=Judge(lambda r: "?")) == [None, None, 0.0, 0.0, None]
    asked = []
    told("nli", *PAIRS, model=Judge(lambda r: asked.append(r) or "neutral"))
    assert [request.choices for request in asked] == [
        ("entailment", "neutral", "contradiction"),
        ("蕴含", "中立", "矛盾"),
    ]
    assert (
        "A man is awake." in asked[0].messages[-1][1] and "contradiction" not in asked[0].messages[-1][1].split("\n")[1]
    )


# --- spans, summaries, dialogues

PASSAGE = "The bridge was opened in 1932 by the mayor of the town. It is 503 metres long and made of steel."
ZH_PASSAGE = "这座桥于1932年由市长剪彩通车，全长503米，由钢材建成。"


@pytest.mark.parametrize(("passage", "output", "value"), [
    (PASSAGE, "1932", 1.0), (PASSAGE, "503 metres", 1.0), (PASSAGE, "The mayor of the town.", 1.0), (PASSAGE, "1933", 0.0), (PASSAGE, "A queen from a distant country", 0.0), (PASSAGE, "The passage does not say.", None), (PASSAGE, "", 0.0), (PASSAGE, PASSAGE, 0.0),
    (PASSAGE, "Answer: steel\nEvidence: “made of steel”", 1.0), (PASSAGE, "Answer: steel\nEvidence: it was built of steel", 0.0), (ZH_PASSAGE, "503米", 1.0), (ZH_PASSAGE, "市长", 1.0), (ZH_PASSAGE, "503 公里", 0.0), (ZH_PASSAGE, "木材和石头", 0.0),
    (ZH_PASSAGE, "答案：钢材\n证据：“由钢材建成”", 1.0), (ZH_PASSAGE, "文中没有提到", None), ("x", "y", None),
])  # fmt: skip
def test_spans(passage, output, value):
    assert values("span", ("Answer the question.", f"{passage}\nQuestion: how long is it?", output)) == [value], told(
        "span", ("Answer.", passage, output)
    )


def test_real_answers_are_spans(shared):
    rows = [
        ("回答问题。", f"{part['context']}\n问题：{qa['question']}", qa["answers"][0]["text"])
        for article in lines(shared / "10_parallel_docs/cmrc2018_trial.jsonl.gz")
        for part in article["paragraphs"]
        for qa in part["qas"]
    ]
    assert values("span", *rows).count(1.0) >= 0.99 * len(rows)
    others = [(one[0], one[1], other[2]) for one, other in zip(rows, rows[40:], strict=False)]
    assert values("span", *others).count(0.0) >= 0.95 * len(others)


DOC = "The city of Lyon will close its old river bridge in March for repairs that cost 3.2 million euros. Buses will take another way, and the mayor, Anna Petit, asks for patience. The bridge was last mended in 1998, when part of the railing fell."


@pytest.mark.parametrize(("text", "output", "value"), [
    (DOC, "Lyon closes a bridge in March for repairs of 3.2 million euros.", 1.0), (DOC, "Lyon closes a bridge for repairs of 5 million euros.", 0.0), (DOC, "Lyon closes a bridge, says Pierre Blanc.", 0.0), (DOC, DOC, 0.0), (DOC, "里昂关闭大桥。", 0.0), (DOC, "", 0.0),
    ("short text", "text", None), ("昨日，《晨光》杂志在昆明举行了创刊二十周年的纪念活动，约有300名读者到场，主编林晓讲述了杂志的历史。", "《晨光》杂志举行纪念活动，300名读者到场。", 1.0),
    ("昨日，《晨光》杂志在昆明举行了创刊二十周年的纪念活动，约有300名读者到场，主编林晓讲述了杂志的历史。", "《夜光》杂志举行纪念活动。", 0.0),
])  # fmt: skip
def test_summaries(text, output, value):
    assert values("summary", ("Summarise.", text, output)) == [value], told("summary", ("Summarise.", text, output))


TALK = "User: My kettle leaks at the spout.\nAssistant: Since when does the kettle leak?\nUser: Since I cleaned it with vinegar.\nAssistant: Vinegar can harden the seal, so it should be replaced."
ZH_TALK = (
    "用户：我的水壶漏水。\n助手：水壶是从哪里漏水的？\n用户：从壶嘴，它昨天才买的。\n助手：昨天才买的话，可以拿去换新。"
)


@pytest.mark.parametrize(("output", "value", "reason"), [
    (TALK, 1.0, "4 turns"), (ZH_TALK, 1.0, "4 turns"), (TALK.replace("Assistant: Since", "User: Since"), 0.0, "turn 2 is user's"), ("\n".join(TALK.split("\n")[:3]), 0.0, "3 turns"), (TALK + "\nUser: Thanks.", 0.0, "last word"),
    (TALK.replace("Since I cleaned it with vinegar.", ""), 0.0, "turn 3 is empty"), (TALK.replace("Since I cleaned it with vinegar.", "My kettle leaks at the spout."), 0.0, "turn 3 repeats turn 1"),
    (TALK.replace("Vinegar can harden the seal, so it should be replaced.", "Penguins live on southern coasts and eat fish."), 0.0, "does not take up"), (TALK.replace("Since when does the kettle leak?", "水壶什么时候开始漏水？"), 0.0, "several languages"),
])  # fmt: skip
def test_dialogues(output, value, reason):
    got, why = told("dialogue", ("Write a conversation.", "", output))[0]
    assert got == value and reason in why, why


def test_a_rows_own_history_is_a_dialogue():
    history = (("user", "My kettle leaks."), ("assistant", "Where does the kettle leak?"))
    assert values(
        "dialogue",
        Example("t", "At the spout of it.", "", "Then the spout's seal is worn.", history=history),
        Example("t", "Hi", "", "Hello"),
    ) == [1.0, 0.0]
