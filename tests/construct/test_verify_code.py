"""The verifier of code: tests must pass, and must notice faults."""

import ast
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.construct import cage
from zhiling.construct.verify.code import code, program_of
from zhiling.construct.verify.mutate import mutants
from zhiling.types import Example

pytestmark = pytest.mark.skipif(all(cage.breach(name) for name in cage.CAGES), reason="no cage holds on this machine")

CLAMP = (
    "def clamp(x, low, high):\n    if x < low:\n        return low\n    if x > high:\n        return high\n    return x"
)
TESTS = "assert clamp(5, 0, 3) == 3\nassert clamp(-1, 0, 3) == 0\nassert clamp(2, 0, 3) == 2"


def told(*rows, **settings):
    rows = [row if isinstance(row, Example) else Example("t", "Write it.", "", row) for row in rows]
    scores = code(rows, seed=7, **settings)
    assert [score.example for score in scores] == [row.id for row in rows]
    return [(score.value, score.why) for score in scores]


def fenced(*blocks, lang="python"):
    return "\n".join(f"```{lang}\n{block}\n```" for block in blocks)


def test_tests_are_found_wherever_a_row_has_them():
    rows = [
        f"{CLAMP}\n{TESTS}",
        fenced(CLAMP, TESTS),
        "好的，代码如下：\n" + fenced(CLAMP) + "\n测试：\n" + fenced("def test_clamp():\n    " + TESTS.replace("\n", "\n    ")),
        fenced(CLAMP, "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(clamp(5, 0, 3), 3)\n        self.assertEqual(clamp(-1, 0, 3), 0)\n        self.assertEqual(clamp(2, 0, 3), 2)"),
        Example("t", "写一个函数 clamp，须通过以下测试：", TESTS, CLAMP),
        Example("t", "Write clamp.", ">>> clamp(5, 0, 3)\n3\n>>> clamp(-1, 0, 3)\n0\n>>> clamp(2, 0, 3)\n2", CLAMP),
    ]  # fmt: skip
    head = 'def clamp(x, low, high):\n    """Into the bounds.\n\n    >>> clamp(5, 0, 3)\n    3\n    >>> clamp(-1, 0, 3)\n    0\n    >>> clamp(2, 0, 3)\n    2\n    """'
    rows.append(Example("t", "Complete the function.", head, CLAMP))
    assert [(value, why.split(": ")[0]) for value, why in told(*rows)] == [(1.0, "passes; faults noticed")] * 7


def test_wrong_programs_are_refused_with_their_error():
    wrong = CLAMP.replace("x > high", "x >= high + 1")
    said = told(
        f"{CLAMP}\nassert clamp(5, 0, 3) == 4", fenced(wrong, "assert clamp(3.5, 0, 3) == 3"), "def f(:\n  pass", "```python\n```", f"{CLAMP}\n{TESTS}\nassert clamp(1) == 1",
        fenced(CLAMP, "import os\nos._exit(0)\ndef test_x(): pass"), fenced("import socket\ndef f():\n    return socket.create_connection(('127.0.0.1', 9))", "def test_f():\n    f()"),
        fenced(CLAMP, "class TestX: pass\ndef testing_nothing(): pass"),
    )  # fmt: skip
    assert [value for value, _ in said[:7]] == [0.0] * 7
    assert "AssertionError" in said[0][1] and "no Python: line 1" in said[2][1] and "TypeError" in said[4][1]
    assert "Operation not permitted" in said[6][1]


def test_tests_that_notice_nothing_are_no_tests():
    said = told(
        f"{CLAMP}\nassert True",
        f"{CLAMP}\nassert callable(clamp)",
        fenced("import sys\nsys.exit(0)\n" + CLAMP, TESTS),
        f"{CLAMP}\n{TESTS}",
    )
    assert [value for value, _ in said] == [0.0, 0.0, 0.0, 1.0]
    assert said[0][1].startswith("its tests notice too few faults put into it: 0/")
    assert told(f"{CLAMP}\nassert True", killed=0.0)[0][0] == 1.0


def test_what_cannot_be_checked_is_said_so(monkeypatch):
    said = told(CLAMP, fenced("console.log(1)", lang="javascript"), fenced("fn main() {}", lang="rust"))
    assert [value for value, _ in said] == [None, None, None]
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert [why for _, why in told(CLAMP, fenced("int x;", lang="c"))] == [
        "问题和回答中都没有测试",
        "只运行 Python，而这是 c",
    ]
    assert "测试发现的植入错误太少" in told(f"{CLAMP}\nassert True")[0][1]


def test_endless_and_greedy_programs_end():
    said = told("def f():\n    while True: pass\nf()\nassert f", "x = [0] * (1 << 34)\nassert x", seconds=0.5)
    assert [value for value, _ in said] == [0.0, 0.0]
    assert said[0][1] == "ran past its time limit" and said[1][1] == "ran past its memory limit"


def test_the_same_seed_puts_the_same_faults():
    assert mutants(CLAMP, 6, 1) == mutants(CLAMP, 6, 1)
    assert [what for what, _ in mutants(CLAMP, 6, 1)] != [what for what, _ in mutants(CLAMP, 6, 2)]
    assert mutants(CLAMP, 6, 1)[0] == ("clamp() does nothing", "def clamp(x, low, high):\n    pass")


@settings(max_examples=12)
@given(st.integers(0, 1000))
def test_a_fault_changes_the_program_and_leaves_it_python(seed):
    source = 'import math\n\ndef area(r: float = 2.0) -> float:\n    """Not this: 1 < 2."""\n    if not r > 0 and r != -1:\n        raise ValueError(f"{r} < 0")\n    out = [x * 2 for x in range(3) if x % 2 == 0]\n    out.append(1)\n    return math.pi * r ** 2 + sum(out)\n'
    made = mutants(source, 50, seed)
    assert len(made) == len({text for _, text in made}) > 12
    for _, text in made:
        ast.parse(text)
        assert text != ast.unparse(ast.parse(source))
        assert "Not this: 1 < 2." in text or "pass" in text


def test_shared_solutions_pass_and_their_faults_are_noticed(shared):
    rows = []
    for line in (shared / "14_code_math/humaneval.jsonl").read_text().splitlines()[:12]:
        task = json.loads(line)
        solution = task["prompt"] + task["canonical_solution"]
        tests = f"{task['test']}\ndef test_it():\n    check({task['entry_point']})"
        rows.append(Example("t", "Complete the function.", task["prompt"], fenced(solution, tests)))
    said = told(*rows, mutations=4)
    assert [why for value, why in said if value != 1.0] == []
    broken = [fenced(mutants(program_of(row).solution, 1, 0)[0][1], program_of(row).tests) for row in rows]
    assert {value for value, _ in told(*broken)} == {0.0}
