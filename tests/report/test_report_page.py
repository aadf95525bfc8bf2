"""The page as a reader gets it: whole, in both languages, with the folder's own numbers, and safe whatever the data holds."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from statistics import median

import pytest
from page_tree import Node, parse
from report_folder import LOSING, SPENT, TASKS, add_results, add_tuning, build_folder

from zhiling.embed import Use
from zhiling.errors import DataError, EngineError, RecipeError
from zhiling.evaluate.predict import Prediction
from zhiling.evaluate.suite import evaluate
from zhiling.judging.diversity import asked as ask_of
from zhiling.judging.diversity import diversity
from zhiling.llm.bill import Bill
from zhiling.llm.budget import Spent
from zhiling.report import build, files
from zhiling.report.page import SECTIONS
from zhiling.report.varied import varied
from zhiling.report.words import LANGS, WORDS
from zhiling.store import Done, Entry, Store, views, write
from zhiling.types import Example, Score, Task

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`&amp;</svg></details></main>{{ 7*7 }}{% raw %}"


@pytest.fixture(autouse=True)
def _no_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZHILING_LANG", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    made = build_folder(folder)
    return {**made, "folder": folder, "log": add_tuning(folder), "results": add_results(folder)}


@pytest.fixture(scope="module")
def html(made: dict) -> str:
    path = build(made["folder"])
    assert path == made["folder"] / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Node:
    return parse(html)


def part(page: Node, key: str, lang: str = "en") -> Node:
    """A section of the page by its heading's id."""
    heading = f"{lang}-{key}"
    return next(
        section for section in page.all("section") if any(node.attrs.get("id") == heading for node in section.all("h2"))
    )


def cells(section: Node, index: int = 0) -> list[list[str]]:
    """The rows of a section's table as texts."""
    table = list(section.all("table"))[index]
    return [
        [" ".join(cell.text.split()) for cell in row.parts if isinstance(cell, Node)]
        for row in table.one("tbody").all("tr")
    ]


def written(folder: Path, **options: object) -> Node:
    return parse(build(folder, **options).read_text(encoding="utf-8"))


def test_both_languages_have_every_section_once(page: Node):
    for lang in LANGS:
        main = page.one("main", id=lang)
        assert main.attrs["lang"] == {"en": "en", "zh": "zh-Hans"}[lang]
        assert [node.attrs["id"] for node in main.all("h2")] == [f"{lang}-{key}" for key in SECTIONS]
        assert [node.text.strip() for node in main.one("nav").all("a")] == [
            WORDS[key][LANGS.index(lang)] for key in SECTIONS
        ]
        assert (
            main.one("h1").text
            == {
                "en": "2 of 4 tasks better, 1 worse, 1 cannot tell",
                "zh": "4 项任务中 2 项更好，1 项更差，1 项无法判断",
            }[lang]
        )
    ids = [node.attrs["id"] for node in page.all() if "id" in node.attrs]
    assert len(ids) == len(set(ids))
    targets = {link.attrs["href"][1:] for link in page.all("a")}
    assert targets <= set(ids) and len(targets) == 2 * (len(SECTIONS) + 1)


def test_nothing_of_the_other_language_is_in_a_language_s_own_words(page: Node):
    for key in ("flow", "ways", "scores", "losses", "loss", "proof", "bill", "ledger"):
        chinese = part(page, key, "zh")
        said = [
            chinese.one("h2").text,
            chinese.one("p").text,
            *(cell.text for cell in chinese.all("th") if cell.attrs.get("scope") != "row"),
        ]
        assert not [text for text in said if re.search(r"[A-Za-z]{4,}", text)], key
        english = part(page, key, "en")
        said = [
            english.one("h2").text,
            english.one("p").text,
            *(cell.text for cell in english.all("th") if cell.attrs.get("scope") != "row"),
        ]
        assert not [text for text in said if re.search("[一-鿿]", text)], key


def test_the_page_needs_nothing_outside_itself(html: str, page: Node):
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html.split("<script>")[0].split("<body>")[0])
    for node in page.all():
        for name in ("src", "srcset", "action", "data", "style"):
            assert name not in node.attrs, (node.tag, name)
        assert node.attrs.get("href", "#").startswith("#")
    policy = page.one("meta", http_equiv="Content-Security-Policy").attrs["content"]
    assert policy.startswith("default-src 'none'")


