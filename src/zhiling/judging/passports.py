"""What is known about each metric before it is believed: agreement with people, hold of length, speed, cost.

`benchmarks/passports.py --write` measures and writes `score/passports.json` and the pages that `pages` makes of it; `zhiling score --passport`
prints the same. `registry.passport` looks one up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zhiling import registry
from zhiling.errors import lang

KINDS = {
    "human": ("people", "人工"),
    "model": ("a model", "模型"),
    "planted": ("planted", "植入"),
    "rule": ("rule", "规则"),
}
HEAD = {
    "en": (
        "metric",
        "language",
        "agreement",
        "95% interval",
        "n",
        "abstains",
        "judged by",
        "on",
        "with length",
        "zh − en",
        "rows / CPU s",
        "cost / 1,000",
        "measured",
    ),
    "zh": (
        "指标",
        "语言",
        "一致性",
        "95% 区间",
        "数量",
        "弃权",
        "判定者",
        "数据",
        "与长度相关",
        "中−英",
        "行/CPU 秒",
        "每千行费用",
        "测量日期",
    ),
}
COMMON = ("length", "rows_per_cpu_s", "cost_per_1000", "date", "asked", "zh_minus_en")


def table() -> list[dict[str, Any]]:
    """One row per registered scorer, language and evidence; `kind` None where there is no passport, `believed` where it beats chance."""
    out: list[dict[str, Any]] = []
    for name in registry.names("scorer"):
        told = registry.passport(name) or {}
        common = {key: told.get(key) for key in COMMON}
        found = [{"lang": lang, **told[lang]} for lang in ("en", "zh") if lang in told] + list(told.get("also", ()))
        out.extend({"metric": name, **one, **common, "believed": registry.above_chance(one)} for one in found)
        if not found:
            out.append({"metric": name, "lang": "", "kind": None, **common, "believed": False})
    return out


def cells(row: Mapping[str, Any], language: str) -> list[str]:
    """A table row's texts in the language of the page."""
    zh = language == "zh"
    if row["kind"] is None:
        return [row["metric"], "", "无证书" if zh else "no passport", *[""] * (len(HEAD["en"]) - 3)]
    checked = f" ({row['cross_validated']:.3f} cv)" if "cross_validated" in row else ""
    gap = (row["zh_minus_en"] or {}).get("value")
    asked = f"; {row['asked']}" if row["asked"] else ""
    return [
        row["metric"], row["lang"], f"{row['measure']} {row['value']:.3f}{checked}{_doubt(row, zh)}", f"{row['low']:.3f}–{row['high']:.3f}",
        str(row["n"]), f"{row.get('abstained', 0):.0%}", KINDS[row["kind"]][zh], row["data"] + asked,
        "–" if row["length"] is None else f"{row['length']:+.2f}", "–" if gap is None else f"{gap:+.3f}",
        f"{row['rows_per_cpu_s']:,.3g}" if row["rows_per_cpu_s"] < 1 else f"{row['rows_per_cpu_s']:,.0f}", f"{row['cost_per_1000']:g}",
        row["date"] or "–",
    ]  # fmt: skip


def _doubt(row: Mapping[str, Any], zh: bool) -> str:
    """Words for agreement that is not above chance."""
    if row["believed"]:
        return ""
    return (
        ("，劣于随机" if zh else ", worse than chance")
        if row["high"] < 0.5
        else ("，不优于随机" if zh else ", no better than chance")
    )


def lines() -> list[tuple[list[str], bool]]:
    """The table in the reader's language: the texts of each row, and whether it is to be believed. The first is the head."""
    language = "zh" if lang() == "zh" else "en"
    return [(list(HEAD[language]), True), *((cells(row, language), row["believed"]) for row in table())]


