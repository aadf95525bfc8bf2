"""A run's FAQ as a page: grouped, cited, deduplicated, contradictions flagged, coverage told; safe whatever documents hold."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from zhiling.embed import Use
from zhiling.errors import DataError, RecipeError
from zhiling.export import export
from zhiling.export.faq import Entry, conflict, gather, grouped
from zhiling.export.faq_page import render
from zhiling.recipe import load
from zhiling.run import Run
from zhiling.store import current, read
from zhiling.types import Example, Record

RECIPE = """
name: page
tasks:
  faq: {{family: faq, description: Answer., langs: [en, zh], inputs: [passage], target: answer, data: {{path: docs, format: passages}}}}
construct: [{{faq: {{ways: [own, rules], grounded: {grounded}}}}}]
score: [length]
select: [exact, {{semantic: {{threshold: 0.7}}}}]
"""
SHOP = """# Shop

## Returns

Q: How many days do I have to return goods?
A: You have 7 days.

Q: Who pays for sending goods back?
A: The buyer does.

## How long can I return goods?

You have 14 days.

## Stores

There are stores in every large town of the country.

## Is <b>Windows</b> supported?

Yes, see `setup` and [the guide](guide.md), <script>alert(1)</script> or [the site](https://example.org/a).

# 商店

## 退货需要在几天之内办理？

七天之内。

## 几天之内可以退货？

14 天之内。
"""


def made(folder, grounded="false", text=SHOP):
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "shop.md").write_text(text, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE.format(grounded=grounded), encoding="utf-8")
    with Run(load(folder / "recipe.yaml"), folder / "run", until="select") as run:
        run.execute()
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("faq"))


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links, self.tags = set(), [], set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        self.ids |= {found["id"]} if "id" in found else set()
        self.links += [found["href"]] if tag == "a" else []


def test_every_answer_cites_its_passage_and_every_link_leads_somewhere(run, tmp_path):
    count = export(run, tmp_path / "faq.html", "faq")
    html, md = (tmp_path / "faq.html").read_text(encoding="utf-8"), (tmp_path / "faq.md").read_text(encoding="utf-8")
    page = Links()
    page.feed(html)
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= page.ids and count == len({one for one in page.ids if one.startswith("q-")})
    assert [link for link in page.links if not link.startswith("#")] == ["https://example.org/a"]
    assert not page.tags & {"script", "b", "img", "iframe"} and "&lt;script&gt;" in html
    anchors = set(re.findall(r'<a id="([^"]+)">', md))
    assert set(re.findall(r"\]\(#([^)]+)\)", md)) <= anchors
    assert md.count("\nSource: [docs/shop.md") == count and not re.search(r"(?<!\\)<script>", md)


def test_groups_coverage_and_order(run):
    page = gather(run, Use())
    assert [topic for topic, _ in page.groups] == ["Returns", "Shop", "Shop"] or [topic for topic, _ in page.groups][
        :2
    ] == ["Returns", "Shop"]
    cited, total, share = page.coverage
    assert (cited, total) == (total - 1, len(page.passages)) and 0.5 < share < 1
    assert [record.fields["heading"] for record in page.uncited] == ["Shop > Stores"]


def test_contradictions_are_flagged_in_both_languages(run):
    page = gather(run, Use())
    against = {entry.question: [why for _, _, _, why in entry.against] for entry in page.entries if entry.against}
    assert against["How many days do I have to return goods?"] == ["numbers differ: 7 / 14"]
    assert any("几天之内" in question for question in against)
    assert "Who pays for sending goods back?" not in against


@pytest.mark.parametrize(
    ("question", "one", "other", "found"),
    [
        ("How many days?", "7 days.", "Within seven days of delivery.", False),
        ("How many days?", "7 days.", "14 days.", True),
        ("How many days?", "7 days, or 14 abroad.", "14 days.", False),
        ("What is it called in 2024?", "Model 3", "Model 4", False),
        ("要几天？", "七天。", "7 天之内。", False),
        ("要几天？", "七天。", "十天。", True),
        ("Can I pay by card?", "Yes, by any card.", "No, cards are not taken.", True),
        ("Can I pay by card?", "Yes, by any card.", "Cards are taken at the desk.", False),
        ("支持 Windows 吗？", "支持。", "不支持。", True),
        ("支持 Windows 吗？", "支持。", "支持，但不同版本有差异。", False),
        ("如何支付？", "刷卡。", "不能刷卡。", False),
    ],
)
def test_what_contradicts(question, one, other, found):
    assert bool(conflict(question, one, other)) is found and bool(conflict(question, other, one)) is found


def test_a_repeat_adds_its_passage_and_wording(tmp_path):
    text = "# A\n\n## Where is the shop?\n\nIn Long Street.\n\n# B\n\n## Where is the shop located?\n\nIn Long Street, by the bank.\n"
    page = gather(made(tmp_path, text=text), Use())
    (entry,) = page.entries
    assert len(entry.cites) == 2 and len(entry.also) == 1 and page.coverage[2] == 1.0


def test_many_questions_of_one_document_are_grouped_by_meaning():
    said = {
        "pay": "How do I pay by card for order {}?",
        "log": "Why does the server log error {}?",
        "zh": "如何修改密码 {}？",
    }
    entries = []
    for at in range(8):
        for key, text in said.items():
            question = text.format("ABCDEFGH"[at])
            record = Record("t", {"passage": question, "heading": "", "title": "", "source": "d"}, file="d", line=at)
            entries.append(
                Entry(Example("t", question, output="It depends.", lang="zh" if key == "zh" else "en"), [record])
            )
    groups = grouped(entries, Use())
    assert sorted(len(some) for _, some in groups) == [8, 8, 8]
    assert {topic for topic, _ in groups} >= {"card · order"} or all(topic for topic, _ in groups)


def test_rows_with_their_passage_and_without_make_the_same_page(tmp_path):
    a, b = gather(made(tmp_path / "a"), Use()), gather(made(tmp_path / "b", "true"), Use())
    assert [entry.question for entry in a.entries] and {e.question for e in a.entries} == {
        e.question for e in b.entries
    }
    assert all(entry.row.input == entry.cites[0].fields["passage"] for entry in b.entries if len(entry.cites) == 1)


def test_mistakes_are_told(run, tmp_path):
    with pytest.raises(RecipeError, match=r"ends in .html or .md"):
        export(run, tmp_path / "faq.pdf", "faq")
    other = tmp_path / "r.yaml"
    demo = Path(__file__).parents[2] / "src/zhiling/library/demo/sentiment_en.csv"
    other.write_text(
        f"name: x\ntasks: {{t: {{family: classification, description: D., labels: [positive, negative], inputs: [text], target: label, data: {demo}}}}}\nconstruct: [template]\n",
        encoding="utf-8",
    )
    with Run(load(other), tmp_path / "run", until="select") as work:
        work.execute()
    with pytest.raises(DataError, match="no FAQ rows"):
        export(tmp_path / "run", tmp_path / "faq.md", "faq")


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    for name in ("a", "b"):
        export(run, tmp_path / f"{name}.md", "faq")
    assert (tmp_path / "a.md").read_bytes() == (tmp_path / "b.md").read_bytes()
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_shipped_recipe_needs_no_model(tmp_path):
    with Run(load(RECIPES / "faq.yaml"), tmp_path, until="select") as work:
        work.execute()
    page = gather(tmp_path, Use())
    assert {entry.row.lang for entry in page.entries} == {"en", "zh"} and len(page.entries) > 100
    assert page.coverage[2] == 1.0 and {entry.row.maker for entry in page.entries} <= {"faq:own", "faq:rules"}
    assert not [entry.question for entry in page.entries if entry.against]
    assert "questions · 52 of 52 passages cited" in render(page, "faq.md.j2")


@pytest.mark.slow
@pytest.mark.model
def test_the_shipped_recipe_for_question_answering(tmp_path):
    with Run(load(RECIPES / "document_qa.yaml"), tmp_path, until="select") as work:
        work.execute()
    kept = [row for done in current(tmp_path) for row in read(tmp_path, done.of("kept"))]
    makers = {row.maker for row in kept}
    assert {"document_qa:own", "document_qa:unanswerable"} < makers and len(makers) > 2
    quoting = [row for row in kept if row.maker != "document_qa:unanswerable"]
    assert all("Evidence: " in row.output or "依据：" in row.output for row in quoting)
