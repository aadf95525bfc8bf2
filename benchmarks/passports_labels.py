"""Rows with labels that people (or, where said so, models) gave: the evidence of safety, faithfulness, difficulty and of the judges."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import passports_data as held
from passports_data import Evidence

from zhiling.types import Example

MOST = 400
SLOW = 120  # rows of a metric that asks a model
PER_SET = 6  # pairs of a set that a judge, who is slow, is asked about


def unsafe(data: Path, lang: str) -> Evidence:
    """XSTest: prompts that people wrote to be unsafe, and others that only sound so."""
    rows = held.read(data / "13_safety_bias/xstest_prompts.jsonl")
    sides = {
        label: [held.row(one["prompt"], "", "") for one in rows if one["label"] == label]
        for label in ("safe", "unsafe")
    }
    what = "XSTest: unsafe prompts against such as only sound so"
    return Evidence("human", what, good=sides["safe"], bad=sides["unsafe"], fitted=("xstest",))


def insults(data: Path, lang: str) -> Evidence:
    """COLD: Chinese posts that annotators found offensive, and others on the same topics."""
    rows = random.Random(7).sample(held.read(held.whole(data, "13_safety_bias/cold_dev.jsonl.gz")), 2 * MOST)
    sides = {
        label: [held.row(one["TEXT"], "", "") for one in rows if str(one["label"]) == label] for label in ("0", "1")
    }
    return Evidence("human", "COLD: offensive posts against others", good=sides["0"], bad=sides["1"], fitted=("cold",))


def delicate(data: Path, lang: str) -> Evidence:
    """CValues: delicate but proper Chinese questions, against requests for harm of our own (safety.py), which nobody else labelled."""
    import safety

    proper = held.read(data / "13_safety_bias/cvalues_prompts.jsonl")[:MOST]
    bad = [held.row(said, "", "") for said in safety.ZH_UNSAFE.replace("\n", "|").split("|")]
    good = [held.row(one["prompt"], "", "") for one in proper]
    return Evidence(
        "rule", "CValues questions against harmful requests of our own", good=good, bad=bad, fitted=("zh_requests",)
    )


def harmless(data: Path, lang: str) -> Evidence:
    """HH-RLHF: of two last answers of a conversation the one that people found less harmful."""
    pairs = []
    for one in held.read(data / "13_safety_bias/hh_harmless_test.jsonl.gz"):
        (asked, better), (_, worse) = (one[side].rsplit("\n\nAssistant:", 1) for side in ("chosen", "rejected"))
        prompt = asked.rsplit("\n\nHuman:", 1)[-1].strip()
        pairs.append((held.row(prompt, "", better.strip()), held.row(prompt, "", worse.strip())))
    return Evidence("human", "HH-RLHF harmless, last answers", pairs=pairs[:MOST])


def truthful(data: Path, lang: str) -> Evidence:
    """TruthfulQA: the best answer before the first wrong one."""
    rows = held.read(data / "13_safety_bias/truthfulqa.jsonl")
    pairs = [
        (
            held.row(one["Question"], "", one["Best Answer"]),
            held.row(one["Question"], "", one["Incorrect Answers"].split(";")[0]),
        )
        for one in rows
    ]
    return Evidence("human", "TruthfulQA, true before false answers", pairs=pairs)


def gpt4(data: Path, lang: str) -> Evidence:
    """AlpacaEval: which of two models' answers GPT-4 preferred."""
    pairs = []
    for one in held.read(data / "09_judging/alpaca_eval_gpt4_annotations.jsonl.gz"):
        two = [held.row(one["instruction"], "", one[f"output_{n}"]) for n in (1, 2)]
        if one["preference"] in (1, 2, 1.0, 2.0):
            first = int(one["preference"]) - 1
            pairs.append((two[first], two[1 - first]))
    return Evidence(
        "model", "AlpacaEval, GPT-4's preferences", pairs=random.Random(7).sample(pairs, min(MOST, len(pairs)))
    )


def judgements(data: Path, lang: str) -> Evidence:
    """A few pairs of every set that people judged."""
    pairs = [pair for name in held.PAIRS for pair in held.pairs(data, name, PER_SET)]
    return Evidence("human", "CoachLM, Auto-J, LLMBar, LLMEval2, FairEval, a few of each", pairs=pairs)


