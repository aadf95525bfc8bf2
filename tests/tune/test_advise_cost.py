"""What a tuning run costs: the counts against what torch and peft really hold, and the fit against constants that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import EngineError
from zhiling.tune import calibrate, cost
from zhiling.tune import model as models
from zhiling.tune.batch import batches, tree
from zhiling.tune.cost import Constants, Seen, Shape, Step, fit, parts, peak, seconds, shape_in, shape_of
from zhiling.tune.loop import Loop
from zhiling.tune.loss import token_losses
from zhiling.tune.rehearse import _rows, rehearse
from zhiling.tune.settings import TuneSettings


def test_the_parameters_are_those_of_the_model(llama):
    shape = shape_in(llama)
    whole = models.load(str(llama), TuneSettings(method="full"))
    assert shape.known and shape.parameters == sum(parameter.numel() for parameter in whole.parameters())
    lora = models.load(str(llama), TuneSettings(method="lora", rank=4))
    assert shape.adapter(4) == sum(parameter.numel() for parameter in models.trainable(lora).values())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_activations_are_those_that_autograd_keeps(llama, method):
    import torch

    settings = TuneSettings(method=method, rank=4, batch_rows=3)
    model, shape = models.load(str(llama), settings), shape_in(llama)
    rows = _rows(3, 64, 16, shape.vocab)
    Loop(model, settings, rows)
    kept = {parameter.untyped_storage().data_ptr(): 0 for parameter in model.parameters()}
    alive = []

    def keep(tensor):
        alive.append(tensor)  # a storage that is freed may be given out again
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = token_losses(model, tree(rows))
    counted = parts(shape, settings, Step.of(settings, 64, 16))
    assert len(losses) == 48 and counted["logits"] == 48 * shape.vocab * 4
    assert sum(kept.values()) == pytest.approx(counted["activations"] + counted["logits"], rel=0.05)


def test_a_step_has_the_batches_that_the_tuner_makes():
    for rows, length, limit in ((8, 64, 768), (8, 64, 130), (3, 200, 50), (5, 100, 300)):
        made = list(batches(_rows(rows, length, 10, 500), limit))
        step = Step.of(TuneSettings(batch_rows=rows, batch_tokens=limit), length, 10)
        assert step.batches == len(made)
        assert step.tokens == max(len(batch.ids) for batch in made) and step.predicted == max(
            len(b.predict) for b in made
        )


def test_the_shape_is_read_in_the_words_of_gpt2_too():
    shape = shape_of({"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100})
    assert (shape.width, shape.inner, shape.keys, shape.known) == (32, 128, 32, False)
    with pytest.raises(KeyError):
        shape_of({"model_type": "mamba"})


TRUE = Constants(3e8, 6e7, 1.4, 4.0, 1.0, (3e-11, 2e-9, 5e-4, 6e-9))
SHAPES = (
    Shape(128, 352, 4, 4, 128, 64, 4096),
    Shape(384, 1024, 8, 6, 384, 128, 12288),
    Shape(256, 700, 6, 4, 256, 128, 9000),
)


def _seen(shape, method, length, answer, constants=TRUE):
    settings = TuneSettings(method=method, batch_rows=6, batch_tokens=400)
    step = Step.of(settings, length, answer)
    total = int(peak(shape, settings, step, constants)["total"])
    took = seconds(shape, settings, step, constants)
    return Seen(shape, settings, step, took, took, int(constants.start), total)


@given(st.sampled_from(SHAPES), st.sampled_from(["lora", "full"]), st.integers(32, 300), st.integers(8, 32))
def test_what_is_fitted_predicts_what_was_not_seen(shape, method, length, answer):
    seen = [
        _seen(s, m, n, a) for s in SHAPES[:2] for m, n, a in (("lora", 64, 16), ("full", 96, 48), ("lora", 128, 100))
    ]
    found, new = fit(seen), _seen(shape, method, length, answer)
    assert peak(new.shape, new.settings, new.step, found)["total"] == pytest.approx(new.peak, rel=0.05)
    assert seconds(new.shape, new.settings, new.step, found) == pytest.approx(new.seconds, rel=0.15)
    assert found.start == TRUE.start and found.spread_memory < 0.05 and found.spread_time < 0.1


def test_one_measurement_sets_the_pace_and_no_memory_is_no_harm():
    one = replace(_seen(SHAPES[0], "lora", 64, 16), peak=None)
    found = fit([one])
    assert seconds(one.shape, one.settings, one.step, found) == pytest.approx(one.seconds, rel=0.01)
    assert (found.seen, found.spread_time, found.spread_memory) == (
        1,
        None,
        None,
    ) and found.activations == Constants().activations


def test_full_tuning_holds_more_and_recomputing_less():
    shape, lora = SHAPES[1], TuneSettings(method="lora", batch_tokens=4000, batch_rows=16)
    step, held = Step.of(lora, 200, 50), lambda s: peak(shape, s, Step.of(lora, 200, 50), TRUE)
    assert (
        held(replace(lora, recompute=True))["total"] < held(lora)["total"] < held(replace(lora, method="full"))["total"]
    )
    told = held(lora)
    assert told["total"] == pytest.approx(sum(value for name, value in told.items() if name != "total"))
    assert parts(shape, lora, step, bf16=True)["weights"] < parts(shape, lora, step)["weights"]


def test_the_constants_are_kept_until_they_are_old(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path))
    assert calibrate.known() is None
    calibrate.keep(TRUE)
    assert calibrate.known() == TRUE and calibrate.known(days=-1) is None
    next((tmp_path / "advise").glob("machine-*.json")).write_text("{", encoding="utf-8")
    assert calibrate.known() is None


def test_a_calibration_keeps_to_its_budget_and_survives_what_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(calibrate, "make", lambda shape, folder: tmp_path)
    asked = []

    def run(base, settings, length, answer, limit):
        asked.append(limit)
        if len(asked) == 1:
            raise EngineError("too slow")
        return _seen(SHAPES[0], settings["method"], length, answer)

    monkeypatch.setattr(calibrate, "run", run)
    events = []
    found = calibrate.calibrate(events.append, budget=50)
    assert len(asked) == len(calibrate.TRIALS) and max(asked) <= 50 and found.spread_time is not None
    assert events[-1]["done"] == events[-1]["total"]
    with pytest.raises(EngineError):
        asked.clear()
        calibrate.calibrate(events.append, budget=0.5)


def test_a_rehearsal_that_is_too_slow_says_so():
    with pytest.raises(EngineError, match="longer than"):
        rehearse("embedded", {}, 1, 8, 2, limit=0.01)


@pytest.mark.slow
def test_a_rehearsal_that_fails_says_so(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EngineError, match="rehearsal failed"):
        rehearse(str(tmp_path), {"method": "lora"}, 1, 8, 2)


@pytest.mark.slow
def test_a_rehearsal_measures_real_steps(llama):
    found = rehearse(str(llama), {"method": "lora", "rank": 4, "threads": 1}, 2, 32, 8, steps=3)
    assert len(found.seconds) == len(found.cpu_seconds) == 2 and min(found.seconds) > 0
    assert found.memory is not None and found.start is not None and found.memory > found.start > 50e6
    assert cost.fit([calibrate.run(str(llama), {"batch_rows": 2, "rank": 4}, 32, 8)]).seen == 1
