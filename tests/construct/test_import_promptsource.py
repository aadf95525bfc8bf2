"""Imported promptsource templates against an implementation of what promptsource does with them, on typed rows."""

import functools
import json
import tarfile
from collections import Counter
from pathlib import Path

import jinja2
import pytest
import yaml

from zhiling.construct.bind import bind
from zhiling.construct.fill import fill
from zhiling.construct.importing import Draft, Skipped, import_files
from zhiling.construct.importing.jinja_source import halves
from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError
from zhiling.types import Example, Record, Task

A, B = "A cat sleeps on the mat, I'd say.", "It is the cat that sleeps ||| on 3 mats."
ANSWERS = {"text": ["in Paris", "Paris"], "answer_start": [4]}
TABLE = {
    "table": {"column_header": ["name", "birth_place", "article_title"], "content": ["ann lee", "oslo", "x"]},
    "context": "ann lee\n",
}
ROWS = {
    "common_gen": [{"concepts": ["ski", "mountain", "skier"], "target": "Skier skis down the mountain"}],
    "gigaword": [{"document": A, "summary": "cat sleeps"}],
    "glue_stsb": [{"sentence1": A, "sentence2": B, "label": score} for score in (0.0, 2.62, 5.0)],
    "glue_sst2": [{"sentence": A, "label": label} for label in (0, 1)],
    "hellaswag": [
        {"activity_label": "Cooking", "ctx": "She cuts. then she", "ctx_a": "She cuts.", "ctx_b": "then she",
         "endings": ["eats.", "sleeps.", "runs.", "sings."], "label": label} for label in ("0", "3", "")
    ],
    "imdb": [{"text": A, "label": label} for label in (0, 1)],
    "rotten_tomatoes": [{"text": B, "label": label} for label in (0, 1)],
    "yelp_review_full": [{"text": A, "label": label} for label in range(5)],
    "multi_news": [{"document": "One story.3ed2dface8203c4c9dfb1a5dc58e41e0||Two stories.3ed2dface8203c4c9dfb1a5dc58e41e0||", "summary": "– Short."}],
    "ncbi_disease": [
        {"tokens": ["Familial", "breast", "cancer", "and", "gout", "."], "ner_tags": [1, 2, 2, 0, 1, 0]},
        {"tokens": ["No", "disease", "here", "."], "ner_tags": [0, 0, 0, 0]},
    ],
    "openbookqa_main": [
        {"question_stem": "The sun is", "choices": {"text": ["a star", "a moon ", "a cake", "a dog"], "label": ["A", "B", "C", "D"]}, "answerKey": key}
        for key in "AB"
    ],
    "piqa": [{"goal": "Cut a pie.", "sol1": "Use a knife.", "sol2": "Use a spoon.", "label": label} for label in (0, 1)],
    "quora": [
        {"is_duplicate": same, "questions": {"id": [1, 2], "text": texts}}
        for same in (True, False) for texts in (["Why?", "Why is that?"], ["Why is that?", "Why?"])
    ],
    "samsum": [{"dialogue": "Ann: hi\r\nBo: hello", "summary": "They greet."}],
    "squad": [{"context": A, "question": "Where?", "answers": ANSWERS}],
    "squad_v2": [{"title": "Paris_(city)", "context": A, "question": "Where?", "answers": answers}
                 for answers in (ANSWERS, {"text": [], "answer_start": []})],
    "super_glue_boolq": [{"passage": A, "question": "is it", "label": label} for label in (0, 1, -1)],
    "super_glue_copa": [{"premise": A, "choice1": "He left. ", "choice2": "He stayed.", "question": question, "label": label}
                        for question in ("cause", "effect") for label in (0, 1, -1)],
    "super_glue_multirc": [{"paragraph": A, "question": "Who?", "answer": "The cat", "label": label} for label in (0, 1)],
    "super_glue_wic": [{"word": "place", "sentence1": A, "sentence2": B, "label": label} for label in (0, 1)],
    "super_glue_wsc.fixed": [{"text": "Ann told Bo that she left.", "span1_text": "Ann", "span2_text": "she", "span2_index": index, "label": label}
                             for index in (0, 4) for label in (0, 1)],
    "trec": [{"text": "Who wrote it ?", "coarse_label": coarse, "fine_label": fine}
             for coarse, fine in ((0, 1), (1, 5), (2, 25), (3, 28), (4, 33), (5, 40))],
    "wiki_bio": [{"input_text": TABLE, "target_text": "ann lee was born in oslo ."}],
    "xsum": [{"document": A, "summary": "Cat sleeps."}],
    "glue_mnli": [{"premise": A, "hypothesis": B, "label": label} for label in (0, 1, 2)],
    "glue_mrpc": [{"sentence1": A, "sentence2": B, "label": label} for label in (0, 1)],
}  # fmt: skip
ROWS["super_glue_rte"] = ROWS["glue_mnli"][:2]
SAME = {
    "glue_rte": "glue_mrpc",
    "paws_labeled_final": "glue_mrpc",
    "snli": "glue_mnli",
    "super_glue_cb": "glue_mnli",
    "xnli_en": "glue_mnli",
}
PIPES = "3ed2dface8203c4c9dfb1a5dc58e41e0"