def test_every_picture_is_well_formed_and_describes_itself(page: Node, html: str):
    pictures = re.findall(r"<svg class=\"pic\".*?</svg>", html, re.DOTALL)
    assert len(pictures) == len(list(page.all("svg", class_="pic"))) >= 2 * 13
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert [child.tag for child in root[:2]] == ["title", "desc"]
        assert root[0].text and root[1].text and root.attrib["role"] == "img"


def test_the_set_as_a_whole_is_told_beside_what_was_made(page: Node, made: dict):
    """On equally many rows of both, and as `zhiling audit` counts it on the same rows."""
    examples, kept = ({row.id: row for row in made[kind]} for kind in ("examples", "kept"))
    few = min(len(examples), len(kept), 300)
    chosen = sorted(kept.values(), key=lambda row: hashlib.md5(row.id.encode()).hexdigest())[:few]
    own = diversity(chosen, Use())
    for lang in LANGS:
        section = part(page, "varied", lang)
        rows = {row[0]: row[1:] for row in cells(section)}
        said = WORDS["varied.of"][LANGS.index(lang)]
        assert rows[WORDS["varied.looked"][LANGS.index(lang)]] == [
            said.format(looked=few, n=len(each)) for each in (examples, kept)
        ]
        assert rows[WORDS["varied.vendi"][LANGS.index(lang)]][1] == f"{own.vendi:g}"
        assert rows[WORDS["varied.twins"][LANGS.index(lang)]][1] == f"{100 * own.twins:.1f}%"
        drawn = section.one("svg").one("desc").text
        asks = Counter(ask_of(row.instruction) for row in chosen)
        assert "→" in drawn and any(name and name in drawn for name, _ in asks.most_common(3))


def test_one_sort_of_ask_is_seen_to_be_no_variety(tmp_path: Path):
    """Kept rows that all ask the same are told from the many sorts that were made."""
    made = [
        Example("t", f"{verb} number {at}.", "", "Yes.")
        for at in range(12)
        for verb in ("Describe", "Translate", "Sort")
    ]
    kept = [row for row in made if row.instruction.startswith("Sort")]
    store = Store(tmp_path)
    store.begin()
    ledger = [Entry(row.id, "t", "", "kept" if row in kept else "dropped", "top", "", "") for row in made]
    for kind, items in (("examples", made), ("kept", kept), ("ledger", ledger)):
        store.commit(Done(kind, kind, "all", (write(tmp_path, f"{kind}/0.parquet", kind, items),), {}))
    store.close()
    with views(tmp_path) as db:
        found = varied(db, True)
        before = varied(db, False)
    assert next(ask for ask in found.asks if ask.name == "sort").kept == 1.0
    assert found.made.looked == found.kept.looked == 12 and found.made.rows == 36
    assert found.made.asks_effective > 2.5 and found.kept.asks_effective == 1.0
    assert found.made.vendi > found.kept.vendi
    assert before.kept is None and before.made.looked == 36


def test_what_was_constructed_is_counted_by_way(page: Node, made: dict):
    def count(rows: list, way: str) -> int:
        return sum(row.maker.startswith(f"{way}:") for row in rows)

    rows = cells(part(page, "ways"))
    for row, way in zip(rows, ("template", "retrieve", "generate"), strict=False):
        drafts, kept = count(made["examples"], way) + count(made["merged"], way), count(made["kept"], way)
        assert row == [way, str(count(made["templates"], way)), str(drafts), str(kept), f"{100 * kept / drafts:.1f}%"]
    assert rows[3][0] == "Total" and rows[3][2] == str(len(made["examples"]) + len(made["merged"]))
    by_task = cells(part(page, "ways"), 1)
    assert [row[0] for row in by_task] == sorted(row[0] for row in by_task)
    assert sum(int(row[4]) for row in by_task) == len(made["kept"])


