"""Loggers beside metrics.jsonl: what they are told, and that nothing they do stops the training."""

from __future__ import annotations

import json
import threading
import types
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import pytest

from zhiling import registry
from zhiling.errors import EngineError, RecipeError
from zhiling.tune import listen
from zhiling.tune.listen import Listener, Told, numbers, times
from zhiling.tune.log import Log, read
from zhiling.tune.ready import ready
from zhiling.tune.settings import TuneSettings
from zhiling.tune.train import tune

QUICK = TuneSettings(epochs=1, batch_rows=7, batch_tokens=120, rank=4, checkpoint_every=2, threads=1, validation=0.2)


@pytest.fixture
def plugged(monkeypatch):
    """Register a logger for one test: plugged(name, a context manager)."""

    def plug(name, fn, **facts):
        registry.logger(name, **facts)(fn)
        monkeypatch.setitem(registry._table, ("logger", name), registry._table.pop(("logger", name)))

    return plug


def keeping(seen):
    @contextmanager
    def keep(run, *, colour: str = "red"):
        """Keeps what it is told."""
        seen.append(("begin", run, colour))
        yield lambda step, values, at: seen.append((step, values, at))
        seen.append("end")

    return keep


def test_a_logger_of_ones_own_is_told_every_step_and_the_end(llama, rows, tmp_path, plugged):
    seen = []
    plugged("mine", keeping(seen))
    done = tune(llama, rows, tmp_path / "跑", replace(QUICK, log=({"mine": {"colour": "蓝"}},)))
    (word, run, colour), *told, end = seen
    assert (word, colour, end) == ("begin", "蓝", "end")
    assert run.name == "跑" and run.settings["rank"] == 4 and run.settings["base"] == str(llama)
    assert run.folder == tmp_path / "跑" / "logs" / "mine"
    assert [step for step, _, _ in told] == list(range(done.steps + 1))
    assert told[1][1]["train/loss/qa"] == done.history[1]["tasks"]["qa"] and "validation/loss" in told[0][1]
    assert told[-1][1]["validation/loss/sentiment"] == done.history[-1]["validation"]["sentiment"]


def test_numbers_and_times_of_lines():
    line = {"step": 2, "steps": 9, "loss": 1.5, "tasks": {"问答": 1.5}, "lr": 0.1, "rate": 10.0, "tokens": 20}
    told = {
        "train/loss": 1.5,
        "train/loss/问答": 1.5,
        "train/lr": 0.1,
        "train/tokens": 20,
        "train/tokens_per_second": 10,
    }
    assert numbers(line) == told
    assert list(times([{"step": 0}, line, {**line, "tokens": 50}], 100.0)) == [93.0, 95.0, 100.0]


BROKEN = ValueError("坏了")


def raising_at_once(run):
    """Cannot even begin."""
    raise BROKEN


@contextmanager
def raising_later(run):
    """Raises at step 2."""

    def log(step, values, at):
        if step == 2:
            raise BROKEN

    yield log


@contextmanager
def leaving(run):
    """Wants to end the process."""
    yield lambda step, values, at: exit(3)


@contextmanager
def full(run):
    """Writes to a full disk."""
    with open("/dev/full", "w") as file:
        yield lambda step, values, at: print(step, file=file, flush=True)


@pytest.mark.parametrize(
    ("logger", "said"),
    [(raising_at_once, "坏了"), (raising_later, "坏了"), (leaving, "SystemExit: 3"), (full, "No space left")],
)
def test_a_logger_that_fails_is_reported_once_and_dropped(llama, rows, tmp_path, plugged, logger, said):
    seen = []
    plugged("bad", logger)
    plugged("good", keeping(seen))
    with pytest.warns(UserWarning) as caught:
        done = tune(llama, rows, tmp_path, replace(QUICK, log=("bad", "good")))
    told = [str(warning.message) for warning in caught if "bad" in str(warning.message)]
    assert len(told) == 1 and said in told[0] and "training goes on" in told[0]
    assert len(read(tmp_path / "metrics.jsonl")) == done.steps + 1 == len(seen) - 2  # nobody else missed a step


def hanging(gate):
    @contextmanager
    def hang(run):
        """Waits at its first step until it is let go."""
        yield lambda step, values, at: gate.wait(60) and None

    return hang