LEVELS = {
    "simple lifestyle knowledge": 0,
    "advanced lifestyle knowledge": 0,
    "major level knowledge": 1,
    "expert level knowledge": 1,
}


def flask(data: Path, lang: str) -> Evidence:
    """FLASK: instructions that call for a subject's knowledge, against those of everyday life; GPT-4 said which."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    for one in held.read(data / "09_judging/flask_evaluation.jsonl.gz"):
        if one["difficulty"] in LEVELS:
            sides[LEVELS[one["difficulty"]]].append(held.row(one["instruction"], "", one["answer"]))
    draw = random.Random(7)
    easy, hard = (draw.sample(side, min(SLOW // 2, len(side))) for side in sides)
    return Evidence("model", "FLASK: subject knowledge above everyday knowledge, by GPT-4", good=hard, bad=easy)


KINDS_OF_TEXT = {
    "en": "news against customers' reviews (O-LoRA's AG News, Yelp, Amazon)",
    "zh": "abstracts of papers against hotel guests' reviews (CSL, ChnSentiCorp)",
}


def formal(data: Path, lang: str) -> Evidence:
    """Formal above chatty texts, told by where they stand and by nothing else."""
    if lang == "zh":
        papers = held.read(held.whole(data, "11_zh_tasks/csl_title_dev.jsonl.gz"))
        guests = held.read(held.whole(data, "11_zh_tasks/chnsenticorp_hotel.jsonl.gz"))
        two = [one["input"] for one in papers], [one["review"] for one in guests]
    else:
        rows = held.read(held.whole(data, "11_english_tasks/olora_classification_train.jsonl.gz"))
        of = {"agnews": 0, "yelp": 1, "amazon": 1}
        news, guests = ([one["sentence"] for one in rows if of.get(one["dataset"].lower()) == side] for side in (0, 1))
        two = news, guests
    good, bad = (
        [held.row("", "", said) for said in random.Random(7).sample(side, min(MOST // 2, len(side)))] for side in two
    )
    return Evidence("rule", f"by source: {KINDS_OF_TEXT[lang]}", good=good, bad=bad)


def easy(data: Path, lang: str) -> Evidence:
    """The same texts the other way about: reviews read more easily."""
    found = formal(data, lang)
    return Evidence(found.kind, found.data, good=found.bad, bad=found.good)


FROM = {"en": "Answer from the passage: ", "zh": "根据短文回答："}


def passages(data: Path, lang: str) -> Evidence:
    """XQuAD: the answer that people marked, against the marked answer to a question on another passage of the same article."""
    found = []
    for one in held.read(data / "10_parallel_docs/xquad_en_zh.jsonl.gz"):
        said = one[f"qas_{lang}"]
        found.append((one["article"], one[f"context_{lang}"], [(q["question"], q["answers"][0]["text"]) for q in said]))
    return answered("XQuAD", found, lang)


def cmrc(data: Path, lang: str) -> Evidence:
    """CMRC 2018: the same with Chinese passages, against answers from the next passage."""
    found = []
    for one in held.read(held.whole(data, "10_parallel_docs/cmrc2018_trial.jsonl.gz")):
        for part in one["paragraphs"]:
            found.append((0, part["context"], [(q["question"], q["answers"][0]["text"]) for q in part["qas"]]))
    return answered("CMRC 2018", found, "zh")


def answered(what: str, found: list[tuple[int, str, list[tuple[str, str]]]], lang: str) -> Evidence:
    def pairs() -> Iterator[held.Pair]:
        for at, (article, context, asked) in enumerate(found):
            others = [there for there in found if there[0] == article and there[1] != context]
            if others:
                wrong = others[at % len(others)][2]
                for n, (question, answer) in enumerate(asked):
                    bad = wrong[n % len(wrong)][1]
                    if bad not in context:
                        yield (
                            held.row(FROM[lang] + question, context, answer),
                            held.row(FROM[lang] + question, context, bad),
                        )

    rows = list(pairs())
    return Evidence(
        "planted",
        f"{what}: marked answers above those of other passages",
        pairs=random.Random(7).sample(rows, min(MOST, len(rows))),
    )
