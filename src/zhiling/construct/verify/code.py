"""Whether a row's program does what it was asked: its tests pass in a cage, and notice faults that are put into it."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from zhiling.construct import cage
from zhiling.construct.verify.mutate import mutants
from zhiling.errors import say
from zhiling.registry import verifier
from zhiling.text import cut
from zhiling.types import Example, Score, row_seed

_fence = re.compile(r"```[ \t]*([\w+#-]*)[^\n]*\n(.*?)```", re.DOTALL)
_assert = re.compile(r"^[ \t>*-]*`?(assert\s.+?)`?[ \t]*$", re.MULTILINE)
_quotes = re.compile(r"\"{3}|'{3}")
_PYTHON = frozenset({"", "python", "python3", "py", "pycon"})

LOOPING = 2.0
"""Seconds after which a faulty version is taken to have been noticed: many faults make a loop that never ends."""

_DRIVER = """
def _zhiling_tests():
    import unittest
    ran = 0
    for name, found in list(globals().items()):
        if name.startswith("test") and callable(found) and not isinstance(found, type):
            found(); ran += 1
        elif isinstance(found, type) and issubclass(found, unittest.TestCase) and found is not unittest.TestCase:
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(found).run(result)
            ran += result.testsRun
            for _, said in result.errors + result.failures:
                raise AssertionError(said.strip().splitlines()[-1])
    assert ran, "no test was run"
_zhiling_tests()
"""
_DOCTEST = """
def _zhiling_doctest(text):
    import doctest
    said = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(doctest.DocTestParser().get_doctest(text, globals(), "prompt", None, 0), out=said.append, clear_globs=False)
    assert not runner.failures, " ".join("".join(said).partition("Failed example:")[2].partition("****")[0].split())[:300]
_zhiling_doctest({text!r})
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What is run for a row: a solution and its tests (Python text); `fault` says why there is nothing to run, `wrong` whether that is bad."""

    solution: str = ""
    tests: str = ""
    fault: str = ""
    wrong: bool = False


@verifier("code", families=("code",), langs=("zh", "en"), paper="HumanEval (Chen et al. 2021); mutation testing")
def code(
    examples: Sequence[Example],
    *,
    seed: int,
    mutations: Annotated[int, Ge(0)] = 6,
    killed: Annotated[float, Ge(0), Le(1)] = 0.5,
    seconds: Annotated[float, Gt(0)] = 5.0,
    memory: Annotated[int, Ge(64)] = 512,
) -> list[Score]:
    """A row's Python passes its tests, and at least the share `killed` of up to `mutations` faulty versions of it does not.

    Tests are looked for in the answer (assert statements, test_ functions, unittest classes, in the same block or a later one), then in the
    question (assert lines, `>>>` examples). 0.0 where the program fails, runs past `seconds` or `memory` MiB, leaves before its end, or where
    its tests notice too few faults: some faults change nothing (equivalent mutants), so not all must be noticed. None for rows without tests
    and for other languages. Raises EngineError where no cage holds.
    """
    programs = [program_of(row) for row in examples]
    limits = cage.Limits(seconds, memory)
    ready = {at: program for at, program in enumerate(programs) if not program.fault}
    out = [Score(row.id, "code", 0.0 if p.wrong else None, p.fault) for row, p in zip(examples, programs, strict=True)]
    ends = cage.run_all([(f"{p.solution}\n{p.tests}", "") for p in ready.values()], limits=limits) if ready else []
    passed: list[tuple[int, str]] = []
    for (at, program), end in zip(ready.items(), ends, strict=True):
        if end.state == "done":
            passed += [(at, text) for _, text in mutants(program.solution, mutations, row_seed(seed, examples[at].id))]
            out[at] = Score(examples[at].id, "code", 1.0)
        else:
            out[at] = Score(examples[at].id, "code", 0.0, cut(end.why, 300))
    faulty = [(f"{text}\n{ready[at].tests}", "") for at, text in passed]
    short = cage.Limits(min(seconds, LOOPING), memory)
    noticed = [end.state != "done" for end in cage.run_all(faulty, limits=short)] if faulty else []
    for at in ready:
        if out[at].value == 1.0:
            told = [seen for (place, _), seen in zip(passed, noticed, strict=True) if place == at]
            out[at] = _told(examples[at].id, told, killed)
    return out


def _told(row: str, noticed: Sequence[bool], killed: float) -> Score:
    """The verdict on a program that passes its tests, by how many of its faulty versions they notice."""
    count = f"{sum(noticed)}/{len(noticed)}"
    if noticed and sum(noticed) < max(killed * len(noticed), 1 if killed else 0):
        why = say(f"its tests notice too few faults put into it: {count}", f"测试发现的植入错误太少：{count}")
        return Score(row, "code", 0.0, why)
    return Score(row, "code", 1.0, say(f"passes; faults noticed: {count}", f"通过；发现植入错误：{count}"))


def program_of(row: Example) -> Program:
    """The solution and tests of a row, from its answer and its question."""
    blocks = _fence.findall(row.output)
    strange = [name for name, _ in blocks if name.lower() not in _PYTHON]
    if blocks and len(strange) == len(blocks):
        return Program(fault=say(f"only Python is run, this is {strange[0]}", f"只运行 Python，而这是 {strange[0]}"))
    parts = [text for name, text in blocks if name.lower() in _PYTHON] or [row.output]
    try:
        solution, tests = _split(parts[0])
        for part in parts[1:]:
            more, others = _split(part)
            # A later block of tests, or an example of use, which is not part of the solution.
            tests += "\n" + "\n".join(filter(None, (more if others else "", others)))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", 0)
        return Program(fault=say(f"no Python: line {line}: {error}", f"不是 Python：第 {line} 行：{error}"), wrong=True)
    if not solution.strip():
        return Program(fault=say("the answer has no program", "回答中没有程序"), wrong=True)
    tests = tests.strip() or _asked_tests(row.prompt)
    if not tests:
        return Program(fault=say("neither the question nor the answer brings tests", "问题和回答中都没有测试"))
    return Program(solution, tests)


def _split(text: str) -> tuple[str, str]:
    """A block's solution and its tests: its top-level asserts, test functions and test classes. Raises SyntaxError."""
    tree = ast.parse(text)
    tests = [node for node in tree.body if _tests(node)]
    rest = [node for node in tree.body if node not in tests]
    if not tests:
        return text, ""
    driven = any(not isinstance(node, ast.Assert) for node in tests)
    said = "\n".join(ast.unparse(node) for node in tests) + (_DRIVER if driven else "")
    return "\n".join(ast.unparse(node) for node in rest if not _main(node)), said


def _tests(node: ast.stmt) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name.startswith("test")
    if isinstance(node, ast.ClassDef):
        return any("TestCase" in ast.unparse(base) for base in node.bases)
    return isinstance(node, ast.Assert)


def _main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _asked_tests(prompt: str) -> str:
    """Tests that the question shows: lines of assert, else `>>>` examples."""
    lines = [line for line in _assert.findall(prompt) if _parses(line)]
    if lines:
        return "\n".join(lines)
    text = _quotes.sub("\n", prompt)  # the end of a docstring is no part of what its last example gives
    try:
        shown = doctest.DocTestParser().get_examples(text)
    except ValueError:
        return ""
    return _DOCTEST.format(text=text) if any(example.want for example in shown) else ""


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True
