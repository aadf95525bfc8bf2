"""Construction by retrieval: what comes out speaks of the task at hand, and what does not come out says why."""

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling import registry
from zhiling.construct.bank import Bank, Row, shipped
from zhiling.construct.fill import fill
from zhiling.construct.languages import code, language, mentions
from zhiling.construct.retrieve import question, retrieve
from zhiling.construct.retrieve_adapt import Adapted, adapt
from zhiling.construct.sandbox import compiled
from zhiling.embed import Use
from zhiling.errors import DataError, RecipeError
from zhiling.types import Demo, Example, Record, Reject, Task, Template

FRENCH = Task(
    "to_french",
    "把中文句子翻译成法语。\nTranslate Chinese sentences into French.",
    "translation",
    ("句子",),
    "译文",
    langs=("zh", "en"),
)
ANY = Task("translate", "", "translation", ("source", "source_lang", "target_lang"), "target", langs=("zh", "en"))
SENTIMENT = Task(
    "reviews", "判断评论的情感。\nDecide how a review feels.", "classification", ("text",), "label", langs=("zh", "en"), labels=("positive", "negative")
)  # fmt: skip
QA = Task(
    "ask", "根据文章回答问题。", "qa", ("passage", "question"), "answer", langs=("zh",), demos=(Demo("x", "三十米"),)
)
POEM = Task("poem", "写诗。", "poetry", ("topic",), "poem", langs=("zh", "en"))


class Letters:
    """An embedder for plumbing: a unit vector of character counts."""

    name, dim = "letters", 64

    def __call__(self, texts):
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            for char in text or " ":
                out[i, ord(char) % self.dim] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def called(**given):
    return asyncio.run(retrieve(seed=1, **given))


def adapted(instruction, task, lang="zh", output="", **row):
    made = adapt(Row(id="r", instruction=instruction, output=output, lang=lang, **row), task, lang)
    return made.instruction if isinstance(made, Adapted) else f"-- {made}"


def rendered(instruction, task, fields, **row):
    return compiled(adapted(instruction, task, **row)).render(fields)


@pytest.mark.parametrize(
    ("instruction", "lang", "expected"),
    [
        ("将句子翻译成西班牙语：{句子}", "zh", "将句子翻译成法语。"),
        ("将句子翻译成法语：{句子}", "zh", "将句子翻译成法语。"),
        ("把这段英文译成{目标语言}，不要逐字翻译。", "zh", "把这段中文译成法语，不要逐字翻译。"),
        ("给出这句话的日语译文。", "zh", "给出这句话的法语译文。"),
        ("这句中文用德语该怎么表达？", "zh", "这句中文用法语该怎么表达？"),
        ("将文言文译成现代汉语。", "zh", "将中文译成法语。"),
        ("请把“{句子}”翻译成韩语。", "zh", "请把“{{ 句子 }}”翻译成法语。"),
        ("Translate the sentence into Spanish: {sentence}", "en", "Translate the sentence into French."),
        ("Translate the notice from Portuguese into English.", "en", "Translate the notice from Chinese into French."),
        ("Provide an English version of the text.", "en", "Provide a French version of the text."),
        ("What does this Russian line mean in English?", "en", "What does this Chinese line mean in French?"),
        ("Say it in {target language}.", "en", "Say it in French."),
    ],
)
def test_languages_become_the_tasks(instruction, lang, expected):
    assert adapted(instruction, FRENCH, lang) == expected


def test_languages_that_change_from_row_to_row_become_fields():
    fields = {"source": "你好", "source_lang": "zh", "target_lang": "de"}
    assert rendered("把下面的英文翻译成通顺的中文。", ANY, fields) == "把下面的中文翻译成通顺的德语。"
    assert (
        rendered("Turn the Chinese text into natural English.", ANY, fields, lang="en")
        == "Turn the Chinese text into natural German."
    )
    assert "article" in adapted("Give an English version.", ANY, "en")
    one_way = Task("t", "", "translation", ("source", "target_lang"), "target", langs=("zh", "en"))
    assert rendered("把下面的英文翻译成中文。", one_way, fields) == "把下面的文本翻译成德语。"
    assert (
        rendered("Translate the note from Dutch into English.", one_way, fields, lang="en")
        == "Translate the note into German."
    )


