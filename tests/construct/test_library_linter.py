"""The linter against planted defects: every one is found by its own code, and sound wordings raise no finding."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.construct.library import LIBRARY, list_definitions
from zhiling.construct.library_check import check, check_all

SOUND = {
    "id": "mood", "family": "classification", "langs": ["zh", "en"],
    "description": {"zh": "判断评论的情感。", "en": "Decide the mood of a review."},
    "fields": ["text", "label"], "target": "label",
    "labels": {"good": {"zh": "好评", "en": "positive"}, "bad": {"zh": "差评", "en": "negative"}},
    "defaults": {"zh": {"input": "{{ text }}", "output": "{{ label }}"}, "en": {"input": "{{ text }}", "output": "{{ label }}"}},
    "examples": {"zh": [{"text": "房间很干净。", "label": "good"}], "en": [{"text": "The zip broke.", "label": "bad"}]},
    "phrasings": [
        {"lang": "zh", "instruction": "判断这条用户留言的情感，只能在“{{ choices }}”之中作答。"},
        {"lang": "en", "instruction": "Decide how this customer feels. Pick from {{ choices }}."},
    ],
}  # fmt: skip

PLANTED = [
    ("undeclared", "en", "Decide how {{ customer }} feels."),
    ("jinja", "en", "Decide how {{ text feels."),
    ("jinja", "zh", "判断情感：{{ text.__class__ }}"),
    ("leak", "en", "The answer is {{ label }}. Decide how this customer feels."),
    ("leak", "zh", "答案是{{ label }}，请判断情感。"),
    ("leak", "en", "Say negative when this customer is unhappy."),
    ("leak", "zh", "觉得不错就回答好评，请判断。"),
    ("said-twice", "en", "Decide how this customer feels: {{ text }}"),
    ("unfilled", "zh", "判断{text}的情感。"),
    ("mixed", "en", "Decide how this customer 感觉 about it."),
    ("mixed", "zh", "判断情感，please answer with one of the choices 即可。"),
    ("wrong-lang", "zh", "Decide how this customer feels."),
    ("wrong-lang", "en", "判断这条留言的情感。"),
    ("punctuation", "en", "Decide how this customer feels,, please."),
    ("punctuation", "zh", "判断这条留言的情感。。"),
    ("punctuation", "zh", "判断这条留言的情感，.谢谢。"),
    ("width", "zh", "判断这条留言的情感,再作答。"),
    ("width", "zh", "判断第１条留言的情感。"),
    ("width", "en", "Decide how this customer feels，please."),
    ("brackets", "en", "Decide how this customer feels (one choice."),
    ("brackets", "zh", "判断“留言的情感。"),
    ("brackets", "en", 'Decide how this "customer feels.'),
    ("spaces", "en", "Decide how  this customer feels."),
    ("spaces", "en", "Decide how this customer feels , please."),
    ("spaces", "zh", "判断这条 留言的情感。"),
    ("vague", "en", "Please do it."),
    ("vague", "en", "Process this."),
    ("vague", "zh", "把这条留言处理一下。"),
    ("placeholder", "en", "Decide how [insert name] feels."),
    ("placeholder", "zh", "判断情感，规则待补充。"),
    ("repeated", "en", "Decide how the the customer feels."),
    ("repeated", "zh", "判断这条留言的的情感。"),
    ("article", "en", "Give a answer: how does this customer feel?"),
    ("capitals", "en", "DECIDE HOW THIS CUSTOMER FEELS NOW"),
    ("reference", "en", "Decide how the author of the above text feels."),
    ("reference", "zh", "判断上述留言的情感。"),
    ("no-verb", "en", "The mood of a customer."),
    ("no-verb", "zh", "这句话的情感倾向。"),
    ("contradiction", "en", "Decide how this customer feels. Do not explain, but justify your choice."),
    ("contradiction", "zh", "判断情感，只答一个词，再用一段话详细说明。"),
    ("contradiction", "en", "Decide how this customer feels and return JSON."),
    ("contradiction", "zh", "判断情感，只写数字。"),
    ("near-duplicate", "en", "Decide how this customer feels! Pick from {{ choices }}."),
    ("near-duplicate", "zh", "判断这条用户留言的情感，只能在“{{ choices }}”之中作答！"),
]  # fmt: skip


def written(folder, change=None, **phrasing):
    made = json.loads(json.dumps(SOUND))
    if phrasing:
        made["phrasings"].append(phrasing)
    if change:
        change(made)
    path = folder / "mood.yaml"
    path.write_text(yaml.safe_dump(made, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def test_a_sound_definition_raises_nothing(tmp_path):
    assert check(written(tmp_path)) == []


@pytest.mark.parametrize(("code", "lang", "instruction"), PLANTED)
def test_each_planted_defect_is_found_where_it_stands(tmp_path, code, lang, instruction):
    path = written(tmp_path, lang=lang, instruction=instruction)
    found = [finding for finding in check(path) if finding.code == code]
    assert found, [str(finding) for finding in check(path)]
    assert all(finding.phrasing == 2 and finding.file == str(path) for finding in found)
    line = path.read_text(encoding="utf-8").splitlines()[found[0].line - 1]
    assert line.strip().removeprefix("- ").startswith(("lang:", "instruction:"))
    assert found[0].level == ("error" if code in ("undeclared", "jinja") else "warning")


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("no-description", lambda made: made["description"].pop("en")),
        ("unused", lambda made: made["fields"].insert(0, "stars")),
        ("no-example", lambda made: made["examples"].pop("zh")),
        ("example", lambda made: made["examples"]["zh"][0].pop("label")),
        ("no-label-word", lambda made: made["labels"]["good"].pop("zh")),
        ("invalid", lambda made: made.update(target="mood")),
        ("unreadable", lambda made: made.update(colour="red")),
    ],
)
def test_defects_of_the_whole_definition(tmp_path, code, change):
    assert code in {finding.code for finding in check(written(tmp_path, change))}


def test_fields_said_in_earlier_turns_are_used_and_an_answer_there_leaks(tmp_path):
    def talk(*turns):
        def change(made):
            made["fields"].insert(0, "earlier")
            for lang, said in (("zh", "之前说过什么"), ("en", "What was said before")):
                made["examples"][lang][0]["earlier"] = said
            for phrasing in made["phrasings"]:
                phrasing["turns"] = [dict(turn) for turn in turns]

        return {finding.code for finding in check(written(tmp_path, change))}

    assert talk({"user": "{{ earlier }}"}, {"assistant": "..."}) == set()
    assert talk({"field": "earlier"}) == set()
    assert talk({"user": "..."}) == {"unused"}
    assert talk({"field": "earlier"}, {"field": "label"}) == {"leak"}


@pytest.mark.parametrize(
    ("lang", "instruction"),
    [
        ("en", "A reader wrote this. Is it an honest review? Choose from {{ choices }}, e.g. by its tone..."),
        (
            "en",
            "Weigh what the NLI model, the JSON API and the FAQ say; then answer (in one word) with one of {{ choices }}.",
        ),
        ("en", "He said that that was an hour's work. How do they feel? Use `a  b` as you like."),
        ("zh", "请阅读这条留言（约100字），判断写作者的态度……从{{ choices }}里选一个。"),
        ("zh", "用 Python 的口吻想一想：这位顾客高兴吗？给出{{ choices }}之一。"),
        ("zh", "下面是一条留言。请根据上述要求之外的常识，判断它属于{{ choices }}中的哪一类。"),
    ],
)
def test_sound_wordings_raise_nothing(tmp_path, lang, instruction):
    assert [str(finding) for finding in check(written(tmp_path, lang=lang, instruction=instruction))] == []


def test_every_finding_has_words_in_both_languages(tmp_path, monkeypatch):
    for code, lang, instruction in PLANTED:
        path = written(tmp_path, lang=lang, instruction=instruction)
        monkeypatch.setenv("ZHILING_LANG", "zh")
        chinese = {finding.code: finding for finding in check(path)}[code]
        monkeypatch.setenv("ZHILING_LANG", "en")
        english = {finding.code: finding for finding in check(path)}[code]
        assert any("\u4e00" <= char <= "\u9fff" for char in chinese.what) and chinese.what != english.what, code


def test_the_shipped_library_raises_nothing():
    files = sorted((LIBRARY / "templates").rglob("*.yaml"))
    assert len(files) == len(list_definitions())
    assert [str(finding) for finding in check_all(files)] == []


def test_a_phrasing_taken_from_the_library_is_found(tmp_path):
    taken = next(d for d in list_definitions() if d.id == "classification_sentiment").phrasings[0]
    path = written(tmp_path, lang="zh", instruction=taken.instruction)
    (finding,) = [finding for finding in check_all([path]) if finding.code == "near-duplicate"]
    assert "classification_sentiment" in finding.what and finding.phrasing == 2


def test_the_command_line(tmp_path):
    run = CliRunner()
    clean = run.invoke(app, ["template", "check"])
    assert clean.exit_code == 0 and "in order" in clean.output
    path = written(tmp_path, lang="en", instruction="Decide how {{ customer }} feels.")
    told = run.invoke(app, ["template", "check", str(tmp_path), "--json"])
    assert told.exit_code == 2
    (finding,) = json.loads(told.stdout)
    assert (
        finding["code"] == "undeclared"
        and finding["file"] == str(path)
        and finding["line"]
        and finding["phrasing"] == 2
    )
