"""What an evaluation asks must not be trained on: copied, reworded or translated."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from select_rows import kept

from zhiling.embed import Use
from zhiling.errors import DataError, RecipeError
from zhiling.select.decontaminate import Copies, Looker, decontaminate, look, reworded
from zhiling.types import Example, Verdict

MATH = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)
REWORDED = (
    "What number of clips did Greta sell in all in April and May, if she sold clips to forty-eight of her pals in April, "
    "and after that half as many clips in May?"
)
OTHER = "A train travels 60 miles in the first hour and 75 miles in the second hour. How far does it travel in the two hours together?"
PASSAGE_EN = (
    "Nikola Tesla was born in 1856 in Smiljan and died in New York in 1943. He worked for Thomas Edison before he founded his own "
    "company, and he is best known for the alternating current motor.\nIn what year did Tesla die?"
)
PASSAGE_ZH = (
    "尼古拉·特斯拉（Nikola Tesla）1856年出生于斯米连，1943年在纽约去世。他曾为托马斯·爱迪生工作，之后创办了自己的公司，"
    "并以交流电动机闻名于世。\n特斯拉是哪一年去世的？"
)


def run(rows: Sequence[Example], held: Sequence[Example], here: Path = Path(), **settings: object) -> list[Verdict]:
    return list(decontaminate(rows, heldout=held, embedder=Use(), here=here, **settings))  # type: ignore[arg-type]


def dropped(verdicts: Sequence[Verdict]) -> dict[str, str]:
    return {verdict.example: verdict.rival for verdict in verdicts if not verdict.kept}


def test_a_reworded_item_is_found_and_named() -> None:
    held = [Example("e", MATH, "", "72"), Example("e", OTHER, "", "135")]
    leak, clean = (
        Example("t", REWORDED, "", "72"),
        Example("t", "Name the largest planet of the solar system, please.", "", "Jupiter"),
    )
    assert dropped(run([leak, clean], held)) == {leak.id: held[0].id}


@pytest.mark.parametrize(("item", "shown"), [(PASSAGE_EN, PASSAGE_ZH), (PASSAGE_ZH, PASSAGE_EN)])
def test_a_translated_item_is_found(item: str, shown: str) -> None:
    held = [Example("e", item), Example("e", MATH)]
    leak = Example("t", "Read and answer.", shown, "1943")
    rows = [leak, Example("t", "写一首关于秋天的诗，不超过四行。", "", "……"), Example("t", OTHER, "", "135")]
    assert dropped(run(rows, held)) == {leak.id: held[0].id}


@pytest.mark.parametrize(
    "item", [MATH, "某商店把一批进价为每件八十元的衬衫按一百二十元出售，每天能卖出二十件，请问每天的利润是多少元？"]
)
def test_an_item_inside_a_longer_row_is_found(item: str) -> None:
    held = [Example("e", item)]
    row = Example("t", "闲谈 chat. " * 400 + item + " 再见 bye. " * 400, "", "x")
    (verdict,) = run([row], held)
    assert not verdict.kept
    assert verdict.rival == held[0].id
    assert "100%" in verdict.why


def test_the_wording_that_items_share_is_no_leak() -> None:
    wording = "Decide whether the following review of a restaurant is positive or negative and answer with one word: "
    held = [
        Example("e", wording + thing) for thing in ("the soup was cold", "great tea", "never again", "lovely staff")
    ]
    assert list(Copies([item.instruction for item in held]).of([wording + "my dog likes it"])) == []


def test_other_numbers_make_other_features() -> None:
    looker = Looker(["三个苹果和12个梨一共多少钱", MATH], Use())
    kind, same = looker.features(look("3个苹果和十二个梨一共多少钱"), 0, 0.9)
    _, other = looker.features(look("7个苹果和十五个梨一共多少钱"), 0, 0.9)
    assert kind == "reworded"
    assert same[2] > other[2]
    assert looker.features(look("How much are three apples and 12 pears?"), 0, 0.9)[0] == "translated"


def test_files_of_any_shape_name_what_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "gsm.jsonl").write_text(json.dumps({"question": MATH, "answer": "#### 72"}) + "\n", encoding="utf-8")
    alpaca = {"instruction": "总结下面的文章。", "input": PASSAGE_ZH, "output": "1943"}
    (tmp_path / "alpaca.jsonl").write_text(json.dumps(alpaca, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = [Example("t", REWORDED), Example("t", PASSAGE_EN), Example("t", OTHER)]
    found = dropped(run(rows, [], tmp_path, against=["gsm.jsonl", "alpaca.jsonl"]))
    assert set(found) == {rows[0].id, rows[1].id}
    (tmp_path / "odd.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    for name in ("odd.jsonl", "nowhere.jsonl"):
        with pytest.raises(DataError):
            run(rows, [], tmp_path, against=[name])


def test_order_does_not_matter_and_nothing_is_lost() -> None:
    held = [Example("e", text) for text in (MATH, OTHER, PASSAGE_EN)]
    rows = [
        Example("t", text, "", str(at)) for at in range(3) for text in (REWORDED, PASSAGE_ZH, OTHER, "讲个笑话。", "")
    ]
    expected = {verdict.example: verdict for verdict in run(rows, held)}
    assert len(expected) == len(rows)
    for seed in range(2):
        shuffled, items = random.Random(seed).sample(rows, len(rows)), random.Random(seed).sample(held, len(held))
        assert {verdict.example: verdict for verdict in run(shuffled, items)} == expected


def test_hostile_rows_are_data() -> None:
    held = [Example("e", ""), Example("e", "\ud800"), Example("e", MATH), Example("e", "short")]
    rows = [
        Example("t", ""),
        Example("t", "\ud800 \udfff and some more words to look at"),
        Example("t", "Где находится самая высокая гора в мире и какова её высота?"),
        Example("t", "word " * 200_000),
        Example("t", "Say it.", "", "y" * 1_000_000),
    ]
    assert len(kept(run(rows, held))) == len(rows)
    assert all(verdict.kept for verdict in run(rows, []))
    assert run([], held) == []


def test_mistakes_are_told() -> None:
    with pytest.raises(RecipeError, match="probability"):
        run([], [], threshold=2.0)


ZH_ITEMS = [
    "小明有3个苹果，妈妈又买来5个，送给邻居2个以后，他还剩下多少个苹果？",
    "请写一封短信，感谢老师多年来的耐心教导和关心。",
]


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("items", [ZH_ITEMS, ["3 5 2 5 3 2 5 3 2 5 3 2 9 8"]], ids=["zh", "numbers"])
def test_nor_could_those_in_chinese_or_with_numbers_in_common(
    threshold: float, items: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, pool = random.Random(5), [*"".join(items), *"山水风月城市学校蓝绿"]
    rows = ["".join(rng.sample(pool, min(len(pool), rng.randint(4, 40)))) for _ in range(200)]
    rows += ["妈妈又买来5个苹果，小明原有3个，送给邻居2个以后，还剩下几个苹果呢？", "9 8 3 5 2 5 3 2 5 3 2 5 3 2"]
    looker = Looker(items, Use())
    found = list(reworded(rows, looker, threshold))
    spared = [
        row for row in rows if look(row).lang == looker.items[0].lang and not looker.possible(look(row), threshold)
    ]
    assert spared
    monkeypatch.setattr(Looker, "possible", lambda self, row, threshold: True)
    assert list(reworded(rows, looker, threshold)) == found
    assert found


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95, 1.0])
def test_rows_whose_vector_is_not_asked_for_could_not_have_been_found(
    threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound that saves the embedding changes no verdict: over mixtures of items' words, near misses among them."""
    rng, items = (
        random.Random(4),
        [MATH, OTHER, "Write a short story about an old fisherman who lost 3 boats in one winter."],
    )
    pool = [word for item in items for word in item.split()] + ["harbour", "seven", "16", "quickly", "letters", "green"]
    rows = [" ".join(rng.sample(pool, rng.randint(3, 30))) for _ in range(200)] + [REWORDED, PASSAGE_EN]
    looker = Looker(items, Use())
    found = list(reworded(rows, looker, threshold))
    spared = sum(not looker.possible(look(row), threshold) for row in rows)
    assert spared or threshold < 0.5
    monkeypatch.setattr(Looker, "possible", lambda self, row, threshold: True)
    assert list(reworded(rows, looker, threshold)) == found
    assert found or threshold == 1.0


