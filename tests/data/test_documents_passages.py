"""Passages: what stands under one heading stays together, nothing is lost or said twice, and memory stays flat."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.data import rows
from zhiling.data.markdown import blocks
from zhiling.data.passages import SIZE, WHOLE, Block, asks, length, pack, unnumbered

GUIDE = """---
title: left out
---

# Guide

<a name="top"></a>
Read this first.

## Install

Run the two commands below:

```sh
# not a heading
make
```

| part | size |
| --- | --- |
| core | 3 MB |

### How do I update it?

Pull, then run `make` again.

安装说明
====

## 1.2 支持哪些系统？

支持 Linux 和 macOS。

- 需要 Python 3.11
- 需要 2 GB 内存
"""


def read(path, format="passages"):
    found = list(rows(path, format))
    return [(at, row) for at, row in found if not isinstance(row, str)], [
        (at, row) for at, row in found if isinstance(row, str)
    ]


def written(tmp_path, name, content, encoding="utf-8"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def test_markdown_by_heading_path_with_lines(tmp_path):
    good, bad = read(written(tmp_path, "g.md", GUIDE))
    assert not bad
    seen = [(at, row["heading"], row["question"]) for at, row in good]
    assert seen == [
        (8, "Guide", ""),
        (12, "Guide > Install", ""),
        (25, "Guide > Install > How do I update it?", "How do I update it?"),
        (32, "安装说明 > 1.2 支持哪些系统？", "支持哪些系统？"),
    ]
    install = good[1][1]["passage"]
    assert "```sh\n# not a heading\nmake\n```" in install and "| core | 3 MB |" in install
    assert (
        good[3][1]["answer"] == good[3][1]["passage"] == "支持 Linux 和 macOS。\n\n- 需要 Python 3.11\n- 需要 2 GB 内存"
    )
    assert {row["title"] for _, row in good} == {"Guide"} and {row["source"] for _, row in good} == {"g.md"}


def test_marked_questions_and_items_that_ask(tmp_path):
    text = "# FAQ\n\nQ: Is it free?\nA: Yes, for all.\n\nStudents too.\n\n问：收费吗？\n答：不收费。\n\n## More\n* How to pay?\n  > 1. By card.\n  > 1. In cash.\n* Nothing asked here.\n"
    good, _ = read(written(tmp_path, "q.md", text))
    pairs = [(row["question"], row["answer"]) for _, row in good if row["question"]]
    assert pairs == [
        ("Is it free?", "Yes, for all.\n\nStudents too."),
        ("收费吗？", "不收费。"),
        ("How to pay?", "1. By card.\n1. In cash."),
    ]
    assert good[-1][1]["passage"] == "* Nothing asked here." and good[-1][1]["question"] == ""


def test_a_pair_whose_answer_is_in_the_section_has_the_section_for_its_passage(tmp_path):
    text = "## Hours\n\nWe open at nine.\n\n**Q:** When do you open?\n**A:** at nine\n"
    ((_, row),), _ = read(written(tmp_path, "h.md", text))
    assert (row["passage"], row["question"], row["answer"]) == ("We open at nine.", "When do you open?", "at nine")


@pytest.mark.parametrize(
    ("heading", "asked"),
    [("How to Upgrade", True), ("Why is it slow", True), ("What is new?", True), ("What changed", False), ("Installation", False), ("DM 是否支持迁移 RDS", True),
     ("2.1 TiDB 是什么？", True), ("安装步骤", False), ("如何升级", True), ("Is There Anybody", False)],
)  # fmt: skip
def test_headings_that_ask(heading, asked):
    assert asks(heading) is asked


@pytest.mark.parametrize(("title", "asked"), [("TiDB 常见问题", True), ("FAQ", True), ("Guide", False)])
def test_every_entry_of_an_faq_page_is_a_question(tmp_path, title, asked):
    text = f"# {title}\n\nBefore.\n\n## 页面显示 invalid connection 错误\n\n请刷新。\n\n## FAQ\n\nMore.\n\n## Notes\n\nEnd.\n"
    good, _ = read(written(tmp_path, "f.md", text))
    assert [row["question"] for _, row in good] == ["", "页面显示 invalid connection 错误" if asked else "", "", ""]


def test_numbers_are_no_part_of_a_question():
    assert [unnumbered(one) for one in ("1.1.2 TiDB 是什么？", "三、如何安装", "Q3: Why?", "5G 是什么？")] == [
        "TiDB 是什么？",
        "如何安装",
        "Why?",
        "5G 是什么？",
    ]


def words(text):
    return re.findall(r"\w", text)


def test_no_word_of_real_documents_is_lost_or_repeated(shared):
    """Each word of a body is in one passage; tables and code that fit are whole."""
    for path in sorted((shared / "10_parallel_docs/docs").glob("*.md")):
        made = [block for block in blocks(enumerate(path.open(encoding="utf-8"), 1)) if block.kind != "heading"]
        body = words("".join(block.question * (not block.text.strip()) + block.text for block in made))
        found = [row for _, row in rows(path, "passages")]
        assert sorted(words("".join(row["passage"] for row in found))) == sorted(body), path.name
        for block in made:
            if block.kind in ("code", "table") and length(block.text) <= WHOLE:
                assert sum(block.text.strip("\n") in row["passage"] for row in found), path.name
        assert max(length(row["passage"]) for row in found) <= WHOLE + SIZE


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["text", "item", "code", "table", "heading"]),
            st.text(st.sampled_from("ab 好。. \n|-"), max_size=400),
        ),
        max_size=12,
    ),
    st.integers(3, 60),
)
@settings(max_examples=150)
def test_packing_keeps_every_character_in_order(given_, size):
    made = [
        Block(kind, text.replace("\n", " ") if kind == "heading" else text, at, level=1)
        for at, (kind, text) in enumerate(given_)
    ]
    found = [row["passage"] for _, row in pack(made, "s", size)]
    whole = "".join(block.text for block in made if block.kind != "heading")
    assert words("".join(found)) == words(whole)
    assert all(one.strip() for one in found)


def test_long_code_and_tables_are_parted_between_lines_and_stay_readable():
    code = "```py\n" + "\n".join(f"value_{i} = compute({i}, {i})" for i in range(700)) + "\n```"
    parts = [row["passage"] for _, row in pack([Block("code", code, 1)], "s")]
    assert len(parts) > 2 and all(part.startswith("```py\n") and part.endswith("```") for part in parts)
    table = "| a | b |\n| --- | --- |\n" + "\n".join(f"| {i} | {i * i} |" for i in range(2000))
    parts = [row["passage"] for _, row in pack([Block("table", table, 1)], "s")]
    assert len(parts) > 2 and all(part.startswith("| a | b |\n| --- | --- |\n|") for part in parts)


def test_what_announces_stays_with_what_it_announces():
    filler, lead, listed = "word " * 300, "The steps are these:", "- step " + "more " * 150
    made = [
        row["passage"]
        for _, row in pack([Block("text", filler, 1), Block("text", lead, 2), Block("item", listed, 3)], "s")
    ]
    assert made[1].startswith(lead) and lead not in made[0]


@pytest.mark.parametrize(("encoding", "text"), [("gb18030", "退货须在七天之内办理，运费由买家承担。"), ("big5", "退貨須在七天之內辦理，運費由買家承擔。這是本店的規定，請各位顧客注意。"), ("utf-16", "七天之内可以退货。"), ("utf-8-sig", "七天之内。")])  # fmt: skip
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_encodings(tmp_path, name, encoding, text):
    body = f"<html><body><p>{text}</p></body></html>" if name == "a.html" else text
    ((_, row),), bad = read(written(tmp_path, name, body, encoding))
    assert row["passage"] == text and not bad


def test_a_gzipped_text_is_read_and_one_cut_short_is_told(tmp_path):
    import gzip

    path = written(tmp_path, "a.md.gz", gzip.compress(GUIDE.encode() * 50))
    assert len(read(path)[0]) == 4 * 50
    path.write_bytes(path.read_bytes()[:-20])
    good, ((_, why),) = read(path)
    assert not good and "gzip file is damaged" in why


def test_plain_text_chapters_questions_and_paragraphs(tmp_path):
    text = "第一章 开始\n\n她走了很远。\n\n2.1 Setup\n\nPlug it in.\n\nQ: Is it loud?\nA: No.\n\n2024 was a good year for all of us.\n"
    good, _ = read(written(tmp_path, "t.txt", text))
    assert [(at, row["heading"].split(" > ")[-1], row["passage"]) for at, row in good] == [
        (3, "第一章 开始", "她走了很远。"), (9, "2.1 Setup", "No."), (7, "2.1 Setup", "Plug it in.\n\n2024 was a good year for all of us."),
    ]  # fmt: skip


def test_subtitles_are_read_as_a_text_with_times(shared):
    path = next((shared / "10_parallel_docs/subtitles").glob("*.en.srt"))
    good, bad = read(path)
    cues = [row for _, row in rows(path) if not isinstance(row, str)]
    assert not bad and words("".join(row["passage"] for _, row in good)) == words("".join(cue["text"] for cue in cues))
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d(–\d\d:\d\d:\d\d)?", row["page"]) for _, row in good)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["lines", "one line"])
def test_a_text_of_200_mb_streams(tmp_path, shape):
    path = tmp_path / "big.txt"
    piece = "The quick brown fox jumps over the lazy dog. 敏捷的狐狸跳过懒狗。" + ("\n\n" if shape == "lines" else " ")
    with path.open("w", encoding="utf-8") as file:
        for _ in range(200 * 1024 * 1024 // len(piece.encode()) // 1000 + 1):
            file.write(piece * 1000)
    script = (
        "import sys; from itertools import islice; from pathlib import Path; from zhiling.data import rows\n"
        "count = sum(1 for _ in islice(rows(Path(sys.argv[1]), 'passages'), 20000))\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(count, int(peak.split()[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    path.unlink()  # pytest keeps the folders of several runs
    count, megabytes = map(int, done.stdout.split())
    assert count == 20000 and megabytes < 80


def test_a_folder_of_documents_and_what_cannot_be_read(tmp_path):
    folder = tmp_path / "手册"
    written(folder, "sub/dev-guide.md", "# Dev\n\nText.")
    written(folder, "test.txt", "甲乙丙。")
    written(folder, "photo.png", b"\x89PNG\r\n\x1a\n")
    written(folder, ".hidden.md", "no")
    written(folder, "~$x.docx", b"no")
    written(folder, "noise.txt", b"\0\1\2")
    written(folder, "empty.md", "")
    good, bad = read(folder)
    assert [row["source"] for _, row in good] == ["手册/sub/dev-guide.md", "手册/test.txt"]
    told = " ".join(why for _, why in bad)
    assert len(bad) == 3 and "no reader for '.png'" in told and "NUL bytes" in told and "holds no text" in told


def test_an_empty_folder_and_one_without_documents(tmp_path):
    from zhiling.errors import DataError

    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="no document in this folder"):
        list(rows(tmp_path / "a", "passages"))
    written(tmp_path, "a/x.png", b"x")
    with pytest.raises(DataError, match="it may hold: md"):
        list(rows(tmp_path / "a", "passages"))


def test_a_folder_of_data_is_still_read_as_data(tmp_path):
    written(tmp_path, "d/train.csv", "text,label\na,b\n")
    written(tmp_path, "d/about.html", "<p>about</p>")
    assert [row for _, row in rows(tmp_path / "d")] == [{"text": "a", "label": "b"}]
    written(tmp_path, "e/about.html", "<p>about</p>")
    assert [row["passage"] for _, row in rows(tmp_path / "e")] == ["about"]


@pytest.mark.parametrize(("lang", "said"), [("en", "no reader for '.png' files"), ("zh", "没有读取 .png 文件的方法")])
def test_reasons_are_told_in_the_users_language(tmp_path, monkeypatch, lang, said):
    monkeypatch.setenv("ZHILING_LANG", lang)
    assert [row for _, row in rows(written(tmp_path, "x.png", b"x"), "passages")] == [said]


def test_records_carry_file_line_and_reason(tmp_path):
    from zhiling.data import Source
    from zhiling.data import read as read_records
    from zhiling.types import Record, Reject, Task

    written(tmp_path, "d/a.md", "# T\n\nBody.")
    written(tmp_path, "d/b.xyz", "x")
    task = Task("t", inputs=("passage",), target="summary")
    items = list(read_records(Source(Path(tmp_path / "d"), "passages", answered=False), task))
    record, reject = items
    assert isinstance(record, Record) and (record.file, record.line, record.fields["source"]) == ("d/a.md", 3, "d/a.md")
    assert isinstance(reject, Reject) and reject.state == "quarantined" and reject.where == "d/b.xyz:0"
