"""What the README promises is what happens: its commands are in the Makefile, its example runs, its pages exist, the docs match the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


def code(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (TOP / page).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_two_commands_stand_first_and_exist(page):
    first = code(page, "bash")[0]
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"make (\w+)", first):
        assert re.search(rf"^{command}:", makefile, re.M)
    assert {"demo", "test"} <= set(re.findall(r"make (\w+)", first))


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_python_example_runs_as_printed(page, tmp_path):
    pytest.importorskip("torch")
    example = code(page, "python")[0].replace('"src/', f'"{TOP}/src/')
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "ZHILING_LANG": "en"},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    row = done.stdout.strip().splitlines()[-1]
    assert re.search(r"24 .*[01]\.\d{3}", done.stdout) and row


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/guide.md", "docs/guide.zh.md"])
def test_links_and_pictures_lead_somewhere(page):
    text = (TOP / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)\)", text):
        if not target.startswith("http"):
            assert (TOP / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/guide.md", "docs/guide.zh.md"])
def test_recipes_on_the_pages_are_valid(page, tmp_path):
    from zhiling.recipe import loads

    for text in code(page, "yaml"):
        if text.startswith(("tasks:", "name:")):
            assert loads(text, tmp_path).tasks


def test_the_plug_in_page_says_what_the_registry_says():
    sys.path.insert(0, str(TOP / "docs"))
    try:
        import plugins
    finally:
        sys.path.pop(0)
    assert (TOP / "docs" / "plugins.md").read_text(encoding="utf-8") == plugins.page(), "run: python docs/plugins.py"


@pytest.mark.parametrize("page", ["docs/guide.md", "docs/guide.zh.md"])
def test_the_guides_plug_in_works_as_printed(page, tmp_path, monkeypatch):
    from zhiling import registry
    from zhiling.types import Example

    example = code(page, "python")[0]
    (tmp_path / "a_guide_plugin.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("a_guide_plugin", None)
    import a_guide_plugin  # noqa: F401

    name = re.search(r'@scorer\("(\w+)"', example)[1]
    scores = list(registry.get("scorer", name).fn([Example("t", "i", output="HALF half!"), Example("t", "i")]))
    assert scores[0].value is not None and scores[1].value is None and scores[1].why
    del registry._table["scorer", name]


def test_every_verb_of_the_guide_is_a_command():
    help_text = subprocess.run(
        [sys.executable, "-m", "zhiling.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for verb in set(re.findall(r"zhiling (\w+)", (TOP / "docs/guide.md").read_text(encoding="utf-8"))):
        if verb not in ("speaks",):
            assert re.search(rf"^  {verb} ", help_text, re.M), verb