def test_the_flow_tells_each_stage(page: Node, made: dict):
    said = part(page, "flow").one("svg").one("desc").text
    drafts = len(made["examples"]) + len(made["merged"])
    assert said == (
        f"data records {len(made['records'])}, templates {len(made['templates'])}, rows made {drafts}, unique rows {len(made['examples'])}, "
        f"scored {len(made['examples'])}, kept {len(made['kept'])}"
    )
    assert f"{len({row.id for row in made['heldout']})} rows were set aside" in part(page, "flow").text


def test_scores_are_counted_and_what_has_none_is_said_so(page: Node, made: dict):
    section = part(page, "scores")
    good = [score for score in made["scores"] if score.value is not None and math.isfinite(score.value)]
    unscored = Counter(score.scorer for score in made["scores"]) - Counter(score.scorer for score in good)
    kept = {row.id for row in made["kept"]}
    for box, name in zip(
        section.one("div", class_="small").parts[0::2], ("clarity", "echo", "format", "grammar"), strict=False
    ):
        assert isinstance(box, Node) and box.one("h3").one("code").text == name
        rows = cells(box)
        counted = [row for row in rows if row[0] != "could not be scored"]
        own = [score for score in good if score.scorer == name]
        assert sum(int(row[1]) for row in counted) == len(own)
        assert sum(int(row[2]) for row in counted) == sum(score.example in kept for score in own)
        assert [row[1] for row in rows if row[0] == "could not be scored"] == (
            [str(unscored[name])] if unscored[name] else []
        )
        middle, middle_kept = (median(s.value for s in some) for some in (own, [s for s in own if s.example in kept]))
        assert f"median {middle:.4g}; of kept rows {middle_kept:.4g}" in box.text
    assert (
        f"{unscored['grammar']} rows could not be scored: grammar is checked in English only ({unscored['grammar']})"
        in section.text
    )
    assert unscored["format"] > 0 and f"divided by nothing ({unscored['format']})" in section.text
    assert f"{unscored['grammar']} 行无法评分：grammar is checked" in part(page, "scores", "zh").text


def test_every_lost_row_is_told_by_place_and_reason(page: Node, made: dict):
    section = part(page, "losses")
    lost = Counter((entry.state, entry.stage) for entry in made["ledger"] if entry.state != "kept")
    order = [("quarantined", "read"), ("failed", "generate"), ("dropped", "generate"), ("merged", "construct"), ("dropped", "near"), ("dropped", "threshold"), ("dropped", "quota")]  # fmt: skip
    places = [item for item in section.one("ul", class_="reasons").parts if isinstance(item, Node)]
    assert [(item.one("code").text, item.one("span", class_="note").text) for item in places] == [
        (stage, str(lost[state, stage])) for state, stage in order
    ]
    assert set(lost) == set(order)
    near, threshold = places[4], places[5]
    assert "…% alike" in near.text and "Beaten by" in near.text
    assert "relevance … < 0.25" in threshold.text  # the bound is the same for all rows, and so is said
    assert (
        f"zhiling why demo {min(e.id for e in made['ledger'] if e.stage == 'near' and e.state == 'dropped')}"
        in near.text
    )
    assert "and 1 other kind of reason" in places[2].text and len(LOSING) == 5
    assert [row[0] for row in cells(section)] == ["sentiment_zh.csv:9", "translation.jsonl:118"]


def test_the_waterfall_ends_with_what_was_kept(page: Node, made: dict):
    texts = [node.text for node in part(page, "losses").one("figure").one("svg").all("text")]
    assert texts[:2] == ["came in", str(len(made["ledger"]))] and texts[-2:] == ["kept", str(len(made["kept"]))]
    assert int(texts[1]) - sum(int(text[1:]) for text in texts if text.startswith("−")) == len(made["kept"])


def test_the_loss_is_a_curve_per_task(page: Node, made: dict):
    section = part(page, "loss")
    rows = cells(section)
    assert [row[0] for row in rows] == list(TASKS)
    last = made["log"][-1]["validation"]
    assert [row[3] for row in rows] == [f"{last[task]:.3f}" for task in TASKS]
    first = [line["tasks"]["translation"] for line in made["log"][1:4] if "translation" in line["tasks"]]
    assert rows[3][1] == f"{sum(first) / len(first):.3f}"
    assert len(list(section.one("svg").all("polyline"))) == 4 and len(list(section.one("svg").all("circle"))) == 12
    assert (
        "130 steps" in section.text
        and f"{310 * 130:,} tokens" in section.text
        and "a point averages 3 steps" in section.text
    )


