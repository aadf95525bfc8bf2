"""The shipped seed instructions: counted, balanced, distinct, in their language, runnable where they are code, and nobody else's."""

from __future__ import annotations

import ast
import gzip
import itertools
import json
import re
import sqlite3
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from zhiling import registry, text
from zhiling.construct.bank import Row
from zhiling.construct.library import FAMILIES, LIBRARY, list_definitions
from zhiling.types import Example

FIELDS = {"id", "task", "family", "lang", "instruction", "input", "output", "source", "licence"}
SLOT = re.compile(r"\{([^{}]+)\}")
LANGUAGE_SLOTS = {"目标语言", "target language"}
NEAR = 0.7


@cache
def seeds() -> tuple[dict[str, str], ...]:
    files = sorted((LIBRARY / "seeds").glob("*.jsonl"))
    return tuple(json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines())


def example(seed: dict[str, str]) -> Example:
    """The seed as a row whose slots bear their names: a slot is to be filled, not a defect."""
    said = SLOT.sub(lambda found: found[1], seed["instruction"])
    return Example(task=seed["task"], instruction=said, input=seed["input"], output=seed["output"], lang=seed["lang"])


@cache
def examples() -> tuple[Example, ...]:
    return tuple(example(seed) for seed in seeds())


def test_there_are_enough_in_every_family_and_both_languages() -> None:
    families = Counter(seed["family"] for seed in seeds())
    langs = Counter(seed["lang"] for seed in seeds())
    assert len(seeds()) >= 620
    assert set(families) == set(FAMILIES)
    assert min(families.values()) >= 30, families
    assert set(langs) == {"zh", "en"} and abs(langs["zh"] - langs["en"]) <= 0.1 * langs["zh"], langs
    both = Counter((seed["family"], seed["lang"]) for seed in seeds())
    assert min(both.values()) >= 12, both


def test_every_row_is_whole_and_says_where_it_comes_from() -> None:
    for seed in seeds():
        assert set(seed) == FIELDS, seed["id"]
        assert all(isinstance(value, str) and value.strip() for value in seed.values()), seed["id"]
        assert (seed["source"], seed["licence"]) == ("zhiling seeds", "Apache-2.0"), seed["id"]
        assert seed["id"].startswith(f"seed-{seed['family']}-{seed['lang']}-"), seed["id"]
        assert Row(**seed).family == seed["family"]
    assert len({seed["id"] for seed in seeds()}) == len(seeds())


def test_every_instruction_is_in_the_language_it_claims() -> None:
    scripts = {"zh": "zh", "en": "latin"}
    strange = [s["id"] for s in seeds() if text.lang(SLOT.sub("", s["instruction"])) != scripts[s["lang"]]]
    assert strange == []


def test_chinese_instructions_have_chinese_punctuation_and_english_ones_none() -> None:
    bare = [(seed, SLOT.sub("", seed["instruction"])) for seed in seeds()]
    assert [
        seed["id"] for seed, said in bare if seed["lang"] == "zh" and re.search(r"[一-鿿][,;:?!]|[,;?!]$", said)
    ] == []
    assert [seed["id"] for seed, said in bare if seed["lang"] == "en" and re.search("[，。！？；：]", said)] == []


def test_every_slot_is_filled_by_the_worked_example() -> None:
    """The input names the slot ("Topic: ..."), or is what the slot at the end stands for, or the output is in the slot's language."""
    for seed in seeds():
        for slot in SLOT.findall(seed["instruction"]):
            named = re.search(rf"(?:^|[。.] ?){re.escape(slot)}[：:]", seed["input"], re.IGNORECASE)
            last = re.search(rf"[：:] ?\{{{re.escape(slot)}\}}$", seed["instruction"])
            abroad = slot in LANGUAGE_SLOTS and seed["output"] != seed["input"]
            assert named or last or abroad, (seed["id"], slot)


