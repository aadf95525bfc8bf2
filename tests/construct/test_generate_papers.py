"""What each paper's method says, and that it says it in Chinese too."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
import yaml
from scripted import Scripted, construct, last

from zhiling.construct.generate.asking import Asking, book, size, styled
from zhiling.construct.generate.backtranslate import unfit as unfit_request
from zhiling.construct.generate.checks import Leak, loops, misspoken, spoken
from zhiling.construct.generate.coverage import leaves
from zhiling.construct.generate.dialogue import grounded, refers
from zhiling.construct.generate.evol import copied, hollow
from zhiling.construct.generate.floor import code
from zhiling.construct.generate.self_instruct import known, unfit, unfit_instance
from zhiling.errors import DataError, ProviderError, RecipeError, say
from zhiling.llm import Model
from zhiling.llm.dry import dry
from zhiling.types import Example, Record, Reject, Request, Score, Task

WORDS = [
    "harbour", "lantern", "quilt", "ferry", "orchard", "kettle", "violin", "glacier", "pepper", "saddle", "compass", "walnut", "curtain", "beetle", "copper",
    "meadow", "anchor", "ribbon", "cactus", "tunnel", "whistle", "canyon", "barley", "feather", "mirror", "puddle", "rocket", "salmon", "thistle", "velvet",
]  # fmt: skip


def fresh(request: Request, lead: str = "Describe") -> str:
    """A request that no other seed gives."""
    return f"{lead} {', '.join(random.Random(request.seed).sample(WORDS, 7))}."


def examples(made) -> list[Example]:
    return [item for item in made if isinstance(item, Example)]


# --- Self-Instruct


@pytest.mark.parametrize(
    ("text", "lang", "wanted"),
    [
        ("Describe the picture below.", "en", "keyword"),
        ("Summarise the paragraph below.", "en", ""),
        ("Write a program that sorts names.", "en", "program"),
        ("Go home", "en", "length"),
        ("Explain " + "very " * 150 + "slowly.", "en", "length"),
        ("- explain how bread rises", "en", "start"),
        ("Écrire une lettre à la mairie", "en", "start"),
        ("描述下面这张图片的内容。", "zh", "keyword"),
        ("请介绍北京图书馆的历史。", "zh", ""),
        ("说明他的企图是什么。", "zh", ""),
        ("编写一个程序，把名字排序。", "zh", "program"),
        ("翻译", "zh", "length"),
        ("请" + "非常" * 160 + "慢地解释。", "zh", "length"),
        ("、解释面包为什么会发起来。", "zh", "start"),
        ("《红楼梦》的作者是谁？", "zh", ""),
        ("解释面包为什么会发起来。", "zh", ""),
        ("The Japanese are known for their elegance.", "en", "statement"),
    ],
)
def test_the_filters_on_an_instruction(text, lang, wanted):
    assert unfit(text, lang).partition(":")[0] == wanted


def test_the_filters_on_an_instance():
    assert unfit_instance("你好", "你好").startswith("same")
    assert unfit_instance("", "Here is the list:").startswith("unfinished")
    assert unfit_instance("清单如下：", "好").startswith("unfinished")
    assert unfit_instance("", "") == "" and unfit_instance("a", "b") == ""


def test_a_prompt_shows_six_of_peoples_tasks_and_two_of_the_models_own():
    def answer(request: Request) -> str:
        if request.choices:
            return "No"
        instance = {"input": "", "output": "Because people carry them."}
        return json.dumps(instance) if request.schema else fresh(request)

    provider = Scripted(answer)
    made = construct("self_instruct", provider, task=Task("t", langs=("en",)), rows=12, tries=1.0, wave=6)
    assert len(examples(made)) == 12
    seeds = set(known(Task("t", langs=("en",)), "en", None))
    shown = [
        [line.partition(": ")[2] for line in last(request).splitlines() if line.startswith("Task ")]
        for request in provider.asked
        if "Write one more task" in last(request)
    ]
    first, second = shown[:6], shown[6:]
    assert all(len(one) == 8 and set(one) <= seeds for one in first)
    assert all(len(one) == 8 and len(set(one) - seeds) == 2 for one in second)


@pytest.mark.parametrize(("lang", "yes"), [("en", "Yes"), ("zh", "是")])
def test_classification_tasks_get_their_label_first_and_others_their_input(lang, yes):
    asked = {"en": "Decide whether the message about a {} is a complaint.", "zh": "判断这条关于{}的留言是不是投诉。"}[
        lang
    ]
    things = {"en": WORDS, "zh": list("书灯船鞋琴茶")}[lang]

    def answer(request: Request) -> str:
        keys = list(request.schema["properties"]) if request.schema else []
        if not keys and not request.choices:
            return asked.format(things[request.seed % len(things)])
        if request.choices:
            return yes
        label, text = ("complaint", "It broke on the first day.") if lang == "en" else ("投诉", "第一天就坏了。")
        assert keys == ["output", "input"]
        return json.dumps({"output": label, "input": text})

    made = construct("self_instruct", Scripted(answer), task=Task("t", langs=(lang,)), rows=1, tries=1.0)
    (row,) = examples(made)
    assert row.input and row.output in ("complaint", "投诉") and row.lang == lang


def test_seeds_of_a_file_and_of_a_family(tmp_path: Path):
    (tmp_path / "seeds.jsonl").write_text(
        '{"instruction": "数一数。", "lang": "zh"}\n{"instruction": "Count them."}\n', encoding="utf-8"
    )
    task = Task("t", langs=("zh",))
    assert known(task, "zh", tmp_path / "seeds.jsonl") == ["数一数。", "Count them."]
    assert known(task, "en", tmp_path / "seeds.jsonl") == ["Count them."]
    assert 0 < len(known(Task("t", family="poetry"), "zh", None)) < len(known(task, "zh", None))
    (tmp_path / "bad.jsonl").write_text("not json\n", encoding="utf-8")
    with pytest.raises(DataError, match="bad.jsonl"):
        known(task, "zh", tmp_path / "bad.jsonl")
    with pytest.raises(RecipeError, match="no seed instructions in 'fr'"):
        known(task, "fr", None)


# --- Evol-Instruct


def test_rules_of_elimination():
    assert (
        copied("#Rewritten Prompt#\nWrite a poem.")
        and copied("更难的要求：写一首诗")
        and not copied("Write a poem about the given word.")
    )
    row = Example("t", "Say it.", output="Sorry, not now.")
    assert hollow(row).startswith("refusal")
    assert hollow(Example("t", "说。", output="抱歉，这个我做不到。")).startswith("refusal")
    assert hollow(Example("t", "Write an apology.", output='"Sorry, my dear friend!"')) == ""
    assert hollow(Example("t", "Say it.", output="And so it is, or not.")).startswith("hollow")
    assert hollow(Example("t", "说。", output="是的，也有。")).startswith("hollow")
    assert hollow(Example("t", "Say it.", output="Water boils at 100 degrees.")) == ""


def evolving(request: Request) -> str:
    if request.choices:
        return "Different"
    return (
        fresh(request)
        if ("request" in last(request) and "Write" in last(request)) or "Rewrite" in last(request)
        else "They are all made by patient people."
    )


def test_each_round_evolves_what_the_round_before_made_and_an_eliminated_child_leaves_its_parent():
    records = [Record("t", {"instruction": fresh(Request(seed=at), "Explain")}, "en", "f", at) for at in range(6)]

    def answer(request: Request) -> str:
        return "Equal" if request.choices and request.seed % 3 == 0 else evolving(request)

    provider = Scripted(answer)
    made = construct("evol", provider, task=Task("t"), records=records, rounds=3)
    assert len(made) == 18
    lost = [item for item in made if isinstance(item, Reject)]
    assert lost and {code(item) for item in lost} == {"no gain"}
    evolved = [
        last(request)
        for request in provider.asked
        if "Rewrite a request" in last(request) or "Write one new request" in last(request)
    ]
    children = {row.instruction for row in examples(made)}
    assert (
        sum(any(child in prompt for child in children) for prompt in evolved) >= 4
    )  # rounds two and three start from children
    deep = [row for row in examples(made) if len(row.parents) > 3]
    assert deep and all(row.parents[0] in {record.id for record in records} for row in examples(made))


def test_every_method_is_used_and_one_can_be_chosen():
    records = [Record("t", {"instruction": fresh(Request(seed=at), "Explain")}, "en", "f", at) for at in range(60)]
    provider = Scripted(evolving)
    construct("evol", provider, task=Task("t"), records=records, rounds=1)
    prompts = "\n".join(last(request) for request in provider.asked)
    methods = book("evol").more["methods"]["en"]
    assert all(words in prompts for words in methods.values()) and "asked for less often" in prompts
    provider = Scripted(evolving)
    construct("evol", provider, task=Task("t"), records=records[:5], rounds=1, methods=["reasoning"])
    asked = [last(request) for request in provider.asked if "Rewrite a request" in last(request)]
    assert len(asked) == 5 and all(methods["reasoning"] in prompt for prompt in asked)
    with pytest.raises(RecipeError, match="unknown method 'harder'"):
        construct("evol", provider, task=Task("t"), records=records, methods=["harder"])


def test_a_record_without_an_instruction_is_a_reject_with_its_place():
    records = [Record("t", {"instruction": " "}, "en", "a.csv", 7)]
    (item,) = construct("evol", Scripted(evolving), task=Task("t"), records=records)
    assert item.where == "a.csv:7" and code(item) == "empty"


@pytest.mark.parametrize(
    ("name", "setting"),
    [("evol", "field"), ("backtranslate", "field"), ("dialogue", "document"), ("dialogue", "persona")],
)
def test_a_field_that_the_data_do_not_have_is_the_recipes_mistake(name, setting):
    records = [Record("t", {"问题": "为什么天是蓝的？"}, "zh", "a.csv", 2)]
    with pytest.raises(
        RecipeError, match=rf"construct\.{name}\.{setting}: the data have no field 'qestion' — there are: 问题"
    ):
        construct(name, Scripted(evolving), task=Task("t"), records=records, **{setting: "qestion"})


# --- Magpie


def test_the_prefix_is_the_models_own_template_and_says_the_language():
    def answer(request: Request) -> str:
        return fresh(request, "Tell me") if request.prompt else "They were all sold at the same market."

    provider = Scripted(answer, "Qwen2.5-7B-Instruct")
    made = construct("magpie", provider, task=Task("t", "Questions about markets.", langs=("en",)), rows=3)
    assert len(examples(made)) == 3
    prefixes = {request.prompt for request in provider.asked if request.prompt}
    (prefix,) = prefixes
    assert (
        prefix.startswith("<|im_start|>system\n")
        and prefix.endswith("<|im_end|>\n<|im_start|>user\n")
        and "Questions about markets." in prefix
    )
    assert all(request.stop == ("<|im_end|>",) for request in provider.asked if request.prompt)
    provider = Scripted(answer, "Meta-Llama-3-8B")
    construct("magpie", provider, task=Task("t", langs=("zh",)), rows=1, floor=0.0, tries=1.0)
    assert "用中文" in provider.asked[0].prompt and provider.asked[0].prompt.endswith(
        "<|start_header_id|>user<|end_header_id|>\n\n"
    )


def test_a_template_nobody_knows_and_a_provider_without_bare_prompts():
    with pytest.raises(RecipeError, match="no chat template known for 'mystery'"):
        construct("magpie", Scripted(fresh, "mystery"), task=Task("t"), rows=1)
    with pytest.raises(RecipeError, match="unknown chat template 'chatlm'"):
        construct("magpie", Scripted(fresh), task=Task("t"), rows=1, template="chatlm")
    with pytest.raises(ProviderError, match="complete"):
        construct("magpie", Scripted(fresh, without=("complete",)), task=Task("t"), rows=1, template="chatml")


# --- back-translation


def test_only_the_best_mark_is_kept_and_the_text_stays_as_it_is():
    texts = [
        f"Soak the {word} overnight, then keep it warm and turn it twice a day until it is done." for word in WORDS[:10]
    ]
    records = [Record("t", {"output": text}, "en", "f", at) for at, text in enumerate(texts)]

    def answer(request: Request) -> str:
        return (
            ("5" if request.seed % 2 else "4")
            if request.choices
            else f"Explain how to prepare a {last(request).partition('Soak the ')[2].split()[0]}."
        )

    made = construct("backtranslate", Scripted(answer), task=Task("t"), records=records)
    kept = examples(made)
    assert 0 < len(kept) < 10 and all(row.output in texts for row in kept)
    assert {code(item) for item in made if isinstance(item, Reject)} == {"curation"}
    assert len(examples(construct("backtranslate", Scripted(answer), task=Task("t"), records=records, least=4))) == 10
    short = construct(
        "backtranslate", Scripted(answer), task=Task("t"), records=[Record("t", {"output": "Hi."}, "en", "f", 1)]
    )
    assert code(short[0]) == "length" and short[0].where == "f:1"


def test_a_request_that_quotes_its_answer_gives_it_away():
    text = "白鹭站在浅水里一动不动，池塘仿佛忘记了它的存在，连风也绕着走。"
    assert unfit_request("写一句话，说白鹭站在浅水里一动不动，池塘仿佛忘记了它的存在。", text, "zh").startswith(
        "gives away"
    )
    assert unfit_request("写一句描写水边鸟儿的诗意句子。", text, "zh") == ""
    english = "The heron stood so still that the pond forgot it was there."
    assert unfit_request("Say that the heron stood so still that the pond forgot it.", english, "en").startswith(
        "gives away"
    )


# --- coverage


def test_topics_get_equal_shares_and_people_take_turns(tmp_path: Path):
    (tmp_path / "tree.yaml").write_text(
        yaml.safe_dump(
            {"food": {"bread": ["sourdough", "flatbread"], "soup": None}, "工具": ["锤子"]}, allow_unicode=True
        ),
        encoding="utf-8",
    )
    (tmp_path / "people.txt").write_text("a night nurse\na retired pilot\n一位木匠\n", encoding="utf-8")
    assert leaves(tmp_path / "tree.yaml") == [
        "food > bread > sourdough",
        "food > bread > flatbread",
        "food > soup",
        "工具 > 锤子",
    ]
    topics = []

    def answer(request: Request) -> str:
        said = last(request)
        if "Topic: " in said:
            topics.append((said.partition("Topic: ")[2].splitlines()[0], said.partition("Person: ")[2].splitlines()[0]))
            return fresh(request)
        return "They all keep well in a cool place."

    settings = {"taxonomy": "tree.yaml", "personas": "people.txt", "here": tmp_path}
    made = construct("coverage", Scripted(answer), task=Task("t", langs=("en",)), rows=12, tries=1.0, **settings)
    assert len(examples(made)) == 12
    counts = {topic: sum(one == topic for one, _ in topics) for topic, _ in topics}
    assert counts == {"food > bread > sourdough": 4, "food > bread > flatbread": 4, "food > soup": 4}
    assert {person for _, person in topics} == {"a night nurse", "a retired pilot"}
    with pytest.raises(RecipeError, match="nothing in 'fr'|no prompt"):
        construct("coverage", Scripted(answer), task=Task("t", langs=("fr",)), rows=1, **settings)
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="no leaves"):
        construct("coverage", Scripted(answer), task=Task("t"), rows=1, taxonomy="empty.yaml", here=tmp_path)
    with pytest.raises(DataError, match="nowhere.txt"):
        construct("coverage", Scripted(answer), task=Task("t"), rows=1, **{**settings, "personas": "nowhere.txt"})


# --- dialogue


def test_a_follow_up_takes_up_the_talk():
    talk = [("user", "Which tomato does well in a pot?"), ("assistant", "A cherry tomato, with six hours of sun.")]
    assert refers("And what if it only gets four?", talk) == "" and refers("How many cherry plants fit?", talk) == ""
    assert refers("Who won the chess final?", talk).startswith("reference")
    assert refers("Who won the chess final?", []) == ""
    chinese = [("user", "花盆里种哪种番茄好？"), ("assistant", "小樱桃番茄，每天晒六小时。")]
    assert refers("那只有四个小时呢？", chinese) == "" and refers("樱桃番茄多久浇一次水？", chinese) == ""
    assert refers("谁赢了象棋决赛？", chinese).startswith("reference")


def test_an_answer_over_a_document_stands_in_it():
    document = "The library opens at 9 and closes at 18. Late books cost ten cents a day."
    assert grounded("It opens at 9 and closes at 18.", document, "When does it open?") == ""
    assert grounded("The document does not say.", document, "Who runs it?") == ""
    assert grounded("It opens at 8.", document, "When does the library open?").startswith("grounded")
    assert grounded("Cats adore warm cushions beside glowing fireplaces.", document, "Tell me.").startswith("grounded")
    chinese = "图书馆九点开门，十八点关门。逾期每天收费一角。"
    assert (
        grounded("图书馆九点开门。", chinese, "几点开门？") == ""
        and grounded("文档中没有提到。", chinese, "谁管？") == ""
    )
    assert grounded("猫喜欢温暖的垫子和壁炉。", chinese, "说说？").startswith("grounded")


def test_roles_alternate_the_document_is_the_system_turn_and_a_bad_turn_ends_the_talk_before_it():
    document = "The library opens at 9 and closes at 18. Late books cost ten cents a day, five dollars at most."
    records = [
        Record("t", {"subject": f"the library near the {word}", "text": document}, "en", "f", at)
        for at, word in enumerate(WORDS[:8])
    ]

    def answer(request: Request) -> str:
        said = last(request)
        if request.messages[0][0] == "system":
            turns = sum(role == "user" for role, _ in request.messages)
            return (
                "It opens in 1999 for sure."
                if turns == 3 and request.seed % 2
                else ("The library opens at 9.", "Late books cost ten cents a day.", "It closes at 18.")[turns - 1]
            )
        if "first message" in said:
            return "When does the library open in the morning?"
        return "And what does that cost for late books?" if "cents" not in said else "Then when does it close?"

    made = construct(
        "dialogue",
        Scripted(answer),
        task=Task("t", inputs=("subject",)),
        records=records,
        document="text",
        repair=False,
    )
    rows = examples(made)
    assert len(rows) == 8 and {len(row.history) for row in rows} == {2, 4}
    for row in rows:
        roles = [role for role, _ in row.history]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert document in row.system and "1999" not in row.output
    lost = construct(
        "dialogue",
        Scripted(answer),
        task=Task("t", inputs=("subject",)),
        records=records,
        document="text",
        least=3,
        repair=False,
    )
    assert {code(item) for item in lost if isinstance(item, Reject)} == {"grounded"} and 0 < len(examples(lost)) < 8
    (item,) = construct(
        "dialogue", Scripted(answer), task=Task("t"), records=[Record("t", {"text": ""}, "en", "f", 3)], document="text"
    )
    assert item.where == "f:3" and code(item) == "empty"


# --- what they share


def test_loops_leaks_and_the_assistants_voice_in_both_languages():
    assert loops("I like it here. I like it here. I like it here.").startswith("repeat")
    assert loops("我很喜欢这里。我很喜欢这里。我很喜欢这里。").startswith("repeat")
    assert loops("很" * 60).startswith("repeat")
    assert loops("Row, row, row your boat gently down the stream. Merrily we go along, and life is but a dream.") == ""
    assert loops("写一首诗。诗要押韵。诗要有秋天。再写一个标题。") == ""
    for lang, copied_text in (
        ("en", "Add ten to twenty words at most, and keep whatever text or data the request brings."),
        ("zh", "能独立成立，并且只用文字就能回答。"),
    ):
        leak = Leak(book("evol").texts(lang), lang)
        assert leak.why(copied_text).startswith("leak")
        assert leak.why("Explain how tides work.") == "" and leak.why("请解释潮汐的成因。") == ""
    assert misspoken("Sure! Here you go").startswith("assistant") and misspoken("好的，下面是一个新任务").startswith(
        "assistant"
    )
    assert (
        misspoken("Sort the list:").startswith("unfinished")
        and misspoken("How can I fix my bike?") == ""
        and misspoken("请帮我修车。") == ""
    )
    assert (
        spoken("Explain it.", "zh").startswith("language")
        and spoken("解释它。", "en").startswith("language")
        and spoken("42", "zh") == ""
    )


@pytest.mark.parametrize(
    ("label", "billions", "style"),
    [
        ("SmolLM2-135M-Instruct.Q4_1", 0.135, "small"), ("Qwen2.5-1.5B-Instruct", 1.5, "small"), ("Qwen2.5-72B", 72.0, "large"), ("gemma-3-270m-it", 0.27, "small"),
        ("Mixtral-8x7B", 7.0, "large"), ("llama3.1:8b", 8.0, "large"), ("gpt-4o-mini", None, "large"), ("deepseek-chat", None, "large"), ("glm-4-9b-chat", 9.0, "large"),
    ],
)  # fmt: skip
def test_the_style_goes_by_the_models_size(label, billions, style):
    assert size(label) == billions
    model = Model(Scripted(fresh, label))
    assert styled(model, "auto") == style and styled(model, "small") == "small" and styled(model, "large") == "large"


def test_a_model_on_this_machine_of_unknown_size_is_asked_as_a_small_one():
    provider = Scripted(fresh, "mine")
    provider.name = "gguf"
    assert styled(Model(provider), "auto") == "small"


def test_a_small_model_is_held_to_a_form_only_where_it_can_be():
    task, prompts = Task("t"), book("self_instruct")
    for without, style, held in (((), "small", True), (("schema",), "small", False), (("schema",), "large", False)):
        asking = Asking(task, Model(Scripted(fresh, without=without)), prompts, "en", style, 1)
        prompt = prompts.find("input_first", "en", style)
        assert (asking.request(prompt, prompt.turns, "x").schema is not None) == held


def test_every_shipped_prompt_is_there_in_both_languages_and_styles():
    for name in ("self_instruct", "evol", "magpie", "backtranslate", "coverage", "dialogue", "repair"):
        found = book(name)
        assert found.version >= 1 and "arXiv:" in found.paper
        for step in {prompt.id for prompt in found.prompts}:
            slots = {found.find(step, lang, style).slots for lang in ("en", "zh") for style in ("small", "large")}
            for style in ("small", "large"):
                assert found.find(step, "en", style).slots == found.find(step, "zh", style).slots, (name, step, style)
            assert slots


def test_a_recipes_own_prompts_take_the_shipped_ones_places(tmp_path: Path):
    own = {"version": 9, "prompts": [{"id": "propose", "lang": "zh", "turns": [{"user": "请出题：{examples}"}]}]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own, allow_unicode=True), encoding="utf-8")
    found = book("self_instruct", "own.yaml", tmp_path)
    assert found.version == 9 and found.find("propose", "zh", "small").turns == (("user", "请出题：{examples}"),)
    assert found.find("propose", "en", "large") == book("self_instruct").find("propose", "en", "large")
    assert found.find("propose", "zh", "large").filled({"examples": "{about}"}) == (("user", "请出题：{about}"),)
    for bad, message in (
        ({"id": "propose", "lang": "en", "turns": [{"user": "{exmples}"}]}, r"\{exmples\}"),
        ({"id": "invent", "lang": "en", "turns": [{"user": "x"}]}, "no step"),
        ({"id": "propose", "lang": "en", "turns": [{"robot": "x"}]}, "no role"),
        ({"id": "propose", "lang": "en"}, "no file of prompts"),
    ):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump({"prompts": [bad]}), encoding="utf-8")
        with pytest.raises(RecipeError, match=message):
            book("self_instruct", "bad.yaml", tmp_path)


@pytest.mark.parametrize("name", ["self_instruct", "magpie", "coverage", "evol", "backtranslate", "dialogue"])
def test_a_plan_can_count_its_calls_without_asking(name):
    from scripted import unverified

    from zhiling import registry, steps

    asked: dict[str, Request] = {}
    plugin = registry.get("constructor", name)
    given = {"rows": 20} if name in ("self_instruct", "magpie", "coverage") else {}
    settings = registry.settle(plugin, {**given, **({"template": "chatml"} if name == "magpie" else {})})
    task = Task("t", "日常问题\neveryday questions", inputs=("topic",), langs=("zh", "en"))
    records = [
        Record(
            "t",
            {
                "instruction": fresh(Request(seed=at)),
                "topic": WORDS[at],
                "output": f"A text about {WORDS[at]} of some length.",
            },
            "en",
        )
        for at in range(20)
    ]
    hand = {
        "task": task,
        "records": records,
        "scorers": steps.Scorers({}, lambda step: {}),
        "verify": unverified,
        "seed": 1,
        "here": Path(),
        "model": dry(Model(Scripted(fresh)), asked),
    }
    asyncio.run(steps.propose(name, settings, hand))
    most = plugin.facts["calls"](settings, task) * (1 if plugin.facts["over"] == "task" else len(records))
    assert 0 < len(asked) <= most and plugin.facts["ready"](settings, task) >= 1


def test_a_refusal_where_json_was_asked_for_is_called_a_refusal():
    """Without constrained decoding a model declines in prose: that is no fault of form."""

    def answer(request: Request) -> str:
        if request.choices:
            return "No"
        asked = last(request)
        return (
            fresh(request)
            if "Write one more task" in asked
            else "Sorry, but I can't help with that request."
            if request.seed % 2
            else "Wool, cork."
        )

    made = construct(
        "self_instruct",
        Scripted(answer, without=("schema",)),
        task=Task("t", langs=("en",)),
        rows=12,
        tries=1.0,
        floor=0.0,
    )
    assert {code(item) for item in made} == {"refusal", "form"} and not examples(made)


def test_the_repair_prompts_are_not_to_come_back_either():
    prompt = next(prompt for prompt in book("repair").prompts if (prompt.lang, prompt.style) == ("en", "large"))

    async def verify(rows):
        from zhiling.types import Score

        return [Score(row.id, "verify", 0.0, "shape: wrong") for row in rows]

    def answer(request: Request) -> str:
        if request.prompt is not None:
            return fresh(request)
        return (
            prompt.turns[0][1].splitlines()[0]
            if "Fault that was found" in last(request)
            else "They were all sold at the same market."
        )

    made = construct(
        "magpie", Scripted(answer), task=Task("t"), rows=3, tries=1.0, template="chatml", floor=0.0, verify=verify
    )
    assert {code(item) for item in made} == {"leak"} and all(item.maker.endswith("+repair") for item in made)


def test_a_repair_sees_all_that_the_answer_stood_on_and_the_reason_in_the_prompts_language(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "en")
    document = "图书馆九点开门，十八点关门。逾期每天收费一角，最多收五元。"

    def answer(request: Request) -> str:
        said = last(request)
        if "未通过的回答" in said:
            return "图书馆九点开门。"
        return "图书馆8点开门，欢迎光临。" if request.messages[0][0] == "system" else "图书馆几点开门？"

    provider = Scripted(answer)
    records = [Record("t", {"subject": "图书馆", "text": document, "who": "一名学生"}, "zh", "f", 1)]
    (row,) = construct(
        "dialogue",
        provider,
        task=Task("t", inputs=("subject",)),
        records=records,
        document="text",
        persona="who",
        turns=1,
    )
    assert isinstance(row, Example) and row.maker == "dialogue:scripted-70b+repair" and row.output == "图书馆九点开门。"
    (back,) = [last(request) for request in provider.asked if "未通过的回答" in last(request)]
    assert document in back and "8点" in back and "有些内容不见于文档。" in back and "number" not in back
    assert "你是这样一个人：一名学生" in last(provider.asked[0])


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_a_verifiers_reason_is_told_to_the_model_in_the_prompts_language_whoever_the_user_is(monkeypatch, locale):
    monkeypatch.setenv("ZHILING_LANG", locale)

    async def verify(rows):
        return [Score(row.id, "verify", 0.0, "shape: " + say("five lines are wanted", "应为五行")) for row in rows]

    def answer(request: Request) -> str:
        if request.prompt is not None:
            return fresh(request)
        return "They were all sold at the same market."

    provider = Scripted(answer)
    construct("magpie", provider, task=Task("t"), rows=1, tries=1.0, template="chatml", floor=0.0, verify=verify)
    told = [last(request) for request in provider.asked if request.prompt is None and "wanted" in last(request)]
    assert told and not any("应为" in last(request) for request in provider.asked if request.prompt is None)
    assert say("a", "b") == ("b" if locale == "zh" else "a")  # the user's own language is back


def test_a_list_in_a_json_reply_becomes_lines_and_not_a_programs_notation():
    def answer(request: Request) -> str:
        if request.choices:
            return "No"
        instance = json.dumps({"input": {"a": 1}, "output": ["Wool", "cork"]})
        return fresh(request) if "Write one more task" in last(request) else instance

    made = construct("self_instruct", Scripted(answer, without=("schema",)), task=Task("t", langs=("en",)), rows=1)
    (row,) = examples(made)
    assert row.output == "Wool\ncork" and row.input == '{"a": 1}'


def test_a_repair_that_only_repeats_the_reason_is_a_leak():
    def answer(request: Request) -> str:
        if request.prompt is not None:
            return fresh(request, "Tell me about")
        return (
            "It declines." if "Fault that was found" in last(request) else "Sorry, but I can't help with that request."
        )

    made = construct("magpie", Scripted(answer), task=Task("t"), rows=2, tries=1.0, template="chatml", floor=0.0)
    assert [item.why.partition(":")[0] for item in made] == ["leak", "leak"]