@pytest.mark.parametrize(
    ("instruction", "lang", "output", "expected"),
    [
        ("判断评论的情感是好还是坏或负面。", "zh", "负面", "判断评论的情感是正面还是负面。"),
        ("给评论分类：正面、中性、负面。", "zh", "中性", "给评论分类：正面或负面。"),
        ("判断评论是褒是贬，回答“正面”或“反面”。", "zh", "正面", "判断评论是褒是贬，回答正面或负面。"),
        ("将评论归入下列类别：{类别}", "zh", "x", "将评论归入下列类别：正面或负面"),
        ("Is the review positive, neutral or negative?", "en", "neutral", "Is the review positive or negative?"),
        ("Sort the review into good or bad.", "en", "good", "Sort the review into positive or negative."),
        ("Label the review: {labels}", "en", "x", "Label the review: positive or negative"),
    ],
)
def test_a_list_of_answers_becomes_the_tasks_labels(instruction, lang, output, expected):
    assert adapted(instruction, SENTIMENT, lang, output) == expected


@pytest.mark.parametrize(
    ("instruction", "task", "lang", "row", "why"),
    [
        ("给评论打一到五分。", SENTIMENT, "zh", {"output": "3"}, "lists no answers"),
        ("这条短信是垃圾短信吗？回答“是”或“否”。", SENTIMENT, "zh", {"output": "是"}, "about other answers"),
        ("判断说法是否符合文章，回答“是”或“否”。", QA, "zh", {"output": "否"}, "fixed answers: “是”或“否”"),
        ("把下面的台词拆成短句。", FRENCH, "zh", {}, "does not name the language"),
        (
            "Translate it into French.",
            Task("t", "", "translation", ("a",), "b"),
            "en",
            {},
            "does not say into which language",
        ),
        ("根据文章写一段法语摘要。", QA, "zh", {}, "still speaks of 法语"),
        ("用三句话回答。", QA, "zh", {}, "'三'"),
        ("Answer in 50 words.", QA, "en", {}, "'50'"),
        ("回答关于《红楼梦》的问题。", QA, "zh", {}, "'红楼梦'"),
        ("Answer with Python code.", QA, "en", {}, "'Python'"),
        ("写出{作者}的生平。", QA, "zh", {}, "slot {作者} has no field"),
        (
            "这座塔高三十米吗？",
            Task("q", "塔高几米", "qa", ("question",), "answer", demos=(Demo("x", "三十米"),)),
            "zh",
            {},
            "gives away the answer",
        ),
        ("根据文章提问并作答。", QA, "zh", {"output": "问：这座塔有多高？答：三十米。"}, "far longer"),
    ],
)
def test_what_speaks_of_something_else_is_dropped_in_words(instruction, task, lang, row, why):
    made = adapted(instruction, task, lang, **row)
    assert made.startswith("-- ") and why in made, made


