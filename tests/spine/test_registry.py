"""Names become functions; settings are checked against the function's own signature."""

import pytest

from zhiling import registry
from zhiling.errors import RecipeError, boundary


@pytest.fixture
def toy():
    @registry.scorer("toy", low=0, high=1, better="high")
    def toy(examples, *, tasks, bound: float, names: list[str] = []):  # noqa: B006
        """Say nothing.

        More words."""
        return []

    yield registry.get("scorer", "toy")
    del registry._table["scorer", "toy"]


def test_a_plug_in_states_its_facts(toy):
    assert toy.wants == {"tasks"} and set(toy.settings) == {"bound", "names"}
    assert toy.doc == "Say nothing." and toy.facts["better"] == "high"
    assert len(toy.version) == 10


def test_settings_are_coerced_and_defaults_filled(toy):
    assert registry.settle(toy, {"bound": 1}) == {"bound": 1.0, "names": []}


@pytest.mark.parametrize(
    ("given", "said"),
    [({}, "'toy' needs the key 'bound'"), ({"bound": "x"}, "'bound': .*got 'x'"), ({"bound": 1, "nams": []}, r"unknown key 'nams' — did you mean 'names'\?"), ({"bound": 1, "zzz": 1}, "toy takes: bound, names")],
)  # fmt: skip
def test_wrong_settings_are_named(toy, given, said):
    with pytest.raises(RecipeError, match=said):
        registry.settle(toy, given, "here")


def test_every_built_in_name_leads_to_a_function():
    for sort, table in registry.BUILTIN.items():
        for name in table:
            plugin = registry.get(sort, name)
            assert plugin.doc, f"{sort} {name} has no docstring"


def test_scorers_state_their_range():
    for name in registry.BUILTIN["scorer"]:
        facts = registry.get("scorer", name).facts
        assert facts["low"] < facts["high"] and facts["better"] in ("high", "low", "none"), name
        assert facts["langs"], name


def test_an_unknown_name_lists_the_known():
    with pytest.raises(RecipeError, match="known: .*openai"):
        registry.get("provider", "qqqq")


def test_a_missing_package_is_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(registry.BUILTIN["scorer"], "needy", "zhiling_absent_module")
    with pytest.raises(RecipeError, match="pip install zhiling_absent_module"):
        registry.get("scorer", "needy")
    assert "zhiling[tune]" in str(boundary(ModuleNotFoundError("x", name="torch.nn")))
