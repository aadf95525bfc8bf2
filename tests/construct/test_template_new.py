"""Drafting a definition: what a good reply, a bad one and none become; and the embedded model, honestly."""

import asyncio
import json

import pytest
import yaml
from loopback import Loopback
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.construct.drafting import draft
from zhiling.construct.library import load_definition
from zhiling.construct.library_check import check, rendered
from zhiling.errors import DataError, ProviderError
from zhiling.types import Reply

MOOD = [{"review": f"Review number {i}.", "label": ("good", "bad")[i % 2]} for i in range(6)]
译 = [{"句子": "早上好。", "译文": "Good morning."}, {"句子": "谢谢你。", "译文": "Thank you."}]


class Says:
    """A model with its replies written out; it keeps what it was asked."""

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), []

    async def ask(self, request):
        self.asked.append(request)
        said = self.replies.pop(0)
        if isinstance(said, Exception):
            raise said
        return Reply(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False))


def made_by(model, rows=MOOD, **settings):
    return asyncio.run(draft(rows, model=model, **settings))


GOOD = {
    "description": "Say how a review feels.",
    "instructions": ["Decide how the reviewer feels.", "Please judge this review.", "Good or bad?"],
}


def test_a_good_reply_is_a_definition_that_renders_and_lints():
    model = Says(GOOD)
    made = made_by(model, name="mood")
    definition = made.draft.checked()
    assert made.by == "model" and made.notes == () and len(model.asked) == 1 and model.asked[0].schema
    assert [phrasing.instruction for phrasing in definition.phrasings] == GOOD["instructions"]
    assert definition.labels == {"bad": {"en": "bad"}, "good": {"en": "good"}} and check(definition) == []
    assert len(list(rendered(definition))) == 3


def test_a_flawed_reply_is_asked_for_again_with_the_linters_words():
    flawed = {
        **GOOD,
        "instructions": ["Please judge this review.", "Decide  how it feels (now.", "Judge: Review number 1."],
    }
    model = Says(flawed, {**GOOD, "instructions": ["Decide how the reviewer feels.", "The review is good."]})
    made = made_by(model)
    assert made.by == "repaired" and "do not pair" in model.asked[1].messages[0][1] and model.asked[1].draw == 1
    assert "quotes an example's data" in model.asked[1].messages[0][1]
    wordings = [phrasing.instruction for phrasing in made.draft.checked().phrasings]
    assert wordings == ["Please judge this review.", "Decide how the reviewer feels."]


@pytest.mark.parametrize(
    "bad",
    ["no JSON at all", "[]", '{"instructions": "one"}', '{"instructions": [3]}', '{"instructions": ["{{ x }"]}', ""],
)
def test_without_a_usable_reply_the_rules_draft_and_say_so(bad):
    made = made_by(Says(bad, bad))
    definition = made.draft.checked()
    assert made.by == "rules" and "the draft is the rules'" in " ".join(made.notes).replace("this draft", "the draft")
    assert check(definition) == [] and len(list(rendered(definition))) == len(definition.phrasings) == 2


def test_braces_from_a_model_are_text_not_code():
    made = made_by(
        Says(
            {
                **GOOD,
                "instructions": [
                    "Judge {{ review.__class__ }} in one go.",
                    "Please judge this review.",
                    "Good or bad?",
                ],
            },
            GOOD,
        )
    )
    assert all(
        "__class__" not in example.prompt or "{{" in example.prompt for example in rendered(made.draft.checked())
    )


def test_chinese(monkeypatch):
    model = Says(
        {
            "description": "把句子译成英文。",
            "instructions": ["把这句话译成英文。", "请将所给句子翻译为英文。", "译成英文。"],
        }
    )
    made = made_by(model, 译)
    definition = made.draft.checked()
    assert (
        made.by == "model" and definition.langs == ("zh",) and definition.target == "译文" and check(definition) == []
    )
    assert "请用一句话描述" in model.asked[0].messages[0][1]
    ruled = made_by(None, 译).draft.checked()
    assert check(ruled) == [] and ruled.description["zh"] == "根据句子给出译文。"


def test_a_description_alone():
    definition = made_by(None, [], describe="Write a haiku about a topic").draft.checked()
    assert definition.fields == ("input", "output") and definition.phrasings[0].instruction.startswith("Write a haiku")


def test_what_cannot_be_drafted():
    with pytest.raises(DataError, match="an input and an answer"):
        made_by(None, [{"text": "alone"}])
    with pytest.raises(ProviderError, match="no key"):
        made_by(Says(ProviderError("no key", kind="auth")))


def test_a_target_that_is_no_field_is_named_with_those_there_are(monkeypatch):
    with pytest.raises(DataError, match="--target: no field 'grade' that every row has — there are: review, label"):
        made_by(None, target="grade")
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(DataError, match="现有字段：句子、译文"):
        made_by(None, rows=译, target="grade")


def test_the_command_line_with_a_server(tmp_path):
    rows = tmp_path / "mood.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in MOOD), encoding="utf-8")
    out = tmp_path / "mood.yaml"
    with Loopback() as server:
        spec = f"provider=openai,model=m,base_url={server.url}"
        told = CliRunner().invoke(app, ["template", "new", str(rows), "--model", spec, "-o", str(out), "--json"])
    assert told.exit_code == 0, told.output
    summary = json.loads(told.stdout)
    assert (
        summary["by"] in ("model", "repaired", "rules")
        and yaml.safe_load(out.read_text(encoding="utf-8")) == summary["definition"]
    )
    assert check(out) == [] and load_definition(out).id == "mood"
    again = CliRunner().invoke(app, ["template", "new", str(rows), "--model", "none", "-o", str(out)])
    assert isinstance(again.exception, DataError) and "there already" in str(again.exception)


@pytest.mark.model
def test_the_embedded_model_ends_in_a_definition_that_says_who_worded_it(tmp_path):
    """SmolLM2-135M seldom words an instruction: what counts is that the draft is sound and owns up to where it came from."""
    rows = tmp_path / "mood.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in MOOD), encoding="utf-8")
    told = CliRunner().invoke(app, ["template", "new", str(rows), "--json"])
    assert told.exit_code == 0, told.output
    summary = json.loads(told.stdout)
    assert summary["by"] in ("model", "repaired", "rules")
    assert (summary["by"] == "rules") == any("draft is the rules'" in note for note in summary["notes"])
