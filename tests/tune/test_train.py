from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from zhiling.errors import DataError, EngineError, ProviderError, RecipeError
from zhiling.tune import loop as loops
from zhiling.tune import loss as loss_room
from zhiling.tune import train
from zhiling.tune.log import read
from zhiling.tune.loop import Loop
from zhiling.tune.loss import loss_of
from zhiling.tune.mix import steps
from zhiling.tune.model import load
from zhiling.tune.render import prepare, render_all
from zhiling.tune.settings import Sees, TuneSettings
from zhiling.tune.train import tune

QUICK = TuneSettings(epochs=2, batch_rows=7, batch_tokens=120, rank=4, lr=5e-3, checkpoint_every=2, threads=1)


def rendered(base: Path, rows):
    return render_all(rows, prepare(AutoTokenizer.from_pretrained(base)), Sees.ANSWER, 256)[0]


def tuned_model(done):
    """The tuned model as anyone would load it."""
    if done.folder.joinpath("adapter_config.json").exists():
        from peft import PeftModel

        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(done.base), done.folder).eval()
    return AutoModelForCausalLM.from_pretrained(done.folder).eval()


@pytest.mark.parametrize("objective", ["token_mean", "sample_mean", "sum"])
@pytest.mark.parametrize(("kind", "method"), [("llama", "lora"), ("llama", "full"), ("gpt2", "lora")])
def test_the_printed_loss_is_the_formula(request, tmp_path, rows, objective, kind, method):
    """First step: training loss under the base's weights. Last line: validation loss under the saved model's weights."""
    base = request.getfixturevalue(kind)
    settings = replace(QUICK, objective=objective, method=method, validation=0.3, epochs=1, lr=1e-3)
    done = tune(base, rows, tmp_path, settings)
    every = rendered(base, rows)
    kept, aside = train.split(every, settings)
    first = steps(kept, settings)[0].rows
    model = AutoModelForCausalLM.from_pretrained(base)
    formula = loss_of(model, first, objective)
    assert done.history[1]["step"] == 1
    assert done.history[1]["loss"] == pytest.approx(formula.total, rel=1e-5)
    assert done.history[1]["tasks"] == pytest.approx(formula.tasks, rel=1e-5)
    before, after = loss_of(model, aside, objective).tasks, loss_of(tuned_model(done), aside, objective).tasks
    assert done.history[0]["validation"] == pytest.approx(before, rel=1e-5)
    assert done.history[-1]["validation"] == pytest.approx(after, rel=1e-5)
    assert before != pytest.approx(after, rel=1e-3)


@pytest.mark.parametrize("objective", ["token_mean", "sample_mean", "sum"])
def test_the_loss_and_the_gradient_know_nothing_of_batches(llama, rows, objective):
    """Batch size, gradient accumulation, bucketing and tree packing, against autograd through the formula itself."""
    step = rendered(llama, rows)
    settings = replace(QUICK, objective=objective, method="full")
    model = load(str(llama), settings)
    total = 0.0
    tokens = sum(row.targets for row in step)
    for row in step:  # the formula, differentiated as it is written
        logp = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        nll = -sum(logp[k - 1, row.ids[k]] for k in range(1, len(row.ids)) if row.trained[k])
        total = (
            total + {"sum": nll, "token_mean": nll / tokens, "sample_mean": nll / row.targets / len(step)}[objective]
        )
    total.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    for batch_tokens in (1, 60, 200, 100_000):
        for shared in (True, False):
            model.zero_grad()
            loop = Loop(model, replace(settings, batch_tokens=batch_tokens), step)
            assert loop.shared
            loop.shared = shared
            losses, _ = loop.gradients(step)
            assert loops.Sums(losses).loss(objective).total == pytest.approx(total.item(), rel=1e-5)
            for name, parameter in model.named_parameters():
                assert torch.allclose(
                    parameter.grad, expected[name], rtol=1e-3, atol=1e-5 * float(expected[name].abs().max())
                )