SAID = {
    "en": (
        "# Metric passports",
        "Written on {date} by `python benchmarks/passports.py --write`; `zhiling score --passport` prints this table.",
        "*Agreement* is the share of pairs in the right order (pairs) or the area under the ROC curve (auc); 0.5 is chance. *Abstains*: "
        "the share of "
        "these rows that the metric would not score; they count as ties. *Judged by*: "
        "people; a model; planted, that is known defects put into clean rows, which says that the metric finds what it looks for and no "
        "more; rule, that is cases of an exact rule. `cv` is the mean of the sets under cross-validation, for metrics whose weights were "
        "fitted to these labels: believe that one. Rows after a metric's first ones show it on data it was neither fitted to nor, often, "
        "made for. "
        "*With length* is Spearman's correlation with output length on Alpaca, after "
        "length has been taken out where selectors do so. *zh − en* is the mean difference on the same content (below). A metric without a "
        "passport, or whose passport shows no agreement above chance in any language, can be a hard filter only with `force: true`. "
        "Metrics "
        "that ask a model were measured with the embedded one, named in the table, and on few rows: another model needs another "
        "measurement.",
    ),
    "zh": (
        "# 指标证书",
        "写于 {date}，由 `python benchmarks/passports.py --write` 生成；`zhiling score --passport` 打印同一张表。",
        "“一致性”是排序正确的比例（pairs）或 ROC 曲线下面积（auc），0.5 即随机。“弃权”是该指标不予评分的行的比例，按平局计。“判定者”："
        "人工；模型；植入，即在干净的行中放入已知缺陷，"
        "只能说明指标找得到它所找的东西；规则，即精确规则的用例。`cv` 是权重由这些标注拟合的指标在交叉验证下各数据集的均值，应以它为准。"
        "同一指标靠后的行，是在未用于拟合、往往也并非其设计目标的数据上的表现。"
        "“与长度相关”是在 Alpaca 上与输出长度的 Spearman 相关，选择器会剔除长度影响的指标按剔除后计算。"
        "“中−英”是同一内容两种语言得分之差的均值（见下）。"
        "没有证书、或证书显示在任何语言上都不优于随机的指标，须写 `force: true` 才能作硬性过滤。"
        "需要询问模型的指标只用内置模型（表中注明）在少量行上测过，换模型须重测。",
    ),
}  # fmt: skip
FAIR = {
    "en": (
        "## The same content in Chinese and in English",
        "Mean of zh − en over rows that say the same, turned so that higher is better; *spread* is the standard deviation of all values, "
        "against "
        "which a gap is to be seen. Translations by people.",
        ("metric", "on", "n", "zh − en", "95% interval", "spread", "scored en", "scored zh"),
        "## Another group of people",
        "One group's name in place of another's; a score ought not to move. *Moved*: mean absolute change; *by 0.05*: share of rows that "
        "change by "
        "more than that; *crosses 0.5*: share on the other side of 0.5 after it; *first − other*: the mean change with its sign (in "
        "CrowS-Pairs the first names the group that the stereotype is about), higher being better.",
        ("metric", "on", "n", "moved", "by 0.05", "crosses 0.5", "first − other", "95% interval"),
    ),
    "zh": (
        "## 同一内容的中文与英文",
        "对内容相同的行求“中−英”的均值，已统一为越高越好；“离散”是全部得分的标准差，差距应与之比较。译文均为人工翻译。",
        ("指标", "数据", "数量", "中−英", "95% 区间", "离散", "英文评分率", "中文评分率"),
        "## 换一个人群",
        "把一个人群的名称换成另一个，得分本不应变化。“变动”：绝对变化的均值；“超过 0.05”：变化超过该值的行的比例；“越过 0.5”：换名后落到 "
        "0.5 另一侧的比例；"
        "“前−后”：带符号的平均变化（CrowS-Pairs 中前者为刻板印象所指的人群），越高越好。",
        ("指标", "数据", "数量", "变动", "超过 0.05", "越过 0.5", "前−后", "95% 区间"),
    ),
}  # fmt: skip


def pages() -> dict[str, str]:
    """docs/passports.md and docs/passports.zh.md, as they ought to be."""
    out = {}
    for language, file in (("en", "passports.md"), ("zh", "passports.zh.md")):
        title, when, meaning = SAID[language]
        same, about_same, same_head, group, about_group, group_head = FAIR[language]
        parts = [
            title, when.format(date=registry.passports()["date"]), meaning, _rows(HEAD[language], (cells(row, language) for row in table())),
            same, about_same, _rows(same_head, _translated()), group, about_group, _rows(group_head, _swapped()),
        ]  # fmt: skip
        out[file] = "\n\n".join(parts) + "\n"
    return out


def _rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)).replace(
        "| --- ", "|---"
    )


def _translated() -> Iterator[list[str]]:
    for name, told in sorted(registry.passports()["metrics"].items()):
        gap = told.get("zh_minus_en") or {"sets": []}
        for one in gap["sets"]:
            if one["n"]:
                known = [f"{one['value']:+.3f}", f"{one['low']:+.3f} to {one['high']:+.3f}", f"{gap['spread']:.3f}"]
                yield [name, one["set"], str(one["n"]), *known, f"{one['scored_en']:.0%}", f"{one['scored_zh']:.0%}"]


def _swapped() -> Iterator[list[str]]:
    for name, told in sorted(registry.passports()["metrics"].items()):
        for one in told.get("swapped", ()):
            if one["n"]:
                known = [f"{one['moved']:.3f}", f"{one['share']:.1%}", f"{one['flipped']:.1%}", f"{one['value']:+.3f}"]
                yield [name, one["set"], str(one["n"]), *known, f"{one['low']:+.3f} to {one['high']:+.3f}"]