@pytest.mark.parametrize(
    "piece",
    ["或", "或者还是", "A or ", "a, ", "、", "“", "{", "：{句子}", "一二三", "into ", "法语", "from French to "],
)
def test_hostile_wordings_take_no_time_to_refuse(piece):
    for task in (SENTIMENT, FRENCH, POEM):
        for lang in ("zh", "en"):
            assert adapt(Row("r", piece * (990 // len(piece)) + "x", output="或", lang=lang), task, lang)
            assert "too long" in adapt(Row("r", piece * 1001, output="或", lang=lang), task, lang)


def test_slots_are_removed_or_mapped():
    assert adapted("写一首关于{主题}的诗。", POEM) == "写一首关于{{ topic }}的诗。"
    assert adapted("Write a poem about {topic}.", POEM, "en") == "Write a poem about {{ topic }}."
    made = adapt(Row("r", "写一首关于{主题}的诗。", lang="zh"), POEM, "zh")
    assert made.input == ""  # the topic is said once
    made = adapt(Row("r", "按题目写诗：{主题}", lang="zh"), POEM, "zh")
    assert (made.instruction, made.input) == ("按题目写诗。", "{{ topic }}")
    made = adapt(Row("r", "请根据文章回答“{问题}”。", lang="zh"), QA, "zh")
    assert made.input == "文章：{{ passage }}\n问题：{{ question }}"


@settings(deadline=None)
@given(st.text(alphabet="写诗关于{}{{主题}}%# \n{%abc：\"'\ue000\ue0010", max_size=40))
def test_whatever_a_bank_says_is_text_or_a_field_and_never_code(said):
    made = adapt(Row("r", said, lang="zh"), POEM, "zh")
    if isinstance(made, Adapted):
        assert compiled(made.instruction).names <= {"topic"}
        # Characters of private use mark slots while a wording is taken apart, so none of them survives.
        text = compiled(made.instruction).render({"topic": "T"})
        assert "{%" not in text or "{%" in re.sub("[\ue000\ue001]", "", said)


def test_names_of_languages():
    assert [language("fr", lang) for lang in ("zh", "en")] == ["法语", "French"]
    assert (
        language("英文", "zh") == "英语"
        and language("zh_CN", "en") == "Chinese"
        and language("Klingon", "en") == "Klingon"
    )
    assert (code("ZH-hans"), code("中文"), code("x")) == ("zh-hans", "zh", "")
    assert [found.code for found in mentions("把中文译成繁体中文，再中译英")] == ["zh", "zh-hant", "zh", "en"]
    assert [found.code for found in mentions("polish the Polish text; 中国人说汉语")] == ["pl", "zh"]


def test_the_question_speaks_the_language_asked_for():
    assert question(SENTIMENT, "zh") == "判断评论的情感。 分类判断 正面 负面"
    assert question(SENTIMENT, "en") == "Decide how a review feels. classify positive negative"
    shown = Task("t", demos=(Demo("2+2", "4"),))
    assert question(shown, "en") == "2+2 4"


def test_the_constructor_is_registered_with_its_settings():
    plugin = registry.get("constructor", "retrieve")
    assert plugin.wants == {"task", "embedder", "here", "seed", "model"}
    usual = {"level": "adapted", "adapt": "rules", "bank": "seeds", "keep": 2, "pool": 30, "floor": 0.2, "rows": 100}
    assert registry.settle(plugin, {"keep": 2}) == usual
    assert not registry.asks(plugin, usual) and registry.asks(plugin, usual | {"adapt": "model"})
    assert not registry.asks(plugin, usual | {"adapt": "model", "level": "rows"})


def own_bank(folder, rows):
    bank = Bank.create(folder / "bank", Letters())
    bank.add(rows, licence="MIT", source="test")
    return bank


def test_every_candidate_is_accounted_for(tmp_path):
    rows = [
        {"id": "fr", "instruction": "将句子翻译成法语：{句子}", "family": "translation"},
        {"id": "es", "instruction": "将句子翻译成西班牙语：{句子}", "family": "translation"},
        {"id": "long", "instruction": "把句子翻译成法语，写满500字。", "family": "translation"},
        {"id": "poem", "instruction": "写一首诗。", "family": "poetry"},
    ]
    own_bank(tmp_path, rows)
    task = Task("to_french", "将中文句子翻译成法语。", "translation", ("句子",), "译文", langs=("zh",))
    made = called(task=task, embedder=Letters(), here=tmp_path, bank="bank")
    (kept,) = (one for one in made if isinstance(one, Template))
    assert kept.instruction == "将句子翻译成法语。" and kept.maker == "retrieve:fr" and kept.parents == ("fr",)
    assert re.fullmatch(r"keyword \d\.\d\d vector \d\.\d\d relevance \d\.\d\d", kept.why)
    lost = {one.parents[0]: one for one in made if isinstance(one, Reject)}
    assert set(lost) == {"es", "long"}  # another family's rows are not candidates
    assert all(one.state == "dropped" and one.task == "to_french" for one in lost.values())
    assert "near copy of '将句子翻译成法语" in lost["es"].why and lost["es"].text == "将句子翻译成西班牙语：{句子}"
    assert "'500'" in lost["long"].why
    assert made == called(task=task, embedder=Letters(), here=tmp_path, bank="bank")


def test_keep_pool_and_floor(tmp_path):
    own_bank(
        tmp_path, [{"instruction": f"写一首{kind}诗。", "family": "poetry"} for kind in ("好", "短", "长", "新", "古")]
    )
    made = called(task=POEM, embedder=Letters(), here=tmp_path, bank="bank", keep=2, pool=4, floor=0.0)
    assert [isinstance(one, Template) for one in made].count(True) == 2 and len(made) == 4
    assert any("not among the best 2" in one.why for one in made if isinstance(one, Reject))
    strict = called(task=POEM, embedder=Letters(), here=tmp_path, bank="bank", floor=0.99)
    assert strict and all("too far from the task" in one.why for one in strict)
    with pytest.raises(RecipeError, match="keep must lie between 1 and pool"):
        called(task=POEM, embedder=Letters(), here=tmp_path, bank="bank", keep=9, pool=3)
    with pytest.raises(DataError, match=r"manifest\.json"):
        called(task=POEM, embedder=Letters(), here=tmp_path, bank="nowhere")


# With the embedded vectors, from the shipped seeds.


@pytest.fixture(scope="module")
def use(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZHILING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Use()


@pytest.mark.model
def test_the_shipped_seeds_serve_the_usual_tasks_in_both_languages(use):
    nli = Task(
        "nli",
        "",
        "nli",
        ("premise", "hypothesis"),
        "label",
        langs=("zh", "en"),
        labels=("entailment", "neutral", "contradiction"),
    )
    short = Task(
        "short", "Summarise the news.\n概括新闻。", "summarisation", ("document",), "summary", langs=("zh", "en")
    )
    handbook = Task(
        "ask", "Answer from the text.\n根据材料回答问题。", "qa", ("passage", "question"), "answer", langs=("zh", "en")
    )
    for task in (FRENCH, ANY, SENTIMENT, nli, short, handbook):
        made = called(task=task, embedder=use, here=Path())
        kept = [one for one in made if isinstance(one, Template)]
        assert {one.lang for one in kept} == {"zh", "en"}, task.name
        assert all(sum(one.lang == lang for one in kept) <= 3 for lang in ("zh", "en"))
        fields = {
            "label": "neutral",
            **{name: "某值" for name in (*task.inputs, task.target) if name != "label"},
            "target_lang": "fr",
        }
        for one in kept:
            (row,) = fill([Record(task.name, fields)], [one], task=task, seed=1)
            assert isinstance(row, Example) and "{" not in row.instruction


@pytest.mark.model
def test_a_task_that_no_seed_knows_gets_nothing_rather_than_nonsense(use):
    odd = Task(
        "odd", "Predict the folding class of a protein sequence.", "other", ("sequence",), "fold", langs=("zh", "en")
    )
    made = called(task=odd, embedder=use, here=Path())
    assert made and all(isinstance(one, Reject) and one.why for one in made)


@pytest.mark.model
def test_retrieved_translation_instructions_come_out_in_the_target_language(use):
    bank = shipped(use)
    goals = {
        "fr": ("法语", "French"),
        "de": ("德语", "German"),
        "ja": ("日语", "Japanese"),
        "ar": ("阿拉伯语", "Arabic"),
        "ru": ("俄语", "Russian"),
    }
    right, seen = 0, 0
    for zh, en in goals.values():
        for lang, name in (("zh", zh), ("en", en)):
            said = f"把句子翻译成{zh}。" if lang == "zh" else f"Translate the sentence into {en}."
            task = Task("t", said, "translation", ("source",), "target", langs=(lang,))
            for hit in bank.search(said, 24, lang=lang, family="translation"):
                made = adapt(hit.row, task, lang)
                if isinstance(made, Adapted):
                    seen += 1
                    text = compiled(made.instruction).render({"source": ""})
                    right += name in text and {found.code for found in mentions(text)} == {code(zh)}
    assert seen >= 100
    assert right / seen >= 0.95