@pytest.mark.parametrize(("kind", "method"), [("llama", "full"), ("llama", "lora"), ("gpt2", "full")])
def test_the_head_in_chunks_gives_the_same_losses_and_gradients(request, rows, kind, method):
    base = request.getfixturevalue(kind)
    every, settings = rendered(base, rows), replace(QUICK, method=method, batch_tokens=400)
    found = {}
    for size in (None, 3):
        model = load(str(base), settings)
        loop = Loop(model, settings, every)
        assert loop.chunk == loss_room.CHUNK
        loop.chunk = size and size * loss_room._vocabulary(model)
        losses, _ = loop.gradients(every)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found[size] = sorted(nll for _, nll in losses), gradients
    assert found[3][0] == pytest.approx(found[None][0], rel=1e-5) and found[3][1].keys() == found[None][1].keys()
    for name, gradient in found[None][1].items():
        assert torch.allclose(found[3][1][name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize(("kind", "method"), [("llama", "lora"), ("gpt2", "full")])
def test_recomputed_blocks_give_the_same_gradients_from_less_memory(request, rows, kind, method):
    base, found, held = request.getfixturevalue(kind), {}, {}
    every = rendered(base, rows)
    for again in (False, True):
        settings = replace(QUICK, method=method, recompute=again)
        model = load(str(base), settings)
        loop = Loop(model, settings, every)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            losses, _ = loop.gradients(every)
        found[again] = sorted(nll for _, nll in losses), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}  # fmt: skip
        held[again] = sum(kept)
    assert found[True][0] == pytest.approx(found[False][0], rel=1e-5) and held[True] < held[False]
    for name, gradient in found[False][1].items():
        assert torch.allclose(found[True][1][name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max())), name


def test_a_model_that_bounds_its_logits_is_not_called_in_chunks(llama, rows):
    model = load(str(llama), replace(QUICK, method="full")).eval()
    every = rendered(llama, rows)
    assert loss_room.chunks(model, every, 1e-3) == loss_room.CHUNK
    real = model.forward

    def bounded(*args, **kwargs):
        out = real(*args, **kwargs)
        out.logits = 2 * torch.tanh(out.logits / 2)
        return out

    model.forward = bounded
    assert loss_room.chunks(model, every, 1e-3) is None


@pytest.mark.parametrize("method", ["lora", "full"])
def test_tuning_learns_and_saves_what_others_can_load(llama, tmp_path, rows, method):
    settings = replace(QUICK, method=method, epochs=30, lr=1e-2 if method == "lora" else 3e-3, checkpoint_every=0)
    done = tune(llama, rows, tmp_path, settings)
    before = loss_of(AutoModelForCausalLM.from_pretrained(llama), rendered(llama, rows), "token_mean")
    after = loss_of(tuned_model(done), rendered(llama, rows), "token_mean")
    assert after.total < 0.75 * before.total and all(after.tasks[task] < before.tasks[task] for task in before.tasks)
    assert set(done.loss) == {"qa", "sentiment"} and done.counts["trained"] == len(rows)
    assert done.steps == len(done.history) == 30 * math.ceil(len(rows) / 7)
    assert (
        AutoTokenizer.from_pretrained(done.folder).chat_template == AutoTokenizer.from_pretrained(llama).chat_template
    )
    assert (
        not list(tmp_path.glob("*checkpoint*"))
        and not list(tmp_path.rglob("*.bin"))
        and not list(tmp_path.rglob("*.pt"))
    )


def test_full_tuning_of_gpt2_brings_its_chat_template_along(gpt2, tmp_path, rows):
    done = tune(gpt2, rows, tmp_path, replace(QUICK, method="full", epochs=1))
    words = AutoTokenizer.from_pretrained(done.folder)
    assert "Assistant:" in words.apply_chat_template(
        rows[0].messages(False), tokenize=False, add_generation_prompt=True
    )
    assert words.pad_token is not None


def test_the_metrics_have_a_line_per_step(llama, tmp_path, rows):
    seen = []
    done = tune(llama, rows, tmp_path, replace(QUICK, validation=0.2), progress=seen.append)
    assert read(tmp_path / "metrics.jsonl") == list(done.history) == seen
    assert [line["step"] for line in seen] == list(range(done.steps + 1))
    for line in seen[1:]:
        assert line["tokens"] > 0 and line["computed"] > 0 and line["rate"] > 0 and line["steps"] == done.steps
    assert [line["step"] for line in seen if "validation" in line] == [0, done.steps // 2, done.steps]


def test_a_failing_progress_is_warned_of_and_training_goes_on(llama, tmp_path, rows):
    def broken(line):
        raise ValueError("no terminal")

    with pytest.warns(UserWarning, match="no terminal"):
        done = tune(llama, rows, tmp_path, replace(QUICK, epochs=1), progress=broken)
    assert len(done.history) == done.steps


def test_called_again_it_returns_at_once_and_a_change_starts_afresh(llama, tmp_path, rows, monkeypatch):
    done = tune(llama, rows, tmp_path, QUICK)
    calls = []
    monkeypatch.setattr(train, "_tune", lambda *args: calls.append(args))
    assert tune(llama, list(reversed(rows)), tmp_path, QUICK) == done
    assert tune(llama, rows, tmp_path, replace(QUICK, threads=2, checkpoint_every=9)) == done
    assert not calls
    tune(llama, rows, tmp_path, replace(QUICK, seed=1))
    tune(llama, rows[1:], tmp_path, QUICK)
    assert len(calls) == 2


def test_the_caller_keeps_its_random_state_and_threads(llama, tmp_path, rows):
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    tune(llama, rows, tmp_path, replace(QUICK, epochs=1))
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_dropout_and_seed_change_the_weights_and_nothing_else_does(llama, tmp_path, rows):
    made = {}
    for name, settings in {
        "a": QUICK, "b": replace(QUICK, checkpoint_every=0), "seed": replace(QUICK, seed=1), "dropout": replace(QUICK, dropout=0.2)
    }.items():  # fmt: skip
        done = tune(llama, rows, tmp_path / name, settings)
        made[name] = load_file(done.folder / "adapter_model.safetensors")
    same = lambda a, b: all(torch.equal(made[a][key], made[b][key]) for key in made[a])  # noqa: E731
    assert same("a", "b") and not same("a", "seed") and not same("a", "dropout")


def test_one_row_is_enough(llama, tmp_path, rows):
    done = tune(llama, rows[:1], tmp_path, replace(QUICK, validation=0.5))
    assert done.steps == 2 and done.counts["validation"] == 0


def test_bad_rows_are_left_out_and_counted(llama, tmp_path, rows):
    bad = [replace(rows[0], output=""), replace(rows[0], input="很长" * 400), replace(rows[0], output="<|im_end|>")]
    done = tune(llama, [*rows, *bad], tmp_path, replace(QUICK, epochs=1))
    assert (done.counts["empty"], done.counts["long"], done.counts["control"]) == (1, 1, 1)
    assert done.counts["trained"] == len(rows)


def test_nothing_to_learn_from_is_one_clear_line(llama, tmp_path, rows):
    with pytest.raises(DataError, match="empty answer"):
        tune(llama, [replace(rows[0], output="")], tmp_path, QUICK)
    with pytest.raises(DataError, match="256 tokens"):
        tune(llama, [replace(rows[0], input="很长" * 400)], tmp_path, QUICK)
    with pytest.raises(DataError, match="no rows"):
        tune(llama, [], tmp_path, QUICK)


def test_a_loss_that_is_not_finite_stops_at_the_step_and_names_the_rows(llama, tmp_path, rows, monkeypatch):
    bad = steps(rendered(llama, rows), QUICK)[4].rows[2]

    def poisoned(model, batch, chunk=None, real=loops.token_losses):
        losses = real(model, batch, chunk)
        owner = torch.tensor([batch.rows[k].id == bad.id for k in batch.owner])
        return torch.where(owner, torch.nan, losses)

    monkeypatch.setattr(loops, "token_losses", poisoned)
    with pytest.raises(EngineError) as caught:
        tune(llama, rows, tmp_path, QUICK)
    hit = next(k for k, step in enumerate(steps(rendered(llama, rows), QUICK), 1) if bad in step.rows)
    assert f"step {hit}" in str(caught.value) and bad.id in str(caught.value)
    assert sum(row.id in str(caught.value) for row in rows) == 1
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == list(range(1, hit))


def test_wrong_models_are_one_clear_line(tmp_path, rows, llama):
    with pytest.raises(ProviderError, match="config.json"):
        tune(tmp_path, rows, tmp_path / "out", QUICK)
    broken = tmp_path / "broken"
    shutil.copytree(llama, broken)
    (broken / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        tune(broken, rows, tmp_path / "out", QUICK)
    with pytest.raises(RecipeError, match="q_porj") as caught:
        tune(llama, rows, tmp_path / "out", replace(QUICK, targets=("q_porj",)))
    assert "q_proj" in str(caught.value)


def test_done_is_plain_json(llama, tmp_path, rows):
    done = tune(llama, rows, tmp_path, replace(QUICK, epochs=1))
    held = json.loads((tmp_path / "done.json").read_text())
    assert held["loss"] == done.loss and held["steps"] == done.steps and str(tmp_path) not in json.dumps(held["counts"])


def test_the_best_epoch_is_kept_and_patience_ends_the_run(llama, tmp_path, rows):
    """A learning rate that first helps and then ruins: the saved weights have the lowest validation loss that was measured."""
    settings = replace(
        QUICK, method="full", epochs=40, lr=3e-2, schedule="constant", validation=0.3, checkpoint_every=3
    )
    done = tune(llama, rows, tmp_path / "best", replace(settings, keep="best", patience=2))
    measured = {
        line["step"]: line["validation_loss"] for line in done.history if "validation_loss" in line and line["step"]
    }
    lowest = min(measured, key=measured.get)
    assert done.saved == lowest < done.steps  # what came after was worse
    assert done.steps == max(measured) and len([step for step in measured if step > lowest]) == 2
    _, aside = train.split(rendered(llama, rows), settings)
    assert loss_of(tuned_model(done), aside, settings.objective).total == pytest.approx(measured[lowest], rel=1e-5)
    assert not list((tmp_path / "best").glob("best-*"))
    last = tune(llama, rows, tmp_path / "last", replace(settings, patience=2))
    assert last.saved == last.steps == done.steps
    assert loss_of(tuned_model(last), aside, settings.objective).total == pytest.approx(measured[last.steps], rel=1e-5)


def test_the_best_weights_survive_a_stop(llama, tmp_path, rows, monkeypatch):
    settings = replace(
        QUICK, epochs=6, lr=3e-2, schedule="constant", validation=0.3, checkpoint_every=2, keep="best", patience=2
    )
    whole = tune(llama, rows, tmp_path / "whole", settings)
    real, calls = train.checkpoint.save_best, []

    def stopping(folder, step, weights):
        real(folder, step, weights)
        calls.append(step)
        if len(calls) == 2:
            raise EngineError("stopped")

    monkeypatch.setattr(train.checkpoint, "save_best", stopping)
    for _ in range(2):
        with suppress(EngineError):
            tune(llama, rows, tmp_path / "broken", settings)
    monkeypatch.setattr(train.checkpoint, "save_best", real)
    again = tune(llama, rows, tmp_path / "broken", settings)
    assert len(calls) >= 2 and (again.saved, again.steps) == (whole.saved, whole.steps)
    first, second = (load_file(one.folder / "adapter_model.safetensors") for one in (whole, again))
    assert all(torch.equal(first[key], second[key]) for key in first)
