"""`zhiling export`: the kept rows for another tuner, or the tuned model for use elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiling.cli.work import at_work
from zhiling.errors import say

Source = Annotated[
    Path,
    typer.Argument(
        help="A run's folder, or what zhiling tune wrote. 运行文件夹，或微调的输出文件夹。", metavar="RUN|TUNED"
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="The file or folder to write. 输出的文件或文件夹。")]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        help="Rows: alpaca, sharegpt, messages, dpo, kto, natural_instructions, vertex, or faq (.html and .md); with a card, as a folder:"
        " hf, llamafactory, axolotl, trl. A tuned model: merged, adapter, gguf, ollama. 数据或模型的格式。",
    ),
]
Precision = Annotated[
    str, typer.Option(help="Of a model's weights: fp32, fp16, bf16; q8_0 for gguf and ollama. 模型权重的精度。")
]
Prompts = Annotated[
    list[Path] | None,
    typer.Option(
        help="Runs or data files whose prompts both models must answer alike; default: the run's held-out rows. 一致性检查所用的提示词。"
    ),
]
Base = Annotated[str, typer.Option(help="Where an adapter's base model is now. 适配器的基座模型所在位置。")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]


def export(
    source: Source, out: Out, form: Form = "messages", precision: Precision = "", prompts: Prompts = None,
    base: Base = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Write the kept rows for another tuner, documents' questions as a page, or the tuned model. 导出保留的数据、文档问答网页或微调好的模型。

    A model is checked before it counts: it must answer 64 prompts as the tuned one does, or the command fails and PARITY.json says how.
    """
    from zhiling.export.model import FORMS

    if form not in FORMS:
        from zhiling.export import export as write

        count = write(source, out, form)
        told = say(f"{count} rows written to {out}", f"已写出 {count} 行：{out}")
        print(json.dumps({"rows": count, "out": str(out)}, ensure_ascii=False) if as_json else told)
        return
    from zhiling.export.model import export_model

    with at_work() as meter:
        facts = export_model(source, out, form, precision=precision, prompts=prompts or (), base=base, watch=meter)
    print(json.dumps(facts, ensure_ascii=False) if as_json else _told(facts))
    if not facts["passed"]:
        raise typer.Exit(1)


def _told(facts: dict[str, Any]) -> str:
    """The verdict in words."""
    same, prompts, distance = facts["same"], facts["prompts"], facts["distance"]
    alike = say(
        f"{same} of {prompts} answers are the same, token for token; log-probabilities differ by {distance} nats on average,"
        f" and where answers part the tuned model prefers its own token by at most {facts['widest_gap']}",
        f"{prompts} 个回答中有 {same} 个逐词元相同；对数概率平均相差 {distance} nat，分歧处原模型对自己词元的偏好至多 {facts['widest_gap']}",
    )
    if facts["passed"]:
        first = say(f"exported: {facts['folder']}", f"已导出：{facts['folder']}")
        return f"{first}\n  {alike}"
    first = say(
        f"FAILED: the exported model does not answer as the tuned one: {facts['folder']}/PARITY.json",
        f"失败：导出的模型与微调模型的回答不一致：{facts['folder']}/PARITY.json",
    )
    return f"{first}\n  {alike} ({facts['rule']})"
