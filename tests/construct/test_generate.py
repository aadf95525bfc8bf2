"""Generation: proposed, filtered, judged, the best kept, and every loser says why."""

import asyncio

import pytest

from zhiling.construct.generate import instructions as room
from zhiling.construct.generate.instructions import Candidate, generate, judge, requests, tidy, unfit
from zhiling.construct.generate.reflect import betterments
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import open_model
from zhiling.types import Demo, Reject, Score, Task, Template

MOOD = Task(
    "mood", "Decide whether a review is positive or negative.\n判断评论是正面还是负面。", "classification", ("text",), "label",
    "Answer positive or negative.\n只答一个词。", ("en",), ("positive", "negative"), (Demo("The soup was cold and the waiter rude.", "negative"),),
)  # fmt: skip


def scorers(**values):
    """Stand-ins that give each instruction the value of the first key it contains, or abstain."""

    def make(name):
        async def score(rows):
            out = []
            for row in rows:
                found = next((v for key, v in values.items() if key in row.instruction), None)
                out.append(Score(row.id, name, found, "" if found is not None else "cannot tell"))
            return out

        return score

    return {name: make(name) for name in ("grammar", "clarity", "relevance")}


@pytest.fixture(autouse=True)
def unit_scores(monkeypatch):
    monkeypatch.setattr(room, "unit", lambda score: score.value)  # the stand-ins' values are in [0, 1], higher better


def go(script, task=MOOD, marks=None, **more):
    model = open_model({"provider": "fake", "script": script}, cache=None)
    settings = {"seed": 3, "candidates": 8, "keep": 2, **more}
    return asyncio.run(generate(task=task, model=model, scorers=scorers(**(marks or {})), **settings))


def test_the_best_are_kept_and_losers_keep_their_scores():
    lines = [
        "Read the review and judge its tone.",
        "Weigh the praise against the complaints in the text.",
        "Bake a cake with three eggs and milk.",
    ]
    made = go(lines, marks={"judge": 0.9, "praise": 0.8, "cake": 0.4}, candidates=24)
    kept = [item for item in made if isinstance(item, Template)]
    assert [item.instruction.split(".")[0] for item in kept] == [line[:-1] for line in lines[:2]]
    assert all("positive or negative" in item.instruction for item in kept)  # what the answer looks like is said
    assert kept[0].maker.startswith("generate:") and kept[0].parents and "quality 0.90" in kept[0].why
    losers = [item for item in made if isinstance(item, Reject) and "cake" in item.text]
    assert any("quality 0.40, place 3" in item.why and "relevance 0.4" in item.why for item in losers)
    assert len(made) == 24


def test_what_cannot_be_scored_is_not_kept():
    made = go(["Do the thing that the task asks for."], marks={})
    assert not [item for item in made if isinstance(item, Template)]
    assert any("quality -" in item.why for item in made)


def test_below_the_floor_nothing_is_kept():
    made = go(["Do the thing that the task asks for."], marks={"thing": 0.2}, floor=0.3)
    assert not [item for item in made if isinstance(item, Template)]


def test_a_failed_reply_is_failed_not_dropped():
    model = open_model({"provider": "fake", "fail": {"refused": 1.0}}, cache=None)
    made = asyncio.run(generate(task=MOOD, model=model, scorers=scorers(), seed=3, candidates=3))
    assert [item.state for item in made] == ["failed"] * 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Judge.", "too short"), ("word " * 90, "too long"), ("判断这条评论的情感倾向。", "not in the language"), ("Judge the {text} given.", "unfilled slot"),
        ("Say that it is negative, please.", "leaks one answer"), ("Translate: The soup was cold and the waiter rude.", "repeats an example"),
        ("Decide whether the text is positive or negative.", ""),
    ],
)  # fmt: skip
def test_unfit_candidates_say_why(text, why):
    said = unfit(Candidate(text, "en", "p", "k"), MOOD, [])
    assert (why in said) if why else said == ""


