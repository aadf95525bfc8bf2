"""A run's kept rows as a folder that a tuner or the hub reads as it stands: rows, a card, and the settings that name them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from zhiling.data.formats import FORMATS
from zhiling.data.samples import Sample
from zhiling.errors import DataError, say
from zhiling.export import sample_of, write_lines
from zhiling.export.card import MARK, card
from zhiling.store import current, read, whole
from zhiling.types import Example

Said = Callable[[Example], dict[str, Any]]


def _messages(row: Example) -> dict[str, Any]:
    return FORMATS["messages"].write(sample_of(row))


def _about(row: Example) -> dict[str, Any]:
    """The messages with what is known of the row."""
    return {"id": row.id, "task": row.task, "lang": row.lang, "maker": row.maker, **_messages(row)}


def _completion(row: Example) -> dict[str, Any]:
    """TRL's prompt and completion, of which it trains the completion."""
    sample: Sample = sample_of(row)
    return {
        "prompt": [dict(turn) for turn in sample.question()],
        "completion": [{"role": "assistant", "content": row.output}],
    }


ROWS: Mapping[str, Said] = {"hf": _about, "llamafactory": _messages, "axolotl": _messages, "trl": _completion}
"""The folder formats, and how a row is written in each."""


def write_folder(run: Path, out: Path, form: str) -> int:
    """Write rows, card and settings for `form` (one of ROWS) into the folder `out`; returns how many rows train.

    Held-out rows go along as the split "test". The card is written last: a folder without one is unfinished. Raises DataError for a run
    that kept nothing and where `out` holds something else, EngineError when the disk is full.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not _ours(out)):
        raise DataError(
            say("there is something else here already", "这里已有其他内容"), where=str(out),
            mend=say("name a new folder with -o", "请用 -o 指定新的文件夹"),
        )  # fmt: skip
    name = _name(run)
    place = {"hf": "data/train.jsonl"}.get(form, f"{name}.jsonl")
    files = {"train": place}
    if any(done.of("heldout") for done in current(run)):
        files["test"] = {"hf": "data/test.jsonl"}.get(form, f"{name}_test.jsonl")
    (out / "README.md").unlink(missing_ok=True)
    count = write_lines(out / place, map(ROWS[form], _rows(run, "kept")))
    if "test" in files:
        write_lines(out / files["test"], map(ROWS[form], _rows(run, "heldout")))
    for file, text in _settings(form, name, files).items():
        _text(out / file, text)
    _text(out / "README.md", card(run, files, _note(form)))
    return count


def _ours(out: Path) -> bool:
    try:
        return MARK in (out / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _rows(run: Path, kind: str) -> Iterator[Example]:
    for done in current(run):
        yield from read(run, done.of(kind))


def _name(run: Path) -> str:
    """The recipe's name as a file's: letters and digits of any script."""
    from zhiling.recipe import load

    return "".join(sign if sign.isalnum() else "_" for sign in load(run / "recipe.yaml").name) or "rows"


def _text(path: Path, text: str) -> None:
    with whole(path) as file:
        file.write(text.encode("utf-8", "replace"))


def _settings(form: str, name: str, files: Mapping[str, str]) -> dict[str, str]:
    """The files by which a tuner finds the rows."""
    if form == "llamafactory":
        tags = {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        }
        entry = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
        names = {"train": name, "test": f"{name}_test"}
        info = {names[split]: {"file_name": file, **entry} for split, file in files.items()}
        train: dict[str, Any] = {
            "model_name_or_path": "BASE_MODEL", "stage": "sft", "do_train": True, "finetuning_type": "lora", "dataset_dir": ".",
            "dataset": name, "mask_history": True, "output_dir": "tuned",
        }  # fmt: skip
        return {
            "dataset_info.json": json.dumps(info, ensure_ascii=False, indent=2) + "\n",
            "llamafactory.yaml": _yaml(train),
        }
    if form == "axolotl":
        rows = {
            "path": files["train"], "ds_type": "json", "type": "chat_template", "field_messages": "messages",
            "message_property_mappings": {"role": "role", "content": "content"}, "roles_to_train": ["assistant"], "train_on_eos": "turn",
        }  # fmt: skip
        test = [{**rows, "path": files["test"], "split": "train"}] if "test" in files else []
        given = {"base_model": "BASE_MODEL", "datasets": [rows], **({"test_datasets": test} if test else {})}
        return {
            "axolotl.yaml": _yaml({**given, "adapter": "lora", "lora_r": 16, "lora_alpha": 32, "output_dir": "tuned"})
        }
    if form == "trl":
        return {"train_trl.py": _TRL.replace("FILES", repr(dict(files)))}
    return {}


def _yaml(data: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(data))  # without aliases for what is named twice
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False)


_TRL = '''"""Tune BASE_MODEL on the rows beside this file: python train_trl.py BASE_MODEL"""

import sys

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("json", data_files=FILES)
SFTTrainer(
    model=sys.argv[1],
    args=SFTConfig(output_dir="tuned", completion_only_loss=True),
    train_dataset=rows["train"],
    eval_dataset=rows.get("test"),
).train()
'''


def _note(form: str) -> str:
    if form == "llamafactory":
        return say(
            "`llamafactory-cli train llamafactory.yaml`, after naming the model. `mask_history` trains the last answer only, as zhiling does.",
            "填好模型名后运行 `llamafactory-cli train llamafactory.yaml`。`mask_history` 只训练最后一个回答，与 zhiling 一致。",
        )
    if form == "axolotl":
        return say(
            "`axolotl train axolotl.yaml`, after naming the model. It trains every answer of a conversation, zhiling the last one only.",
            "填好模型名后运行 `axolotl train axolotl.yaml`。它训练对话中的每个回答，而 zhiling 只训练最后一个。",
        )
    if form == "trl":
        return say(
            "`python train_trl.py BASE_MODEL` trains the completions.",
            "`python train_trl.py BASE_MODEL` 只训练 completion。",
        )
    return say(
        '`load_dataset("json", data_files=...)`, or name this folder: `load_dataset("PATH")`.',
        '`load_dataset("路径")` 即可读取本文件夹。',
    )