def test_a_logger_that_hangs_is_not_waited_for(tmp_path, plugged, monkeypatch):
    gate = threading.Event()
    plugged("slow", hanging(gate))
    monkeypatch.setattr(listen, "BEHIND", 3)
    listener = Listener((registry.get("logger", "slow"), {}), Told("a", "run", tmp_path / "slow", {}), [])
    with pytest.warns(UserWarning, match="3 steps behind"):
        for step in range(9):
            listener.write({"step": step})
    assert listener.dropped
    listener.close()  # said once, and not waited for
    late = Listener((registry.get("logger", "slow"), {}), Told("b", "run", tmp_path / "late", {}), [])
    late.write({"step": 1})
    with pytest.warns(UserWarning, match="did not finish"):
        late.close(grace=0.05)
    gate.set()


def test_one_that_is_slow_for_a_while_misses_nothing(tmp_path, plugged):
    gate, seen = threading.Event(), []

    @contextmanager
    def brief(run):
        """Waits before its first step."""
        gate.wait(60)
        yield lambda step, values, at: seen.append(step)

    plugged("brief", brief)
    listener = Listener((registry.get("logger", "brief"), {}), Told("a", "run", tmp_path / "l", {}), [{"step": 0}])
    for step in range(1, 6):
        listener.write({"step": step})
    gate.set()
    listener.close()
    assert seen == list(range(6)) and not listener.dropped


