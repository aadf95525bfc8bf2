"""Imported templates against prompts that promptsource itself rendered for T0: what is the same, and what differed.

    python benchmarks/template_import.py [--quick] [--data DIR] [--json FILE]

The data sets behind the T0 prompts are not there, only the prompts. So each imported template is rendered with marks in the place of
its fields (and with each value that its label may have), turned into a pattern, and held against the prompts: where it matches, the
fields are read out of the prompt, the template is filled with them, and prompt and answer are compared character by character.

* `imported`: share of the promptsource templates that parse, compile and become part of a definition.
* `t0_same`: of the T0 rows whose template is among them, the share that comes out the same, answer included.
* `ni_tasks`: share of the Natural Instructions tasks that become tasks with demos.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zhiling.construct.importing import Draft, import_files
from zhiling.construct.importing.drafts import slug
from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError

END = "<|endoftext|>"
MARK = "\ue000{}\ue001"
DOCUMENTS = "3ed2dface8203c4c9dfb1a5dc58e41e0||"
NOT_READ = {"wiki_bio": "a table of unknown columns cannot be read back out of the prompt"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="four T0 rows a template, and no Natural Instructions")
    args = parser.parse_args()
    drafts, given = promptsource(args.data)
    phrasings = sum(len(draft.definition["phrasings"]) for draft in drafts)
    rows = list(table(drafts, t0(args.data, 4 if args.quick else 12)))
    compared = [row for row in rows if row["rows"] and not row["why"].startswith("not compared")]
    figures = {
        "imported": round(phrasings / given, 4),
        "templates": phrasings,
        "definitions": len(drafts),
        "t0_templates": len(compared),
        "t0_rows": sum(row["rows"] for row in compared),
        "t0_same": round(sum(row["same"] for row in compared) / max(1, sum(row["rows"] for row in compared)), 4),
    }
    if not args.quick:
        figures |= natural_instructions(args.data)
    print(f"{'T0 template':58} {'rows':>4} {'same':>4}  what differed")
    for row in rows:
        print(f"{row['template']:58} {row['rows']:4} {row['same']:4}  {row['why']}")
    print(json.dumps(figures, indent=1))
    if args.json:
        result = {"name": "template_import", "machine": platform.platform(), "figures": figures, "rows": rows}
        args.json.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")


def promptsource(data: Path) -> tuple[list[Draft], int]:
    """The imported collections, and how many templates were in them."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data / "08_promptsource" / "templates.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        texts = [path.read_text(encoding="utf-8") for path in Path(folder).rglob("templates.yaml")]
        made = [one for one in import_files([Path(folder)]) if isinstance(one, Draft)]
    return made, sum(len(re.findall(r"^ *[\w-]+: !Template$", text, re.M)) for text in texts)


def natural_instructions(data: Path) -> dict[str, float]:
    files = sorted((data / "05_natural_instructions").glob("*.jsonl.gz"))
    made = [one for one in import_files(files) if isinstance(one, Draft)]
    there = sum(len(gzip.decompress(file.read_bytes()).splitlines()) for file in files)
    running = [draft for draft in made if draft.task and draft.task["demos"] and draft.rows]
    return {
        "ni_tasks": round(len(running) / there, 4),
        "ni_phrasings": sum(len(d.definition["phrasings"]) for d in made),
    }