def test_copies_of_an_earlier_candidate_are_unfit():
    first = Candidate("Decide whether the review is kind or harsh.", "en", "p", "k")
    again = Candidate("Decide whether the review is kind or harsh!", "en", "p", "k")
    assert "nearly equal" in unfit(again, MOOD, [first])


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("Instruction: Judge the tone.\nMore.", "Judge the tone."), ("1. Judge the tone.", "Judge the tone."), ('"Judge the tone."', "Judge the tone."),
        ("\n\n- Judge it.", "Judge it."), ("指令：判断情感。", "判断情感。"), ("“判断情感。”", "判断情感。"), ("", ""),
    ],
)  # fmt: skip
def test_tidy_takes_the_instruction_alone(reply, text):
    assert tidy(reply) == text


def test_requests_are_repeatable_and_apart():
    asked = requests(MOOD, "en", 6, 7, 0.6, 64)
    assert asked == requests(MOOD, "en", 6, 7, 0.6, 64)
    assert len({request.key("m") for _, request in asked}) == 6 and len({request.seed for _, request in asked}) == 6
    assert "判断" not in str(asked)  # the English prompts carry the English description
    chinese = requests(MOOD, "zh", 3, 7, 0.6, 64)
    assert "Decide whether a review" not in str(chinese) and "判断评论是正面还是负面" in str(chinese)


def test_base_models_are_asked_with_a_bare_prompt():
    for _, request in requests(MOOD, "en", 3, 7, 0.6, 64, chat=False):
        assert request.prompt is not None and not request.messages


def test_a_task_that_says_nothing_cannot_be_asked_about():
    with pytest.raises(RecipeError, match="nothing to ask a model from"):
        requests(Task("t"), "en", 3, 7, 0.6, 64)


def test_judging_does_not_depend_on_order():
    pool = [Candidate(text, "en", "p", "k") for text in ("Weigh it well.", "Judge the tone.", "Bake a cake.")]
    marks = scorers(Weigh=0.5, Judge=0.5, Bake=0.1)
    one = asyncio.run(judge(pool, MOOD, marks))
    other = asyncio.run(judge(pool[::-1], MOOD, marks))
    assert [c.text for c in one] == [c.text for c in other] == ["Judge the tone.", "Weigh it well.", "Bake a cake."]


def test_a_judge_that_no_model_can_be_is_left_out_unless_it_was_asked_for():
    """Most hosted models cannot say how likely a given text is; they can propose all the same."""
    model = open_model({"provider": "fake", "script": ["Read the review and judge its tone."]}, cache=None)
    hand = scorers(judge=0.9)

    async def clarity(rows):
        raise ProviderError("it cannot", kind="capability")

    hand["clarity"] = clarity

    def made(**more):
        way = {"seed": 3, "candidates": 2, "keep": 1, **more}
        return asyncio.run(generate(task=MOOD, model=model, scorers=hand, **way))

    (kept,) = [item for item in made() if isinstance(item, Template)]
    assert "relevance 0.9" in kept.why and "clarity" not in kept.why
    assert room.judges({"weights": None}) == [] and room.judges({"weights": {"clarity": 1.0}}) == ["clarity"]
    with pytest.raises(ProviderError, match="it cannot"):
        made(weights={"clarity": 1.0})


def test_backward_fills_the_gap_and_large_models_get_a_rubric():
    small = dict(requests(MOOD, "en", 8, 7, 0.6, 64))
    assert set(small) == {"from_description", "paraphrase", "from_demos", "backward"}
    assert "____" in small["backward"].messages[0][1] and len(small["backward"].messages) > 1
    large = dict(requests(MOOD, "zh", 8, 7, 0.6, 64, style="large"))
    assert set(large) == set(small) and all(len(one.messages) == 1 and one.max_tokens >= 160 for one in large.values())
    assert "The soup was cold" in large["backward"].messages[0][1] and "{demos}" not in str(large)