def events(folder):
    """Steps and values of each tag of the event files in a folder, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), purge_orphaned_data=False)
    found.Reload()
    return {tag: [(item.step, item.value) for item in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.skipif(not find_spec("tensorboard"), reason="tensorboard is not installed")
def test_tensorboard_reads_back_each_step_once_after_a_run_was_stopped_and_went_on(llama, rows, tmp_path, monkeypatch):
    settings, out = replace(QUICK, log="tensorboard", epochs=2), tmp_path / "out"
    real = Log.write

    def write(self, line):
        if line["step"] == 5:
            raise EngineError("stopped")
        real(self, line)

    with monkeypatch.context() as patch, pytest.raises(EngineError, match="stopped"):
        patch.setattr(Log, "write", write)
        tune(llama, rows, out, settings)
    before = events(out / "logs" / "tensorboard")["train/loss"]
    assert [step for step, _ in before] == [1, 2, 3, 4]  # all that was done: what a kill leaves too
    done = tune(llama, rows, out, settings)
    found = events(out / "logs" / "tensorboard")
    lines = read(out / "metrics.jsonl")
    assert [step for step, _ in found["train/loss"]] == list(range(1, done.steps + 1))
    assert [value for _, value in found["train/loss"]] == pytest.approx([line["loss"] for line in lines[1:]])
    assert [step for step, _ in found["validation/loss/qa"]] == [k["step"] for k in lines if "validation" in k]


def test_a_missing_package_is_the_line_that_installs_it_before_any_work(llama, rows, tmp_path, plugged):
    plugged("absent", keeping([]), packages=("zhiling_absent", "zhiling_absent_too"))
    with pytest.raises(RecipeError, match="pip install zhiling_absent") as caught:
        tune(llama, rows, tmp_path / "out", replace(QUICK, log="absent"))
    assert caught.value.exit_code == 2 and not (tmp_path / "out").exists()
    plugged("either", keeping([]), packages=("zhiling_absent", "json"))
    ready(replace(QUICK, log="either"))


def test_a_wrong_logger_or_setting_is_named():
    with pytest.raises(RecipeError, match=r"tune\.log: .*did you mean 'tensorboard'"):
        TuneSettings(log="tensorbord")
    with pytest.raises(RecipeError, match=r"tune\.log\.wandb\.projct: .*did you mean 'project'"):
        TuneSettings(log=({"wandb": {"projct": "x"}},))
    with pytest.raises(RecipeError, match=r"tune\.log\.wandb\.mode"):
        TuneSettings(log={"wandb": {"mode": "shared"}})


class Library(types.ModuleType):
    """A stand-in for wandb or trackio that writes down how it is called. What it cannot show is that the real one agrees."""

    def __init__(self, name, runs=()):
        super().__init__(name)
        self.calls, self.held = [], list(runs)

    def init(self, *args, **given):
        print("noise on the standard output")
        self.calls.append(("init", args, given))
        return types.SimpleNamespace(
            log=lambda values, step: self.calls.append(("log", step, values)), finish=lambda: self.calls.append("end")
        )

    def Settings(self, **given):
        return given

    def Api(self):
        def runs(project):
            if not self.held:
                raise ValueError(f"Project '{project}' does not exist")  # as trackio 0.43 does
            return list(self.held)

        return types.SimpleNamespace(runs=runs)


def told(monkeypatch, tmp_path, library, **settings):
    monkeypatch.setitem(__import__("sys").modules, library.__name__, library)
    plugin = registry.get("logger", library.__name__)
    run = Told("1f2e", "run", tmp_path / "logs", {"base": "embedded", "rank": 4})
    listener = Listener((plugin, registry.settle(plugin, settings)), run, [{"step": 0}])
    listener.write({"step": 1, "loss": 2.0, "tasks": {"情感": 2.0}})
    listener.close()
    assert listener.fault is None
    (_, args, given), *rest = library.calls
    assert rest == [("log", 0, {}), ("log", 1, {"train/loss": 2.0, "train/loss/情感": 2.0}), "end"]
    return args, given


@pytest.mark.parametrize(("given", "mode", "resume"), [({}, "offline", None), ({"mode": "online"}, "online", "allow")])
def test_wandb_is_offline_unless_it_is_asked_for(monkeypatch, tmp_path, given, mode, resume):
    _, seen = told(monkeypatch, tmp_path, Library("wandb"), **given)
    assert (seen["mode"], seen["resume"], seen["id"], seen["dir"]) == (mode, resume, "1f2e", tmp_path / "logs")
    assert seen["settings"]["disable_git"] and seen["settings"]["x_disable_stats"] and seen["config"]["rank"] == 4


def test_trackio_forgets_the_killed_run_that_goes_on_and_says_nothing_on_the_standard_output(
    monkeypatch, tmp_path, capsys
):
    gone = []
    runs = [types.SimpleNamespace(name=name, delete=lambda n=name: gone.append(n)) for name in ("run-1f2e", "run-0000")]
    args, given = told(monkeypatch, tmp_path, Library("trackio", runs))
    assert gone == ["run-1f2e"] and args == ("zhiling", "run-1f2e") and not given["embed"]
    assert capsys.readouterr().out == ""
    told(monkeypatch, tmp_path, Library("trackio"))  # the project's first run


def test_four_bits_are_refused_before_any_work_where_they_cannot_be(llama, rows, tmp_path, monkeypatch):
    import torch

    settings = replace(QUICK, quantize="4bit")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match=r"tune\.quantize: .*CUDA") as caught:
        tune(llama, rows, tmp_path / "out", settings)
    assert caught.value.exit_code == 2 and not (tmp_path / "out").exists()
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(RecipeError, match="而本机没有"):
        ready(settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("zhiling.tune.ready.find_spec", lambda package: None)
    with pytest.raises(RecipeError, match="pip install bitsandbytes"):
        ready(settings)
    for more in ({"method": "full"}, {"shard": True}):
        with pytest.raises(RecipeError, match=r"tune\.quantize"):
            replace(settings, **more)


def test_what_four_bits_ask_of_the_loader(monkeypatch):
    """As far as it can be looked at without the chip: the configuration that transformers is handed."""
    import torch

    from zhiling.tune import model

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    asked = model.quantized(replace(QUICK, quantize="4bit"))
    held = json.loads(json.dumps(asked["quantization_config"].to_dict(), default=str))
    assert held["load_in_4bit"] and held["bnb_4bit_quant_type"] == "nf4" and held["bnb_4bit_use_double_quant"]
    assert held["bnb_4bit_compute_dtype"] == "bfloat16" and asked["device_map"] == {"": 1}
    assert model.quantized(QUICK) == {}


def test_four_bits_are_known_to_the_memory_estimate():
    from zhiling.tune.cost import Shape, Step, parts

    shape = Shape(4096, 14336, 32, 32, 4096, 1024, 128256, tied=False)  # Llama 3.1 8B
    step = Step.of(QUICK, 128, 32)
    wide = parts(shape, QUICK, step, bf16=True)
    packed = parts(shape, replace(QUICK, quantize="4bit"), step, bf16=True)
    assert wide["weights"] / 2**30 == pytest.approx(15.0, rel=0.02)
    assert packed["weights"] / 2**30 == pytest.approx(5.3, rel=0.03)  # 6.98e9 in 4 bits, embeddings and head in bf16
    assert {key: packed[key] for key in packed if key != "weights"} == {
        key: wide[key] for key in wide if key != "weights"
    }
