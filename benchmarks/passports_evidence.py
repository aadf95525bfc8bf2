"""What each metric's passport rests on: rows that people judged, else defects planted in clean rows, else a rule's own cases.

An `Evidence` is pairs (better, worse), measured by the share in the right order with ties counting half, or two groups (good, bad),
measured by the AUC. Values are turned so that higher is better. Rows that a metric would not score count as ties.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import passports_data as held
import passports_labels as labels
from passports_data import Evidence

from zhiling.judging.selftest_plant import dropped
from zhiling.types import Example, Task

CLEAN = {"en": "02_alpaca/alpagasus_dolly_3k.jsonl.gz", "zh": "02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz"}
MOST = 400  # rows or pairs of a metric and language


def clean(data: Path, lang: str, most: int = MOST) -> list[Example]:
    """Rows that people wrote (en) or a strong model did (zh), with an answer of some length."""
    rows = [
        one for one in held.alpaca(held.whole(data, CLEAN[lang])) if one.instruction.strip() and len(one.output) > 40
    ]
    return random.Random(7).sample(rows, min(most, len(rows)))


def planted(plant: Callable[[Example, int, str], Example | None], what: str) -> Callable[[Path, str], Evidence]:
    """Evidence by a defect put into every second clean row."""

    def evidence(data: Path, lang: str) -> Evidence:
        rows = clean(data, lang)
        bad = [made for at, row in enumerate(rows[::2]) if (made := plant(row, at, lang))]
        return Evidence("planted", f"{what}; {CLEAN[lang]}", good=rows[1::2], bad=bad)

    return evidence


def _other_language(row: Example, at: int, lang: str) -> Example:
    said = {
        "en": "南京是六朝古都，历史悠久，名胜古迹很多，每年都有大量的游客来到这里参观。",
        "zh": "The city has grown fast in the last ten years and many people have moved there.",
    }
    return replace(row, output=said[lang])


def _echo(row: Example, at: int, lang: str) -> Example | None:
    return replace(row, output=row.prompt) if len(row.prompt) > 60 else None


SLOTS = {
    "en": ["[insert name here]", "{{topic}}", "[Your Name]", "<insert company>", "XXXX", "[COMPANY NAME]"],
    "zh": ["（此处填写）", "【公司名称】", "{{主题}}", "[请输入姓名]", "XX年XX月XX日", "【此处插入图片】"],
}


def _slot(row: Example, at: int, lang: str) -> Example:
    slot = SLOTS[lang][at % len(SLOTS[lang])]
    return replace(row, output=f"{slot} {row.output}" if lang == "en" else f"{slot}，{row.output}")


def _broken(row: Example, at: int, lang: str) -> Example:
    """One structural defect of each class in turn."""
    head = row.output[: len(row.output) // 2]
    kinds = [
        {"output": ""},
        {"input": {"en": ["<noinput>", "No input", "N/A"], "zh": ["无输入", "<无输入>", "不适用"]}[lang][at % 3]},
        {"output": {"en": "<nooutput>", "zh": "<无输出>"}[lang]},
        {
            "output": {
                "en": "The reason for this is that the people of the",
                "zh": "这件事情的主要原因在于人们常常会因为",
            }[lang]
        },
        {"output": head + "\n```python\nprint(1)"},
        {"output": head + " " + row.output.encode("utf-8")[:9].decode("latin-1") + "â€™ï¼Œ"},
        {
            "output": head
            + {"en": "\n7. Instruction: Do this.\n7. Output: Done.", "zh": "\n指令：做这个。\n输出：完成。"}[lang]
        },
    ]
    return replace(row, **kinds[at % len(kinds)])


def _refused(row: Example, at: int, lang: str) -> Example:
    said = {
        "en": ["I'm sorry, but I can't help with that.", "As an AI language model, I cannot do this."],
        "zh": [
            "很抱歉，我无法提供这方面的帮助。",
            "作为一个人工智能助手，我不能回答这个问题。",
            "对不起，我不能满足这个请求。",
        ],
    }[lang]
    return replace(row, output=said[at % len(said)])


def _slip(row: Example, at: int, lang: str) -> Example:
    ways = ["他跑的很快，", "请你慢慢的走过来，", "这是一个个的的问题，", "我觉的很好，", "写一个《文章，"]
    return replace(row, instruction=ways[at % len(ways)] + row.instruction)


def identity_card(seed: int) -> str:
    """A made-up Chinese identity number whose checksum holds."""
    draw = random.Random(seed)
    body = (
        f"110101{draw.randint(1950, 2005)}{draw.randint(1, 12):02d}{draw.randint(1, 28):02d}{draw.randint(0, 999):03d}"
    )
    factors = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(a) * b for a, b in zip(body, factors, strict=True)) % 11]


def _personal(row: Example, at: int, lang: str) -> Example:
    given = [identity_card(at), f"138{at:04d}5678", f"anna.{at}@mail-box.org"]
    before = {"en": "Contact: ", "zh": "联系方式："}[lang]
    return replace(row, output=f"{row.output}\n{before}{given[at % 3]}")


def _badly_put(row: Example, at: int, lang: str) -> Example:
    """What an editor would mend: a mark missing, an input that is none, lines broken, stiff words."""
    plain = row.instruction.rstrip(" .。?？!！:：")
    stiff = {"en": f"You need to generate the output: {plain}", "zh": f"你需要生成以下内容：{plain}"}[lang]
    kinds = [
        {"instruction": plain}, {"input": {"en": "<noinput>", "zh": "无输入"}[lang]}, {"instruction": stiff},
        {"instruction": plain[: len(plain) // 2] + "\n" + plain[len(plain) // 2 :]},
    ]  # fmt: skip
    return replace(row, **kinds[at % len(kinds)])


def xstest(data: Path, lang: str) -> Evidence:
    """Completions that two people called full compliance or full refusal."""
    rows = held.read(data / "13_safety_bias/xstest_completions_human.jsonl.gz")
    sides = {
        label: [held.row(one["prompt"], "", one["completion"]) for one in rows if one["final_label"] == label]
        for label in ("1_full_compliance", "2_full_refusal")
    }
    return Evidence(
        "human", "XSTest completions, two annotators", good=sides["1_full_compliance"], bad=sides["2_full_refusal"]
    )


def jfleg(data: Path, lang: str) -> Evidence:
    """Learners' sentences, and what native speakers made of them."""
    rows = held.read(data / "11_english_tasks/jfleg_dev.jsonl.gz")[:MOST]
    return Evidence("human", "JFLEG dev, corrected by people", pairs=[
        (held.row(_joined(one["refs"][0]), "", ""), held.row(_joined(one["source"]), "", "")) for one in rows
        if _joined(one["refs"][0]) != _joined(one["source"])
    ])  # fmt: skip