class _Tagged(yaml.SafeLoader):
    """promptsource's tags as mappings, for reading the originals without the code under test."""


for tag in ("!Template", "!TemplateMetadata"):
    _Tagged.add_constructor(tag, lambda loader, node: loader.construct_mapping(node, deep=True))


def guarded(value, there=True):
    """The value with the separator in its texts replaced, or put back."""
    if isinstance(value, dict):
        return {key: guarded(item, there) for key, item in value.items()}
    if isinstance(value, list):
        return [guarded(item, there) for item in value]
    if not isinstance(value, str):
        return value
    return value.replace("|||", PIPES) if there else value.replace(PIPES, "|||")


TURN = [0]
ENV = jinja2.Environment(optimized=False)  # or the first draw from a constant list would be every draw
ENV.globals["zip"] = zip
ENV.filters["choice"] = lambda items: list(items)[TURN[0] % len(list(items))]
compiled_once = functools.cache(ENV.from_string)


def applied(template, row, turn):
    """What promptsource makes of a template and a row: whole rendering, cut, stripped; `choice` takes the item of that turn."""
    TURN[0] = turn
    safe = guarded(row)
    choices = None
    if template["answer_choices"]:
        shown = compiled_once(template["answer_choices"]).render(**safe)
        choices = [guarded(part.strip(), False) for part in shown.split("|||")]
    shown = compiled_once(template["jinja"]).render(**safe, answer_choices=choices)
    return [guarded(part, False).strip() for part in shown.split("|||")]


