"""What is known about each metric before it is believed: agreement with people, hold of length, speed, cost.

`benchmarks/passports.py --write` measures and writes `score/passports.json` and the pages that `pages` makes of it; `zhiling score --passport`
prints the same. `registry.passport` looks one up.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        "judged by",
        "on",
        "with length",
        "rows / CPU s",
        "cost / 1,000",
    ),
    "zh": ("指标", "语言", "一致性", "95% 区间", "数量", "判定者", "数据", "与长度相关", "行/CPU 秒", "每千行费用"),
}


def table() -> list[dict[str, Any]]:
    """One row per registered scorer and language; `kind` None where there is no passport."""
    out: list[dict[str, Any]] = []
    for name in registry.names("scorer"):
        told = registry.passport(name)
        langs = [one for one in ("en", "zh") if one in told] if told else []
        common = {key: (told or {}).get(key) for key in ("length", "rows_per_cpu_s", "cost_per_1000")}
        if not langs:
            out.append({"metric": name, "lang": "", "kind": None, **common})
        out.extend({"metric": name, "lang": one, **told[one], **common} for one in langs if told)
    return out


def cells(row: Mapping[str, Any], language: str) -> list[str]:
    """A table row's texts in the language of the page."""
    if row["kind"] is None:
        missing = {"en": "no passport", "zh": "无证书"}[language]
        return [row["metric"], "", missing, *[""] * 7]
    checked = f" ({row['cross_validated']:.3f} cv)" if "cross_validated" in row else ""
    return [
        row["metric"], row["lang"], f"{row['measure']} {row['value']:.3f}{checked}", f"{row['low']:.3f}–{row['high']:.3f}", str(row["n"]),
        KINDS[row["kind"]][language == "zh"], row["data"], "–" if row["length"] is None else f"{row['length']:+.2f}",
        f"{row['rows_per_cpu_s']:,.0f}", f"{row['cost_per_1000']:g}",
    ]  # fmt: skip


def lines() -> list[tuple[list[str], bool]]:
    """The table in the reader's language: the texts of each row, and whether the metric has a passport. The first is the head."""
    language = "zh" if lang() == "zh" else "en"
    return [(list(HEAD[language]), True), *((cells(row, language), row["kind"] is not None) for row in table())]


def pages() -> dict[str, str]:
    """docs/passports.md and docs/passports.zh.md, as they ought to be."""
    date = registry.passports()["date"]
    rows = table()
    said = {
        "en": (
            "# Metric passports",
            f"Measured on {date} by `python benchmarks/passports.py --write`; `zhiling score --passport` prints this table.",
            "*Agreement* is the share of pairs in the right order (pairs) or the area under the ROC curve (auc); 0.5 is chance. *Judged by*: "
            "people; a model; planted, that is known defects put into clean rows, which says that the metric finds what it looks for and no "
            "more; rule, that is cases of an exact rule. `cv` is the mean of the sets under cross-validation, for metrics whose weights were "
            "fitted to these labels: believe that one. *With length* is Spearman's correlation with output length on Alpaca, after "
            "length has been taken out where selectors do so. A metric without a passport can be a hard filter only with `force: true`.",
        ),
        "zh": (
            "# 指标证书",
            f"测于 {date}，由 `python benchmarks/passports.py --write` 生成；`zhiling score --passport` 打印同一张表。",
            "“一致性”是排序正确的比例（pairs）或 ROC 曲线下面积（auc），0.5 即随机。“判定者”：人工；模型；植入，即在干净的行中放入已知缺陷，"
            "只能说明指标找得到它所找的东西；规则，即精确规则的用例。`cv` 是权重由这些标注拟合的指标在交叉验证下各数据集的均值，应以它为准。"
            "“与长度相关”是在 Alpaca 上与输出长度的 Spearman 相关，选择器会剔除长度影响的指标按剔除后计算。没有证书的指标须写 `force: true` "
            "才能作硬性过滤。",
        ),
    }  # fmt: skip
    out = {}
    for language, file in (("en", "passports.md"), ("zh", "passports.zh.md")):
        head = HEAD[language]
        body = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        body += ["| " + " | ".join(cells(row, language)) + " |" for row in rows]
        out[file] = "\n\n".join(said[language]) + "\n\n" + "\n".join(body) + "\n"
    return out