def _joined(tokens: str) -> str:
    """JFLEG's spaced-out tokens as a sentence."""
    for before, after in (
        (" .", "."),
        (" ,", ","),
        (" ?", "?"),
        (" !", "!"),
        (" n't", "n't"),
        (" '", "'"),
        (" :", ":"),
    ):
        tokens = tokens.replace(before, after)
    return tokens.strip()


def definitions(data: Path, lang: str) -> Evidence:
    """Natural Instructions: the second sentence of a task's definition belongs to the first; another task's does not."""
    parts = [
        one["Definition"][0].split(". ", 1)
        for one in held.read(data / "05_natural_instructions/tasks.jsonl.gz")
        if one.get("Definition")
    ]
    return _matched(
        [(a.strip(), b.strip()) for a, b in (part for part in parts if len(part) == 2)],
        "Natural Instructions definitions",
    )


def _matched(two: Sequence[tuple[str, str]], what: str) -> Evidence:
    tasks, pairs = {}, []
    for at, (first, second) in enumerate(two):
        tasks[str(at)] = Task(str(at), description=first)
        other = two[(at + len(two) // 2) % len(two)][1]
        pairs.append((Example(str(at), second), Example(str(at), other)))
    return Evidence("human", what, pairs=pairs, tasks=tasks)


def simclue(data: Path, lang: str) -> Evidence:
    """SimCLUE: of two titles, people found the first to mean what the query does; the second is a hard negative."""
    rows = held.read(data / "12_retrieval/simclue_rank.jsonl")[:MOST]
    return Evidence(
        "human", "SimCLUE queries with a positive and a hard negative",
        pairs=[(Example(str(at), one["title"]), Example(str(at), one["neg_title"])) for at, one in enumerate(rows)],
        tasks={str(at): Task(str(at), description=one["query"]) for at, one in enumerate(rows)},
    )  # fmt: skip


def judged(data: Path, lang: str) -> Evidence:
    """All pairs that people judged."""
    return Evidence(
        "human",
        "CoachLM, Auto-J, LLMBar, LLMEval2, FairEval",
        pairs=[p for name in held.PAIRS for p in held.pairs(data, name)],
        fitted=tuple(held.PAIRS),
    )


def revised(data: Path, lang: str) -> Evidence:
    pairs = held.pairs(data, "coachlm_instructions")
    return Evidence("human", "CoachLM, revised before raw instructions", pairs=pairs, fitted=("coachlm_instructions",))


def dpo(data: Path, lang: str) -> Evidence:
    """Chosen before rejected in LLaMA-Factory's Chinese DPO demo: a model's taste, not people's; never trained on."""
    pairs = []
    for one in held.read(data / "02_alpaca/llamafactory_dpo_zh_demo.jsonl.gz"):
        asked = one["conversations"][-1]["value"]
        pairs.append((held.row(asked, "", one["chosen"]["value"]), held.row(asked, "", one["rejected"]["value"])))
    return Evidence("model", "LLaMA-Factory DPO zh demo", pairs=pairs)


BRIEF, FEW = 500, 12


def brief(data: Path, lang: str) -> Evidence:
    """A few of `dpo`, of rows that fit into a small judge's context."""
    found = dpo(data, lang)
    pairs = [pair for pair in found.pairs if all(len(row.prompt + row.output) <= BRIEF for row in pair)]
    return replace(found, pairs=pairs[:FEW], data=f"{found.data}, rows of at most {BRIEF} characters")


UNCLEAR = {
    "en": [
        "Summarize the following article.",
        "Describe the picture above.",
        "Write something.",
        "Translate the sentence below into French.",
    ],
    "zh": ["总结下面的文章。", "描述上面的图片。", "写点东西。", "把下面的句子翻译成法语。"],
}


def _unclear(row: Example, at: int, lang: str) -> Example:
    return replace(row, instruction=UNCLEAR[lang][at % len(UNCLEAR[lang])], input="")


def swapped(least: int) -> Callable[[Path, str], Evidence]:
    """Evidence by answers that belong to another row, among rows whose input has at least so many characters."""

    def evidence(data: Path, lang: str) -> Evidence:
        rows = [row for row in clean(data, lang, 10**6) if len(row.input) >= least][:MOST]
        half = len(rows) // 2
        bad = [replace(a, output=b.output) for a, b in zip(rows[:half], rows[half:], strict=False)]
        return Evidence("planted", f"answers of other rows; {CLEAN[lang]}", good=rows[half:], bad=bad)

    return evidence


def lost(data: Path, lang: str) -> Evidence:
    """Rows that never had an input, against rows whose instruction points to an input that was taken away."""
    rows = clean(data, lang, 10**6)
    bad = [made for row in rows if (made := dropped(row, row, 0))][:MOST]
    return Evidence(
        "planted", f"inputs taken away; {CLEAN[lang]}", good=[row for row in rows if not row.input][:MOST], bad=bad
    )


def followbench(data: Path, lang: str) -> Evidence:
    """FollowBench: an instruction with five conditions before the same with one."""
    levels: dict[tuple[str, int], dict[int, Example]] = {}
    for one in held.read(data / "07_constraints/followbench.jsonl.gz"):
        if one["lang"] == lang:
            key = one["constraint_file"], one["example_id"]
            levels.setdefault(key, {})[one["level"]] = held.row(one["instruction"], "", "")
    return Evidence("human", "FollowBench, level 5 before level 1", pairs=[
        (found[5], found[1]) for found in levels.values() if {1, 5} <= set(found)
    ])  # fmt: skip


COUNTED = {"en": ("It's a fine day, isn't it?", 6), "zh": ("今天天气很好。", 6)}


def counted(data: Path, lang: str) -> Evidence:
    """Cases of the rule: a text repeated n times has n times the tokens; the pair is (longer, shorter)."""
    said = COUNTED[lang][0]
    pairs = [(held.row("", "", f"{said} " * (n + 1)), held.row("", "", f"{said} " * n)) for n in range(1, 40)]
    return Evidence("rule", "counts checked by hand", pairs=pairs)


EVIDENCE: dict[str, dict[str, Callable[[Path, str], Evidence]]] = {
    "length": dict.fromkeys(("en", "zh"), counted),
    "language": dict.fromkeys(("en", "zh"), planted(_other_language, "answers in the other language")),
    "echo": dict.fromkeys(("en", "zh"), planted(_echo, "the prompt for an answer")),
    "placeholder": dict.fromkeys(("en", "zh"), planted(_slot, "open slots")),
    "format": dict.fromkeys(("en", "zh"), planted(_broken, "seven structural defects")),
    "pii": dict.fromkeys(("en", "zh"), planted(_personal, "identity numbers, phones, addresses")),
    "refusal": {"en": xstest, "zh": planted(_refused, "refusals for answers")},
    "grammar": {"en": jfleg, "zh": planted(_slip, "five kinds of slips")},
    "grammar_lm": {"en": jfleg, "zh": planted(_slip, "five kinds of slips")},
    "relevance": {"en": definitions, "zh": simclue},
    "asks": dict.fromkeys(("en", "zh"), planted(_unclear, "asks for what is not there, or for anything")),
    "answers": dict.fromkeys(("en", "zh"), swapped(0)),
    "lacks_input": dict.fromkeys(("en", "zh"), lost),
    "faithful": {"en": labels.passages, "zh": labels.passages},
    "safety": {"en": labels.unsafe, "zh": labels.insults},
    "readability": dict.fromkeys(("en", "zh"), labels.easy),
    "register": dict.fromkeys(("en", "zh"), labels.formal),
    "clarity": {"en": revised},
    "difficulty": {"en": labels.flask},
    "judge": {"en": labels.judgements, "zh": brief},
    "constraints": dict.fromkeys(("en", "zh"), followbench),
    "quality": {"en": judged, "zh": dpo},
    "wording": {"en": revised, "zh": planted(_badly_put, "marks, inputs, lines, stiff words")},
}
"""Metric -> language -> what its passport rests on. A registered metric that is not here has no passport."""

ALSO: dict[str, list[tuple[str, Callable[[Path, str], Evidence]]]] = {
    "quality": [("en", labels.truthful), ("en", labels.gpt4), ("en", labels.harmless)],
    "safety": [("en", labels.harmless), ("zh", labels.delicate)],
    "clarity": [("en", jfleg)],
    "faithful": [("en", swapped(200)), ("zh", labels.cmrc)],
}
"""Further evidence, none of it fitted to: what a metric was not made for is shown beside what it was made for."""