def test_the_wordings_vary_in_length_and_manner() -> None:
    for lang in ("zh", "en"):
        lengths = sorted(text.length(seed["instruction"]) for seed in seeds() if seed["lang"] == lang)
        assert lengths[len(lengths) // 20] * 2 <= lengths[-len(lengths) // 20] and lengths[0] * 6 <= lengths[-1]
        openings = Counter(tuple(text.tokens(s["instruction"])[:2]) for s in seeds() if s["lang"] == lang)
        assert openings.most_common(1)[0][1] <= 0.1 * len(lengths), openings.most_common(3)
        assert sum(s["lang"] == lang and "\n" in s["output"] for s in seeds()) >= 40


def test_no_two_rows_are_near_duplicates() -> None:
    near = registry.get("selector", "near").fn
    for n in (2, 3):
        twins = [verdict for verdict in near(examples(), scores={}, threshold=NEAR, n=n) if not verdict.kept]
        assert twins == []


def test_no_two_instructions_are_near_duplicates() -> None:
    for lang in ("zh", "en"):
        said = [(s["id"], text.shingles(s["instruction"], 2)) for s in seeds() if s["lang"] == lang]
        close = [(a[0], b[0]) for a, b in itertools.combinations(said, 2) if text.jaccard(a[1], b[1]) > NEAR]
        # The translation seeds say the same of several languages on purpose: adapting one to another is what they are for.
        assert [pair for pair in close if not all("translation" in one for one in pair)] == []


RULES = [("format", 1.0), ("placeholder", 0.0), ("refusal", 0.0), ("echo", 0.0), ("language", 1.0), ("grammar", 1.0)]


@pytest.mark.parametrize(("name", "wanted"), RULES)
def test_no_seed_is_rejected_by_our_own_rules(name: str, wanted: float) -> None:
    # Quoting, cutting and mending a text repeat it rightly, so only what repeats the instruction counts as an echo here.
    rows = [replace(row, input="") for row in examples()] if name == "echo" else examples()
    scores = list(registry.get("scorer", name).fn(rows))
    assert len(scores) == len(seeds())
    bad = [
        (seed["id"], score.value, score.why)
        for seed, score in zip(seeds(), scores, strict=True)
        if score.value is not None and score.value != wanted
    ]
    assert bad == []
    assert sum(score.value is not None for score in scores) >= len(scores) // 2, "too few could be scored to tell"


def family(name: str) -> list[dict[str, str]]:
    return [seed for seed in seeds() if seed["family"] == name]


def test_python_in_code_seeds_parses() -> None:
    python = [seed for seed in family("code") if re.match(r"\s*(?:def|class|from|import|assert) ", seed["output"])]
    assert len(python) >= 15
    for seed in python:
        ast.parse(seed["output"])


def test_sql_in_seeds_is_valid() -> None:
    """SQLite compiles each statement as far as the absent tables let it: what is missing may be a table, not a comma."""
    statement = re.compile(r"^(?:SELECT|UPDATE|DELETE|INSERT|CREATE|WITH)\b.*", re.DOTALL)
    found = [seed for seed in family("sql") if statement.match(seed["output"])]
    assert len(found) >= 20
    for seed in found:
        database = sqlite3.connect(":memory:")
        for part in filter(str.strip, seed["output"].split(";")):
            try:
                database.execute(part)
            except sqlite3.OperationalError as error:
                assert str(error).startswith("no such table"), (seed["id"], str(error))
        database.close()


def test_json_in_seeds_loads_and_comes_from_the_text() -> None:
    found = [seed for seed in family("extraction") if seed["output"][0] in "[{"]
    assert len(found) >= 4
    for seed in found:
        made = json.loads(seed["output"])
        for row in made if isinstance(made, list) else [made]:
            assert all(value in seed["input"] for value in row.values()), seed["id"]


def test_verse_keeps_the_form_it_claims() -> None:
    """Every form that is asked for by its number of lines and characters has them."""
    forms = {"五言绝句": (4, 5), "七言绝句": (4, 7), "七言藏头诗": (4, 7)}
    checked = 0
    for seed in family("poetry"):
        for form, (lines, characters) in forms.items():
            if form in seed["instruction"] and seed["instruction"].startswith(("写", "作")):
                verse = [text.length(line) for line in seed["output"].splitlines()]
                assert verse == [characters] * lines, seed["id"]
                checked += 1
    assert checked >= 3
    tune = next(seed for seed in family("poetry") if "《如梦令》" in seed["instruction"])
    assert [text.length(part) for part in re.split("[，。\n]+", tune["output"]) if part] == [6, 6, 5, 6, 2, 2, 6]
    couplet = next(seed for seed in family("poetry") if seed["instruction"].startswith("上联已定"))
    assert text.length(couplet["input"]) == text.length(couplet["output"])
    hidden = next(seed for seed in family("poetry") if "藏头诗" in seed["instruction"])
    assert "".join(line[0] for line in hidden["output"].splitlines()) == hidden["input"]
    acrostic = next(seed for seed in family("poetry") if "acrostic" in seed["instruction"])
    assert "".join(line[0] for line in acrostic["output"].splitlines()) == acrostic["input"].split()[-1]


SHARED = (
    ("01_self_instruct/seed_tasks.jsonl", ("instruction",)),
    ("04_belle/zh_seed_tasks.jsonl", ("instruction",)),
    ("04_belle/eval_set.jsonl.gz", ("question",)),
    ("02_alpaca/alpaca_52k_original.jsonl.gz", ("instruction", "input")),
    ("02_alpaca/alpaca_zh_community_translated.jsonl.gz", ("instruction", "input")),
    ("02_alpaca/instructwild_seed_ch.jsonl", ("instruction",)),
    ("02_alpaca/instructwild_seed_en.jsonl", ("instruction",)),
    ("01_self_instruct/t0_rendered_prompts.jsonl.gz", ("prompt",)),
)


def foreign(folder: Path) -> Iterator[tuple[str, ...]]:
    """What other collections ask, part by part: the instruction, and the input where there is one."""
    for name, keys in SHARED:
        opener = gzip.open if name.endswith(".gz") else open
        with opener(folder / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                row: dict[str, Any] = json.loads(line)
                yield tuple(str(row.get(key) or "") for key in keys)
                yield from ((str(one.get("input") or ""),) for one in row.get("instances") or () if one.get("input"))
    with tarfile.open(folder / "08_promptsource/templates.tar.gz") as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if content is not None and member.name.endswith(".yaml"):
                yield from ((said,) for said in text.sentences(content.read().decode("utf-8")))


def test_no_seed_and_no_wording_is_taken_from_another_collection(shared: Path) -> None:
    """No input and no instruction with its input is the same, or nearly, as one of the collections that people know.

    A short bare instruction ("Summarise the text") is nobody's, so instructions count from eight tokens on.
    """
    ours: dict[tuple[str, ...], set[int]] = defaultdict(set)
    parts = [
        (seed["id"], text.shingles(said, 2))
        for seed in seeds()
        for said in (seed["instruction"], seed["input"], f"{seed['instruction']} {seed['input']}")
    ]
    parts += [(d.id, text.shingles(wording.instruction, 2)) for d in list_definitions() for wording in d.phrasings]
    parts = [(name, grams) for name, grams in parts if len(grams) >= 7]
    for i, (_, grams) in enumerate(parts):
        for gram in grams:
            ours[gram].add(i)
    known = set(ours)
    taken = set()
    for row in foreign(shared):
        for said in {*row, " ".join(row)}:
            if 8 <= text.length(said[:400]) <= 200:
                grams = text.shingles(said, 2)
                shared_with = Counter(i for gram in grams & known for i in ours[gram])
                for i, count in shared_with.items():
                    if count > NEAR * (len(grams) + len(parts[i][1]) - count):
                        taken.add((parts[i][0], said[:80]))
    assert taken == set()