def test_each_draw_shows_other_demos_where_there_are_many():
    many = Task("t", "", demos=tuple(Demo(f"word {n}", f"answer {n}") for n in range(9)))
    asked = requests(many, "en", 12, 7, 0.6, 64)
    shown = [request.messages[-1][1] for name, request in asked if name == "from_demos"]
    assert len(set(shown)) > 3 and all(one.count("Input: ") == 3 for one in shown)


@pytest.mark.parametrize(
    ("text", "code", "task", "why"),
    [
        ("Say Nairobi for the country given.", "en", Task("t", "", demos=(Demo("Kenya", "Nairobi"),)), "gives away"),
        ("Name the capital of the country.", "en", Task("t", "", demos=(Demo("Kenya", "Nairobi"),)), ""),
        ("写出内罗毕这样的首都名。", "zh", Task("t", "", demos=(Demo("肯尼亚", "内罗毕"),)), "gives away"),
        ("Answer with a number, such as the sum.", "en", Task("t", "", demos=(Demo("1 2", "3"),)), ""),
        ("Translate the words into French now.", "en", Task("t", "Into French.", demos=(Demo("Which language?", "French"),)), ""),
    ],
)  # fmt: skip
def test_an_answer_that_is_given_away_makes_unfit(text, code, task, why):
    said = unfit(Candidate(text, code, "p", "k"), task, [])
    assert (why in said) if why else said == ""


def test_betterments_show_mistakes_and_what_was_tried():
    wrong = [(f"input {n}", f"right {n}", f"said {n}") for n in range(4)]
    tried = [("Do it well.", 40.0), ("Do it.", 3.0)]
    how = {"lang": "en", "seed": 1, "chat": True, "style": "small", "temperature": 0.7}
    asked = betterments("Do it well.", wrong, tried, count=6, **how)
    assert [name for name, _ in asked] == ["reflect", "improve"] * 3 and len({one.key("m") for _, one in asked}) == 6
    shown = asked[0][1].messages[-1][1]
    assert "Do it well." in shown and "right 0" in shown and "said 2" in shown and "input 3" not in shown
    history = asked[1][1].messages[-1][1]
    assert history.index("Do it.") < history.index("Do it well.")  # the worst first
    assert "input 3" in asked[2][1].messages[-1][1]  # another draw looks at others
    assert [name for name, _ in betterments("Do it.", [], tried, count=2, **how)] == ["improve", "improve"]
    assert betterments("Do it.", [], tried[:1], count=2, **how) == []
    chinese = betterments("照做。", wrong, tried, count=2, **{**how, "lang": "zh", "style": "large"})
    assert "得到的回答" in chinese[0][1].messages[-1][1] and chinese[0][1].max_tokens >= 160


def test_a_base_model_is_shown_mistakes_too():
    how = {"lang": "en", "seed": 1, "chat": False, "style": "small", "temperature": 0.7}
    ((_, request),) = betterments("Do it.", [("a", "b", "")], [], count=1, **how)
    assert (
        request.prompt
        and request.prompt.endswith("Better instruction:\n")
        and "Answer given" not in request.prompt.rsplit("Do it.", 1)[1]
    )


def test_slots_are_filled_in_one_pass():
    tricky = Task("t", "Count {demos} in the text.", demos=(Demo("{seed}", "1"),))
    shown = dict(requests(tricky, "en", 4, 7, 0.6, 64))
    assert (
        "Count {demos} in the text." in shown["paraphrase"].messages[-1][1]
        and "Input: {seed}" in shown["from_demos"].messages[-1][1]
    )


def test_a_recipes_own_prompts_take_the_place_of_the_shipped_ones(tmp_path):
    said = "prompts: [{id: from_description, lang: en, turns: [{user: 'Put it in words of mine: {seed}'}]}]"
    (tmp_path / "mine.yaml").write_text(said, encoding="utf-8")
    script = {"words of mine": "Weigh the praise against the complaints."}
    made = go(script, marks={"praise": 0.9}, here=tmp_path, prompts="mine.yaml", style="small")
    assert any(isinstance(item, Template) and "praise" in item.instruction for item in made)