def as_text(value):
    """A field as our readers give it."""
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(scope="module")
def collections(shared, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("promptsource")
    with tarfile.open(shared / "08_promptsource" / "templates.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def drafts(collections):
    return list(import_files([collections]))


def test_all_of_them_become_definitions(drafts):
    assert [draft for draft in drafts if isinstance(draft, Skipped)] == []
    assert sum(len(draft.definition["phrasings"]) for draft in drafts) == 308


def test_they_render_what_promptsource_renders(collections, drafts):
    """Every template on every typed row of its data set: the same prompt and answer, or (nothing to ask) no row from either."""
    originals = {}
    for file in collections.rglob("templates.yaml"):
        tree = yaml.load(file.read_text(encoding="utf-8"), _Tagged)  # a SafeLoader
        name = "_".join(str(tree[key]) for key in ("dataset", "subset") if tree.get(key))
        originals[name] = list(tree["templates"].values())
    checked, compared, empty = Counter(), 0, 0
    for name, templates in originals.items():
        for template in templates:
            instruction, output = (
                compiled(part) for part in halves(template["jinja"], template["answer_choices"] or "")
            )
            for row in ROWS[SAME.get(name, name)]:
                texts = {key: as_text(value) for key, value in row.items()}
                wanted = [applied(template, row, turn) for turn in range(12 if "choice" in template["jinja"] else 1)]
                wanted = [[*parts, ""][:2] for parts in wanted if len(parts) <= 2]
                got = [instruction.render(texts).strip(), output.render(texts).strip()]
                if not got[0] or not got[1]:
                    assert all(not all(parts) for parts in wanted), (name, template["name"], row, wanted[0])
                    empty += 1
                    continue
                assert got in wanted, (name, template["name"], got, wanted[0])
                checked[name, template["name"]] += 1
                compared += 1
    assert len(checked) == 308 and compared > 600 and empty > 0


def test_a_row_comes_out_of_fill_as_promptsource_words_it(drafts):
    draft = next(draft for draft in drafts if draft.id == "squad_answers")
    definition = draft.checked()
    inputs = tuple(name for name in definition.fields if name != "answers")
    task = Task("t", family="qa", inputs=inputs, target="answers")
    record = Record("t", {"context": A, "question": "Where?", "answers": json.dumps(ANSWERS)})
    made = list(fill([record], list(bind(definition, task)), task=task, seed=1, per_record=99))
    assert made and all(isinstance(one, Example) for one in made)
    assert {one.output for one in made} == {"in Paris"}
    assert all("Where?" in one.prompt and A in one.prompt for one in made)


@pytest.mark.parametrize(
    ("jinja", "choices", "row", "prompt", "answer"),
    [
        ("{{ q }}\n|||\n{{ a }}", "", {"q": " Why? ", "a": "so"}, "Why?", "so"),
        ("{% set x = q | upper %}{{ x }} ||| {{ x | lower }}", "", {"q": "Hi"}, "HI", "hi"),
        ("{% if n == 1 %}one ||| {{ a }}{% elif n == 2 %}two ||| {{ a }}!{% endif %}", "", {"n": "2", "a": "x"}, "two", "x!"),
        ("{% if f %}A ||| {{ a }}{% endif %}{% if not f %}B ||| {{ a }}{% endif %}", "", {"f": "false", "a": "x"}, "B", "x"),
        ("{{ q }} ||| {{ answer_choices[n] }}", "{{ a }} ||| no", {"q": "?", "n": "0", "a": "yes "}, "?", "yes"),
        ("{{ q }} ||| {{ answer_choices[n] }}", "{% for w in ws %}{{ w }}|||{% endfor %}", {"q": "?", "n": "1", "ws": '["a","b"]'}, "?", "b"),
        ("{% raw %}{{ as it is }}{% endraw %} {{ q }} ||| {{ a }}", "", {"q": "?", "a": "x"}, "{{ as it is }} ?", "x"),
        ("{% for a, b in zip(xs, ys) %}{{ a }}={{ b }};{% endfor %} ||| {{ z }}", "", {"xs": "[1]", "ys": '["p"]', "z": "x"}, "1=p;", "x"),
        ("{{ q }} ||| {{ (votes | most_frequent)[0] }}", "", {"q": "?", "votes": '["a","b","b"]'}, "?", "b"),
        ("{{ 题 }}？||| {{ 答 }}", "", {"题": "几点", "答": "三点"}, "几点？", "三点"),
        ("{{ q }} ||| {{ a }}", "", {"q": "1e5 [1] {{ x }} |||", "a": "007"}, "1e5 [1] {{ x }} |||", "007"),
    ],
)  # fmt: skip
def test_what_stands_where(jinja, choices, row, prompt, answer):
    asked, answered = halves(jinja, choices)
    assert (compiled(asked).render(row).strip(), compiled(answered).render(row).strip()) == (prompt, answer)


@pytest.mark.parametrize(
    ("jinja", "said"),
    [
        ("{{ q }} {{ a }}", "no ||| between"),
        ("{{ q }} ||| {{ a }} ||| {{ b }}", "more than once"),
        ("{% for x in xs %}{{ x }} ||| {{ a }}{% endfor %}", "inside a 'for' block"),
        ("{{ q ||| {{ a }}", "not valid Jinja"),
        ("{% if q %} ||| {{ a }}", "not valid Jinja"),
        ("{{ q | no_such }} ||| {{ a }}", "no_such"),
        ("{{ q.__class__.__mro__ }} ||| {{ a }}", "not allowed"),
        ("{{ cycler.__init__.__globals__ }} ||| {{ a }}", "not allowed"),
        ("{% include 'x' %} ||| {{ a }}", "not allowed"),
        ("{% import 'os' as os %} ||| {{ a }}", "not allowed"),
        ("{{ lipsum() }} ||| {{ a }}", "can be called"),
        ("{{ '%s'.format(q) }} ||| {{ a }}", "not allowed"),
        ("{{ " + "(" * 500 + "q" + ")" * 500 + " }} ||| {{ a }}", "nested too deeply"),
    ],
)
def test_jinja_that_cannot_be_taken_is_one_line(jinja, said):
    with pytest.raises(RecipeError, match=said.replace("|", r"\|")) as caught:
        halves(jinja)
    assert "\n" not in str(caught.value).replace("\n\n", "")[:400]


HOSTILE = {
    "tag": (
        "dataset: x\ntemplates:\n  a: !Template\n    jinja: !!python/object/apply:os.system ['true']\n",
        "constructor for the tag",
    ),
    "unknown": ("dataset: x\ntemplates:\n  a: !Template\n    jinja: !Strange x\n", "!Strange"),
    "half": ("dataset: x\ntemplates:\n  a: !Template\n    jinja: '{{ a }} ||| {{", "not valid YAML"),
    "scalar": ("dataset: x\ntemplates:\n  a: !Template jinja:\n", "not valid YAML|not a mapping"),
    "list": ("- !Template\n  jinja: x\n", "no mapping of templates"),
    "bomb": (
        "# !Template jinja:\na0: &a0 [x, x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
        "unfolds to too much",
    ),
    "ring": ("# !Template jinja:\na: &a [*a]\n", "unfolds to too much"),
    "deep": ("# !Template jinja:\na: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "big": ("# !Template jinja:\n" + "x: y\n" * 250_000, "more than 1 MB"),
    "other": ("id: mine\nfamily: qa\n", "not a promptsource file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_broken_file_is_one_line(name, tmp_path):
    content, said = HOSTILE[name]
    path = tmp_path / "templates.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=said) as caught:
        list(import_files([path]))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_one_bad_template_costs_itself_only(tmp_path, monkeypatch):
    path = tmp_path / "templates.yaml"
    path.write_text(
        "dataset: x\ntemplates:\n  a: !Template\n    name: bad\n    jinja: '{{ q.__class__ }} ||| {{ a }}'\n"
        "  b: !Template\n    name: good\n    jinja: '{{ q }} ||| {{ a }}'\n  c: 3\n",
        encoding="utf-8",
    )
    skipped, other, good = sorted(import_files([path]), key=lambda made: isinstance(made, Draft))
    assert skipped.where == f"{path}:3 bad" and "not allowed" in skipped.why
    assert other.where.startswith(f"{path}:9") and "without 'jinja'" in other.why
    assert [phrasing["id"] for phrasing in good.definition["phrasings"]] == ["good"]
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert any("不允许" in made.why for made in import_files([path]) if isinstance(made, Skipped))