def test_before_and_after_are_the_results(page: Node, made: dict):
    section = part(page, "proof")
    rows = {row[0]: row[1:] for row in cells(section)}
    assert rows["translation"] == ["chrF", "40", "17.1", "20.5", "+3.4", "−1.2 … +8.1", "0.172", "○ cannot tell"]
    assert rows["handbook_qa"][-2:] == ["< 0.001", "▼ worse"] and rows["All tasks"][-1] == "▲ better"
    assert [row[0] for row in cells(section, 1)] == ["English", "Chinese"]
    assert (
        "95% interval" in section.text
        and "worse: -6.8 points" in section.text
        and "1 row had no answer" in section.text
    )
    assert "更差：-6.8 points" in part(page, "proof", "zh").text
    answers = {(a["example"], a["model"]): a["value"] for a in made["answers"]}
    ids = {row.id for row in made["heldout"] if row.task == "sentiment_zh"}
    better = sum(answers[id, "tuned"] > answers[id, "base"] for id in ids)
    worse = sum(answers[id, "tuned"] < answers[id, "base"] for id in ids)
    assert f"{better} better, {worse} worse, {len(ids) - better - worse} equal" in section.text
    charts = list(section.all("svg"))
    assert len(list(charts[0].all("circle"))) == 10 and len(list(charts[1].all("line", class_="whisker"))) == 15


def test_what_evaluation_writes_is_what_the_page_reads(tmp_path: Path):
    rows = [Example("mood", f"Is it good? {i}", "", "yes", lang="en" if i % 2 else "zh") for i in range(30)]
    base, tuned = (
        [Prediction(row.id, "yes" if i % k == 0 else "no", "stop") for i, row in enumerate(rows)] for k in (5, 2)
    )
    made = evaluate(rows, base, tuned, tasks={"mood": Task("mood")}, seed=1)
    (tmp_path / "results.json").write_text(json.dumps(made.to_dict()), encoding="utf-8")
    found = files.results(tmp_path)
    assert found.confidence == 0.95 and found.overall.n == 30 and [lang.name for lang in found.langs] == ["en", "zh"]
    mood, said = found.tasks[0], made.tasks["mood"]
    assert (mood.metric, mood.base, mood.tuned, mood.low, mood.high) == (
        "exact_match",
        said.base,
        said.tuned,
        said.low,
        said.high,
    )
    assert (mood.verdict, mood.words, mood.failed) == (said.verdict, said.words, 0) and set(said.words) == set(LANGS)


def test_answers_stand_side_by_side(page: Node, made: dict):
    cards = list(part(page, "answers").all("article"))
    rows = {row.output: row for row in made["heldout"]}
    assert len(cards) == 8
    for card in cards:
        prompt, reference, base, tuned = (node.text for node in card.all("dd"))
        row = rows[reference]
        assert prompt.startswith(row.instruction) and card.one("b").text == row.task
        marks = [node.text for node in card.all("span", class_="mark")]
        assert marks == ["✓" if text == reference else "✗" for text in (base, tuned)]


def test_samples_come_from_every_way_and_say_how_to_ask_for_more(page: Node, made: dict):
    kept = {row.id: row for row in made["kept"]}
    cards = list(part(page, "samples").all("article"))
    shown = [kept[re.search(r"zhiling why demo (\w{20})$", card.text.strip())[1]] for card in cards]
    assert Counter(row.maker.split(":")[0] for row in shown) == {"template": 4, "retrieve": 4, "generate": 4}
    lines = {record.id: f"{record.file}:{record.line}" for record in made["records"]}
    for card, row in zip(cards, shown, strict=True):
        assert row.maker in card.text and f"data from {lines[row.parents[1]]}" in card.text
        values = {score.scorer: score.value for score in made["scores"] if score.example == row.id}
        assert ("Grammar could not be scored" in card.text) == (values["grammar"] is None)
        assert card.text.count("Relevance to the task") == 1


