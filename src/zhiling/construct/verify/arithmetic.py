"""Whether the sums in an answer are right: every equation recomputed exactly, and the final answer with them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from zhiling.errors import say
from zhiling.registry import verifier
from zhiling.text import cut
from zhiling.types import Example, Score

LONGEST = 300  # characters of one expression
_number = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_signed = rf"[-−]?\s*(?:{_number})"
_term = rf"[(（]*\s*(?:{_number})\s*%?\s*[)）]*"
_sum = rf"[-−]?\s*{_term}(?:\s*(?:\*\*|[-+*/×÷xX·^−–])\s*{_term})+"
_marked = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
_equation = re.compile(
    rf"(?<![\d.\w=])({_sum})\s*(?:=|＝)\s*[$￥¥]?\s*({_signed}\s*%?)(?!\.?\d)(?![\d\w]*\s*[-+*/×÷^=＝])"
)
_final = re.compile(
    r"(?:####|(?:final answer|the answer|answer|答案|答|结果)(?:\s*(?:is|[:：是为]))+)\s*[$￥¥]?\s*"
    rf"({_signed}(?:\s*/\s*\d+)?\s*%?)",
    re.IGNORECASE,
)
_plain = re.compile(
    rf"^\s*[$￥¥]?\s*({_signed}(?:\s*/\s*\d+)?\s*%?)\s*(?:[。.]|[\u4e00-\u9fff]{{0,3}}|[A-Za-z]{{0,10}})\s*$"
)
_asked = re.compile(rf"({_sum})\s*(?:=|＝)?\s*(?:\?|？|$|[。.]?\s*$|几|多少|等于)", re.MULTILINE)
_cut_off = re.compile(r"[-+*/×÷xX·^−–\d$￥¥]\s*\Z")
_signs = str.maketrans("×xX·÷−–（），＋－", "****/--(),+-")


@verifier(
    "arithmetic",
    families=("arithmetic",),
    langs=("zh", "en"),
    paper="GSM8K's calculator annotations (Cobbe et al. 2021)",
)
def arithmetic(examples: Sequence[Example]) -> Iterator[Score]:
    """Every equation of the answer holds (`<<2*3=6>>`, "24÷6=4"), and the final answer (`#### 6`, "答案：6") is what was computed.

    Computed exactly, compared to the digits that are written. Where the question is an expression ("36 × 25 = ?"), the answer must be its
    value. 0.0 for a wrong equation, no final number, or one that nowhere comes up before; None where there is nothing to recompute, or the
    final number stands in the text but in no sum that can be read. That the steps answer the question is not checked: only that they
    are no false sums.
    """
    for row in examples:
        value, why = judged(row.prompt, row.output)
        yield Score(row.id, "arithmetic", value, why)


def judged(question: str, answer: str) -> tuple[float | None, str]:
    """1.0, 0.0 or None for an answer to a question, and why."""
    results: list[Fraction] = []
    bare = _marked.sub("", answer)
    # Where an answer marks its sums, those are its claims; else the equations in it that begin where they seem to.
    marked = _marked.findall(answer)
    written = [(m[1], m[2]) for m in _equation.finditer(bare) if not _cut_off.search(bare[: m.start()])]
    for left, right in marked or written:
        value, said = evaluate(left), evaluate(right)
        if value is None or said is None:
            continue
        if not close(value, said, right):
            shown, claim = _shown(value), right.strip()
            return 0.0, say(f"{cut(left, 60)} is {shown}, not {claim}", f"{cut(left, 60)} 等于 {shown}，不是 {claim}")
        results.append(said)
    results += _with_units(bare)
    text = final(answer)
    if asked := _only(question):
        wanted = evaluate(asked)
        if wanted is not None:
            if text is None:
                return 0.0, say("there is no final number", "没有最终数值")
            right = close(wanted, evaluate(text) or Fraction(0), text)
            return float(right), say(f"{cut(asked, 60)} is {_shown(wanted)}", f"{cut(asked, 60)} 等于 {_shown(wanted)}")
    if not results:
        return None, say("there is no sum to recompute", "没有可以重算的算式")
    if text is None:
        return 0.0, say("there is no final number", "没有最终数值")
    end = evaluate(text)
    percent = [result * 100 for result in results] if "%" in bare else []
    if end is None or not any(close(result, end, text) for result in [*results, *percent]):
        shown = ", ".join(_shown(result) for result in results[-3:])
        why = say(
            f"the final answer {text} is no sum's result ({shown})", f"最终答案 {text} 不是任何算式的结果（{shown}）"
        )
        steps = re.split(r"####|\b(?:final )?answer\b|答案|答[:：]", bare, flags=re.IGNORECASE)[0]
        return (None if text.strip() in steps else 0.0), why
    return 1.0, say(f"{len(results)} sums recomputed", f"重算了 {len(results)} 个算式")


def _with_units(text: str) -> list[Fraction]:
    """Results of sums written with units, "34 books + 2 books = 36 books". Only those that hold: without words, other things look like sums."""
    plain = re.sub(r"[$￥¥]|(?<![\d\s])x|x(?![\d\s])|[A-WYZa-wyz\u4e00-\u9fff’']+(?:/[a-z]+)?", " ", text)
    out = []
    for left, right in _equation.findall(re.sub(r"[ \u200b]+", " ", plain)):
        value, said = evaluate(left), evaluate(right)
        if value is not None and said is not None and close(value, said, right):
            out.append(said)
    return out


def final(answer: str) -> str | None:
    """The final number of an answer, as written: marked as such, the whole answer, or the last equation's result."""
    marked = _final.findall(answer)
    if marked:
        return str(marked[-1])
    if plain := _plain.match(answer):
        return str(plain[1])
    equations = _equation.findall(answer)
    return str(equations[-1][1]) if equations else None