def test_what_is_said_again_costs_nothing_and_gets_the_same_verdict() -> None:
    asked: list[int] = []

    class Counting(Use):
        def __call__(self, texts: Sequence[str]):  # type: ignore[no-untyped-def]
            asked.append(len(texts))
            return super().__call__(texts)

    rows = [Example("t", f"{at}: answer in your own words.", REWORDED) for at in range(1500)]
    found = list(decontaminate(rows, heldout=[Example("e", MATH)], embedder=Counting(), here=Path()))
    assert not any(verdict.kept for verdict in found)
    assert sum(asked) == 2  # the item, and the one text of all the rows


@pytest.mark.parametrize(
    ("wording", "first", "second", "same"),
    [
        (
            "阅读文本“{}”，它流露出怎样的情感？请在正面、负面之中作出判断。",
            "服务员忙着聊天，叫了三次才过来，菜单往桌上一扔就走了。",
            "宣传说能去黑头，用完脸上又红又痒，三天都没敢出门。",
            "叫了三次服务员才过来，忙着聊天，把菜单往桌上一扔就走了。",
        ),
        (
            "Read the customer review “{}” carefully and decide which of the two labels, positive or negative, describes its overall mood.",
            "The waiter kept chatting, came after three calls and threw the menu on our table.",
            "They promised clear skin, yet my face was red and itchy for days.",
            "On our table the waiter threw the menu; he kept chatting and came after three calls.",
        ),
    ],
)
def test_the_wording_of_one_template_is_no_evidence(wording: str, first: str, second: str, same: str) -> None:
    held = [
        Example("e", wording.format(first), "", "a", parents=("template", "record 1")),
        Example("e", MATH),
        Example("e", OTHER),
    ]
    other = Example("e", wording.format(second), "", "a", parents=("template", "record 2"))
    leak = Example("e", wording.format(same), "", "a", parents=("template", "record 3"))
    copy = Example("e", wording.format(first + " 另外 also"), "", "a", parents=("template", "record 4"))
    assert dropped(run([other, leak, copy], held)) == {leak.id: held[0].id, copy.id: held[0].id}