def test_wordings_that_won_and_lost_are_told_with_reasons(page: Node, made: dict):
    rows = cells(part(page, "wordings"))
    competed = {one.instruction: one for one in made["templates"] if not one.maker.startswith("template")}
    won = [row for row in rows if "Won" in row[3]]
    assert {row[2] for row in won} == set(competed) and len(rows) == len(won) + len(LOSING)
    for task, way, text, outcome, why in won:
        template = competed[text]
        mine, kept = (sum(template.id in row.parents for row in made[kind]) for kind in ("examples", "kept"))
        assert outcome == f"▲ Won{mine} made, {kept} kept" and why == (template.why or "—")
        assert (task, template.maker.split(":")[0]) == (template.task, way)
    assert {(row[0], row[4], row[2]) for row in rows[len(won) :]} == set(LOSING) and {
        row[1] for row in rows[len(won) :]
    } == {"generate"}


def test_a_price_that_is_unknown_is_not_zero(page: Node, made: dict, tmp_path: Path):
    rows = {row[0]: row[1:] for row in cells(part(page, "bill"))}
    assert rows["embedded"][-1] == "$0.00" and rows["strong"] == ["46", "14", "12,400", "3,920", "1", "3", "$0.031"]
    assert rows["unpriced"] == ["5", "0", "—", "—", "0", "0", "price unknown"]
    assert rows["Total"] == ["at least $0.031"] and "Per kept row" not in part(page, "bill").text
    build_folder(tmp_path / "b")
    facts = json.loads((tmp_path / "b" / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "b" / "run.json").write_text(
        json.dumps({**facts, "spent": {"strong": SPENT["strong"]}}), encoding="utf-8"
    )
    assert f"Per kept row: ${0.0312 / len(made['kept']):.1e}" in part(written(tmp_path / "b"), "bill").text
    resumed = {**facts, "reused": 3, "spent": {"strong": {**SPENT["strong"], "unsure": 2}}}
    (tmp_path / "b" / "run.json").write_text(json.dumps(resumed), encoding="utf-8")
    said = part(written(tmp_path / "b"), "bill").text
    assert "2 attempts broke off" in said and f"Per kept row: ${0.0312 / len(made['kept']):.1e}" in said
    paid = Bill(
        tmp_path / "b" / "bills.jsonl", "strong"
    )  # the bill itself, of all executions, goes before what run.json says
    paid.write(Spent(calls=99, prompt_tokens=10, completion_tokens=5, usd=0.5), 0, None)
    paid.close()
    rows = {row[0]: row[1:] for row in cells(part(written(tmp_path / "b"), "bill"))}
    assert rows["strong"][0] == "99" and rows["strong"][-1] == "$0.5"


def test_the_ledger_balances_or_says_loudly_that_it_does_not(page: Node, made: dict, tmp_path: Path):
    section, states = part(page, "ledger"), made["run"]["states"]
    assert cells(section)[0] == [
        *(str(states[s]) for s in ("kept", "dropped", "merged", "failed", "quarantined")),
        str(len(made["ledger"])),
    ]
    assert f"Balanced: {len(made['ledger'])} rows in" in section.text and not list(section.all("p", class_="alarm"))
    facts = build_folder(tmp_path / "b")["run"]
    for wrong in ({"came": facts["came"] + 1}, {"states": {**facts["states"], "kept": 1}}):
        (tmp_path / "b" / "run.json").write_text(json.dumps({**facts, **wrong}), encoding="utf-8")
        bad = written(tmp_path / "b")
        assert "NOT BALANCED" in part(bad, "ledger").one("p", class_="alarm").text
        assert "账目不符" in part(bad, "ledger", "zh").one("p", class_="alarm").text


def test_the_recipe_is_shown_as_it_was_read(page: Node, made: dict):
    assert part(page, "recipe").one("pre").text == (made["folder"] / "recipe.yaml").read_text(encoding="utf-8")


def test_a_run_that_stopped_early_says_what_is_not_there(tmp_path: Path):
    for until, title in (
        ("construct", "{} rows constructed, not yet selected"),
        ("score", "{} rows constructed, not yet selected"),
    ):
        made = build_folder(tmp_path / until, until=until)
        page = written(tmp_path / until)
        assert page.one("main", id="en").one("h1").text == title.format(len(made["examples"]))
        assert cells(part(page, "ways"))[0][3:] == ["—", "—"]
        for key, said in (("losses", "not"), ("loss", "Nothing was tuned"), ("proof", "Nothing was evaluated"), ("answers", "no answers"), ("samples", "no kept rows"), ("ledger", "has not come so far")):  # fmt: skip
            assert said in part(page, key).text, (until, key)
        assert ("names no scorer" in part(page, "scores").text) == (until == "construct")
        assert not list(part(page, "scores").all("rect", class_="f-kept"))
    build_folder(tmp_path / "read", until="read")
    assert written(tmp_path / "read").one("h1").text == "0 rows constructed, not yet selected"
    made = build_folder(tmp_path / "select", until="select")
    assert written(tmp_path / "select").one("h1").text == f"{len(made['kept'])} rows kept, not yet evaluated"


def test_facts_that_are_missing_are_dashes(tmp_path: Path):
    build_folder(tmp_path / "a")
    results = {"tasks": {"x": {"verdict": "cannot tell", "base": None, "tuned": float("nan"), "n": None}}}
    (tmp_path / "a" / "results.json").write_text(json.dumps(results), encoding="utf-8")
    for name in ("run.json", "recipe.yaml"):
        (tmp_path / "a" / name).unlink()
    page = written(tmp_path / "a")
    assert cells(part(page, "proof")) == [["x", *"———————", "○ cannot tell"]]
    assert "how many came in is not recorded" in part(page, "ledger").text
    assert "No model was asked" in part(page, "bill").text and "holds no recipe" in part(page, "recipe").text
    assert page.one("main", id="en").one("h1").text == "0 of 1 tasks better, 1 cannot tell"


def test_a_log_cut_short_by_a_kill_still_draws(tmp_path: Path):
    build_folder(tmp_path / "a", until="select")
    add_tuning(tmp_path / "a", steps=20)
    with (tmp_path / "a" / "tune" / "metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 21, "tasks": {"translation": 0.')
    section = part(written(tmp_path / "a"), "loss")
    assert "20 steps" in section.text and len(list(section.one("svg").all("polyline"))) == 4


def test_hostile_text_stays_text(tmp_path: Path):
    def spoil(text: str) -> str:
        return text + HOSTILE

    build_folder(tmp_path / "x", spoil=spoil)
    add_tuning(tmp_path / "x", spoil=spoil)
    add_results(tmp_path / "x", spoil=spoil)
    html = build(tmp_path / "x").read_text(encoding="utf-8")
    page = parse(html)
    assert html.count("<script") == 1 and html.count("<img") == 0 and html.count("</main>") == 2
    assert not [name for node in page.all() for name in node.attrs if name.startswith("on")]
    for key in SECTIONS:
        for lang in LANGS:
            assert HOSTILE in part(page, key, lang).text or key in ("flow", "varied", "ledger"), (key, lang)
    assert HOSTILE in page.one("title").text
    for picture in re.findall(r"<svg class=\"pic\".*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(picture)


def test_characters_that_html_forbids_are_replaced(tmp_path: Path):
    build_folder(tmp_path / "x", spoil=lambda text: text + "\x00\x1b\x85")
    html = build(tmp_path / "x").read_bytes().decode("utf-8")
    assert "�" in html and not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", html)
    facts = json.loads((tmp_path / "x" / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "x" / "run.json").write_text(json.dumps({**facts, "name": "\ud800"}), encoding="utf-8")
    assert "<title>? · " in build(tmp_path / "x").read_text(encoding="utf-8")


def test_long_texts_are_folded_and_very_long_ones_are_cut(tmp_path: Path):
    def spoil(text: str) -> str:
        return text if re.fullmatch(r"[\w.:]*", text) else text + " 很长 long" * 1000  # names stay as they are

    build_folder(tmp_path / "x", spoil=spoil)
    html = build(tmp_path / "x").read_text(encoding="utf-8")
    page = parse(html)
    card = next(part(page, "samples").all("article"))
    assert card.one("details", class_="long").one("summary").attrs["data-more"].endswith("characters in all")
    assert "cut here" in card.text and len(card.text) < 30_000 and len(html) < 1_500_000


def test_scorers_that_say_the_same_of_every_row_need_no_picture(tmp_path: Path):
    rows = [Example("mood", f"Good or bad? {i}", "", "good", lang="en", maker="template:0") for i in range(9)]
    said = [
        Score(row.id, name, value)
        for i, row in enumerate(rows)
        for name, value in (("echo", 0.0), ("length", float(i)), ("format", 1.0))
    ]
    said += [Score(row.id, "clarity", None, "no model") for row in rows]
    store = Store(tmp_path)
    store.begin()
    for kind, items in (("examples", rows), ("scores", said)):
        store.commit(Done(kind, kind, "all", (write(tmp_path, f"{kind}.parquet", kind, items),), {}))
    store.close()
    section = part(written(tmp_path), "scores")
    assert [box.text for box in section.all("h3")] == ["Clarityclarity", "Lengthlength"] and len(
        list(section.all("svg"))
    ) == 1
    assert (
        " ".join(section.one("p", class_="same").text.split())
        == "The same value for every row: Repeats the prompt echo 0 · Format format 1"
    )
    assert "No row could be scored." in section.text and "∅ 9 rows could not be scored: no model (9)" in section.text


def test_the_page_s_size_does_not_grow_with_the_rows(tmp_path: Path, html: str):
    made = build_folder(tmp_path / "large", repeat=7)
    add_tuning(tmp_path / "large", steps=3000)
    add_results(tmp_path / "large")
    assert len(made["examples"]) > 5000
    large = build(tmp_path / "large").read_text(encoding="utf-8")
    assert len(large.encode()) < 500_000 and len(large) < 1.3 * len(html)


def test_equal_folders_give_equal_pages(tmp_path: Path, made: dict, html: str):
    again = tmp_path / "demo"
    build_folder(again)
    add_tuning(again)
    add_results(again)
    assert build(again).read_text(encoding="utf-8") == html
    assert build(again).read_text(encoding="utf-8") == html
    assert not list(again.glob(".report*"))


def test_the_first_language_is_the_reader_s_or_the_recipe_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build_folder(tmp_path / "a", until="construct")
    for asked, langs, first in (
        (None, ("zh", "en"), "zh"),
        ("en_US", ("zh", "en"), "en"),
        ("zh", ("en",), "en"),
        ("fr", ("en", "zh"), "en"),
    ):
        monkeypatch.delenv("ZHILING_LANG", raising=False)
        if asked:
            monkeypatch.setenv("ZHILING_LANG", asked)
        page = written(tmp_path / "a", langs=langs)
        assert page.one("html").attrs["class"] == first
        assert [main.attrs["id"] for main in page.all("main")] == list(langs)
        assert len(list(page.all("nav", class_="switch"))) == (len(langs) > 1)


def test_samples_can_be_more_few_or_none(tmp_path: Path):
    build_folder(tmp_path / "a")
    for wanted in (0, 1, 5):
        assert len(list(part(written(tmp_path / "a", samples=wanted), "samples").all("article"))) == wanted


def test_the_run_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build_folder(tmp_path / "my runs" / "a")
    monkeypatch.chdir(tmp_path)
    assert "zhiling why 'my runs/a' " in build(Path("my runs/a")).read_text(encoding="utf-8").replace("&#39;", "'")
    assert str(tmp_path) not in build(tmp_path / "my runs" / "a").read_text(encoding="utf-8")


def test_mistakes_are_one_line(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match="not a run's folder"):
        build(tmp_path / "empty")
    build_folder(tmp_path / "a", until="construct")
    for langs in ((), ("fr",)):
        with pytest.raises(RecipeError, match="the report speaks en, zh"):
            build(tmp_path / "a", langs=langs)
    (tmp_path / "a" / "results.json").write_text('{"tasks": ', encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.json: not JSON"):
        build(tmp_path / "a")


def test_a_full_disk_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build_folder(tmp_path / "a", until="construct")
    before = build(tmp_path / "a").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match="the disk is full"):
        build(tmp_path / "a")
    assert (tmp_path / "a" / "report.html").read_bytes() == before and not list((tmp_path / "a").glob(".report*"))