def _only(question: str) -> str:
    """The expression that a question consists of; "" for word problems and for more than one."""
    found = _asked.findall(question)
    rest = re.sub(r"[\d\s.,]", "", _asked.sub("", question))
    return str(found[0]) if len(found) == 1 and len(rest) < 60 else ""


_ops = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}


def evaluate(text: str) -> Fraction | None:
    """The exact value of an expression of numbers, + - * / ^ (also × ÷), brackets and %; None for anything else or too big."""
    plain = text.translate(_signs).replace("^", "**").replace("$", "").replace("￥", "").replace("¥", "")
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain)
    plain = re.sub(r"(\d+(?:\.\d+)?|\.\d+)\s*%", r"(\1/100)", plain).strip()
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)  # "007" is 7
    if len(plain) > LONGEST or not re.fullmatch(r"[\d\s.+*/()-]+", plain):
        return None
    try:
        return _value(ast.parse(plain, mode="eval").body, plain)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, text: str) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return Fraction(ast.get_source_segment(text, node) or "")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = _value(node.operand, text)
        return -inner if isinstance(node.op, ast.USub) else inner
    if not isinstance(node, ast.BinOp) or type(node.op) not in _ops:
        raise ValueError("not arithmetic")
    left, right = _value(node.left, text), _value(node.right, text)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    if isinstance(node.op, ast.Mult):
        return left * right
    if isinstance(node.op, ast.Div):
        return left / right
    if right.denominator != 1 or abs(right) > 64 or max(abs(left.numerator), left.denominator) > 10**6:
        raise OverflowError("too big a power")
    return left ** int(right)


def close(value: Fraction, said: Fraction, written: str) -> bool:
    """Whether a number as written is the value, rounded or cut to its digits."""
    decimals = len(written.strip().rstrip("%").partition(".")[2])
    step = Fraction(1, 10 ** (decimals + (2 if written.strip().endswith("%") else 0)))
    return (
        abs(value - said) < step
        if decimals
        else value == said or (value.denominator != 1 and abs(value - said) <= step / 2)
    )


def _shown(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"
