from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.errors import DataError, RecipeError
from zhiling.tune.mix import by_task, split, steps, visits_per_row
from zhiling.tune.render import Rendered
from zhiling.tune.settings import TuneSettings, lr_at


def rows(**sizes: int) -> list[Rendered]:
    return [
        Rendered(f"{task}-{k}", task, (1, 2, k + 3), (False, True, True)) for task, n in sizes.items() for k in range(n)
    ]


def visits(plan, epoch=None) -> Counter[str]:
    return Counter(row.id for step in plan if epoch in (None, step.epoch) for row in step.rows)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 17), st.integers(0, 5), st.randoms())
def test_each_epoch_shows_each_row_once_in_steps_of_even_size(a, b, size, seed, random):
    given_rows = rows(a=a, b=b)
    plan = steps(given_rows, TuneSettings(epochs=2, batch_rows=size, seed=seed))
    for epoch in (0, 1):
        assert visits(plan, epoch) == Counter(row.id for row in given_rows)
    sizes = [len(step.rows) for step in plan]
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert [step.last for step in plan].count(True) == 2 and plan[-1].last
    shuffled = list(given_rows)
    random.shuffle(shuffled)
    assert steps(shuffled, TuneSettings(epochs=2, batch_rows=size, seed=seed)) == plan


def test_the_seed_and_the_epoch_change_the_order():
    given_rows = rows(a=30)
    first, other = (steps(given_rows, TuneSettings(epochs=2, batch_rows=30, seed=seed)) for seed in (0, 1))
    assert first[0].rows != other[0].rows and first[0].rows != first[1].rows


def test_every_step_has_its_share_of_every_task():
    for step in steps(rows(a=60, b=30, c=10), TuneSettings(epochs=1, batch_rows=20)):
        tasks = Counter(row.task for row in step.rows)
        assert abs(tasks["a"] - 12) <= 1 and abs(tasks["b"] - 6) <= 1 and abs(tasks["c"] - 2) <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.25]))
def test_weights_are_visits_and_a_fraction_moves_on(n, weight):
    epochs = 4
    plan = steps(rows(a=n, b=5), TuneSettings(epochs=epochs, weights={"a": weight}))
    seen = visits(plan)
    counts = [seen[f"a-{k}"] for k in range(n)]
    assert sum(counts) == sum(
        round((e + 1) * (weight % 1) * n) - round(e * (weight % 1) * n) + int(weight) * n for e in range(epochs)
    )
    assert max(counts) - min(counts) <= 1  # over four epochs, quarters have gone round once: nobody is favoured
    assert all(seen[f"b-{k}"] == epochs for k in range(5))


def test_a_weight_of_zero_leaves_a_task_out_and_a_wrong_name_is_named():
    assert {row.task for step in steps(rows(a=3, b=3), TuneSettings(weights={"a": 0})) for row in step.rows} == {"b"}
    with pytest.raises(DataError, match="sentimnt"):
        steps(rows(sentiment=3), TuneSettings(weights={"sentimnt": 2}))
    with pytest.raises(DataError):
        steps(rows(a=3), TuneSettings(weights={"a": 0}))


def test_a_fraction_of_an_epoch_and_a_limit_of_steps():
    assert sum(visits(steps(rows(a=10), TuneSettings(epochs=1.5))).values()) == 15
    assert len(steps(rows(a=100), TuneSettings(epochs=3, batch_rows=10, max_steps=4))) == 4


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30), st.sampled_from([1.0, 2.0, 5.0, 1e9]))
def test_caps_and_temperature_say_how_often_a_task_is_seen(a, b, cap, temperature):
    config = TuneSettings(epochs=1, caps={"a": cap}, temperature=temperature)
    rates = visits_per_row({"a": a, "b": b}, config)
    counts = {"a": rates["a"] * a, "b": rates["b"] * b}
    assert sum(counts.values()) == pytest.approx(min(a, cap) + b)
    assert counts["a"] / counts["b"] == pytest.approx((min(a, cap) / b) ** (1 / temperature))
    seen = Counter(row.task for step in steps(rows(a=a, b=b), config) for row in step.rows)
    assert all(abs(seen[task] - counts[task]) <= 1 for task in counts)


def test_a_cap_shows_other_rows_in_the_next_epoch():
    plan = steps(rows(a=10, b=3), TuneSettings(epochs=2, caps={"*": 5}))
    assert set(visits(plan, 0)) | set(visits(plan, 1)) == {row.id for row in rows(a=10, b=3)}
    assert Counter(row.task for step in plan for row in step.rows) == {"a": 10, "b": 6}


def test_a_task_may_leave_early_or_stay_longer():
    plan = steps(rows(a=8, b=8), TuneSettings(epochs=2, task_epochs={"b": 0.5, "a": 3}))
    assert [Counter(row.task for s in plan if s.epoch == e for row in s.rows) for e in range(3)] == [
        {"a": 8, "b": 4},
        {"a": 8},
        {"a": 8},
    ]
    with pytest.raises(DataError, match=r"c.*task_epochs|task_epochs.*c"):
        steps(rows(a=8), TuneSettings(task_epochs={"c": 1}))


def test_validation_takes_a_share_of_each_task_but_never_its_last_row():
    kept, aside = split(rows(a=20, b=1, c=4), TuneSettings(validation=0.25))
    assert {task: len(group) for task, group in by_task(aside).items()} == {"a": 5, "c": 1}
    assert {task: len(group) for task, group in by_task(kept).items()} == {"a": 15, "b": 1, "c": 3}
    assert not {row.id for row in kept} & {row.id for row in aside}
    assert split(rows(a=20), TuneSettings())[1] == []


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_learning_rate_rises_then_never_rises_again(schedule):
    config = TuneSettings(lr=1.0, schedule=schedule, warmup=0.1)
    rates = [lr_at(config, step, 100) for step in range(1, 101)]
    top = max(rates)
    assert top == pytest.approx(1.0) and rates.index(top) == 10
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert all(rate > 0 for rate in rates)
    assert schedule == "constant" or rates[-1] < 0.02
    assert lr_at(config, 1, 1) > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "qlora"),
        ("objective", "mean"),
        ("epochs", 0),
        ("batch_rows", 0),
        ("lr", -1),
        ("validation", 1),
        ("sees", "x"),
        ("weights", {"a": -1}),
        ("caps", {"a": 0}),
        ("temperature", 0.5),
        ("task_epochs", {"a": 0}),
        ("keep", "best"),
        ("patience", 2),
    ],
)
def test_a_wrong_setting_is_named(key, value):
    with pytest.raises(RecipeError, match=key) as caught:
        TuneSettings(**{key: value})
    assert caught.value.where == f"tune.{key}"
