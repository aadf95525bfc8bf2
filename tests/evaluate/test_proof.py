from __future__ import annotations

import asyncio

import pytest

from zhiling.evaluate.predict import predict
from zhiling.evaluate.suite import evaluate
from zhiling.types import Example, Task

ASK = "Is this review positive or negative? Answer with one word."
GOOD = [
    "The soup was hot and the waiter kind.",
    "Lovely bread, and fair prices.",
    "We shall be back next week.",
    "The best film this year.",
    "A warm welcome.",
    "It works like new.",
]
BAD = ["We waited an hour for cold noodles.", "Rude, slow and far too dear.", "It broke on the second day.", "The room smelled of smoke.", "Never again.", "A dull film without an end."]  # fmt: skip
ROWS = [
    Example("sentiment", ASK, text, label, lang="en")
    for texts, label in ((GOOD, "positive"), (BAD, "negative"))
    for text in texts
]


@pytest.mark.model
def test_the_tuned_model_answers_in_the_form_it_was_taught(tmp_path):
    """The whole way on the embedded model: tune, ask both models, compare. A dozen rows prove nothing about sentiment, only about form."""
    from zhiling.llm import open_model
    from zhiling.tune.settings import TuneSettings
    from zhiling.tune.train import tune

    taught, asked = ROWS[::2], ROWS[1::2]
    tuned = tune("embedded", taught, tmp_path / "tuned", TuneSettings(epochs=4, batch_rows=3, lr=2e-3))

    async def answers(**adapter: str):
        async with open_model({"provider": "transformers", "model": "embedded", **adapter}, cache=None) as model:
            return await predict(model, asked, max_tokens=12)

    base, after = asyncio.run(answers()), asyncio.run(answers(adapter=str(tuned.folder)))
    assert {prediction.text.strip() for prediction in after} <= {"positive", "negative"}
    assert all(prediction.finish == "stop" for prediction in after)  # it learned where to end, too
    found = evaluate(asked, base, after, tasks={"sentiment": Task("sentiment", labels=("positive", "negative"))})
    assert found.overall.n == len(asked) and found.overall.failed == 0
    assert found.overall.tuned > found.overall.base