def t0(data: Path, limit: int) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with gzip.open(data / "01_self_instruct" / "t0_rendered_prompts.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            found.setdefault(row["template"], []).append(row)
    return {name: rows[:limit] for name, rows in found.items()}


def table(drafts: list[Draft], prompts: Mapping[str, list[dict[str, str]]]) -> Iterator[dict[str, Any]]:
    """A row per T0 template that is among the imported ones."""
    ours: dict[str, tuple[Draft, dict[str, Any]]] = {}
    for draft in drafts:
        dataset = slug(draft.source.split(" ", 1)[1])
        for phrasing in draft.definition["phrasings"]:
            ours[slug(f"{dataset}_{phrasing['id']}")] = draft, phrasing
    for name, rows in sorted(prompts.items()):
        if slug(name) not in ours:
            continue
        draft, phrasing = ours[slug(name)]
        unread = next((why for dataset, why in NOT_READ.items() if name.startswith(dataset)), "")
        if unread:
            yield {"template": name, "rows": len(rows), "same": 0, "why": f"not compared: {unread}"}
            continue
        forms = list(patterns(phrasing, draft.definition["fields"]))
        whys = Counter(differs(row, phrasing, forms) for row in rows)
        same = whys.pop("", 0)
        yield {
            "template": name,
            "rows": len(rows),
            "same": same,
            "why": "; ".join(f"{n}x {why}" for why, n in whys.items()),
        }


def patterns(phrasing: Mapping[str, Any], fields: list[str]) -> Iterator[tuple[re.Pattern[str], dict[str, Any], str]]:
    """(pattern of the prompt, the row with marks it was made from, its answer) for each label and each number of list items."""
    text = phrasing["instruction"] + phrasing["output"]
    labels = [name for name in fields if re.search(rf"\b{name} \| typed\b", text)]
    marked = {name: MARK.format(i) for i, name in enumerate(fields) if name not in labels}
    for name in marked:  # what a template cuts off stands before the mark
        cut = re.search(rf"\b{name}(?: \| nested\))?\[(\d+):\]", text)
        marked[name] = "-" * int(cut[1]) + marked[name] if cut else marked[name]
    values = range(-1, 50) if labels else [0]
    for value in values:
        for count in range(1, 9) if "nested" in text or DOCUMENTS in text else [1]:
            items = [MARK.format(100 + i) for i in range(count)]
            row: dict[str, Any] = {**marked, **dict.fromkeys(labels, str(value))}
            if "concepts" in row:
                row["concepts"] = json.dumps(items, ensure_ascii=False)
            if DOCUMENTS in text:
                row["document"] = DOCUMENTS.join(items)
            try:
                shown = compiled(phrasing["instruction"]).render(row).strip()
                answer = compiled(phrasing["output"]).render(row).strip()
            except RecipeError:
                continue
            if shown and answer:
                yield pattern(shown), row, answer


def pattern(shown: str) -> re.Pattern[str]:
    """The rendered text with its marks as groups; a mark that comes again must read the same."""
    seen: set[str] = set()
    parts: list[str] = []
    for piece in re.split("(\ue000\\d+\ue001)", shown):
        if not piece.startswith("\ue000"):
            parts.append(re.escape(piece))
            continue
        name = f"f{piece[1:-1]}"
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>.*?)")
        seen.add(name)
    return re.compile("".join(parts), re.S)


def differs(
    row: Mapping[str, str], phrasing: Mapping[str, Any], forms: list[tuple[re.Pattern[str], dict[str, Any], str]]
) -> str:
    """What is different between the T0 row and ours; "" when prompt and answer are the same."""
    prompt, answer = row["prompt"].strip(), row["completion"].removesuffix(END).strip()
    said = "wording: another version of the template"
    for form, marks, expected in forms:
        found = form.fullmatch(prompt)
        if not found:
            continue
        read = {f"\ue000{name[1:]}\ue001": value for name, value in found.groupdict().items()}
        filled = {name: replaced(value, read) for name, value in marks.items()}
        if compiled(phrasing["instruction"]).render(filled).strip() != prompt:
            return "the prompt, filled again"
        if not answer:
            return "T0 has no answer"
        if "\ue000" in expected:  # the answer is a field of its own, which the prompt does not tell
            told = replaced(expected, read)
            if "\ue000" in told or told == answer:
                return ""
        if expected == answer:
            return ""
        said = f"answer: no label of ours gives {answer[:30]!r}"
    if said.startswith("wording") and prompt.endswith("..."):
        return "T0 cut the field at 2,048 characters"
    return said


def replaced(text: str, read: Mapping[str, str]) -> str:
    for mark, value in read.items():
        text = text.replace(mark, json.dumps(value, ensure_ascii=False)[1:-1] if text.startswith("[") else value)
    return text


if __name__ == "__main__":
    main()
