"""Slots left unfilled, and what only looks like one."""

from __future__ import annotations

import pytest
from score_rows import alpaca, row

from zhiling.score.placeholder import placeholder


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        (("Translate {{sentence}} into French.", "Bonjour"), "instruction"),
        (("请翻译：{{ sentence }}", "你好"), "instruction"),
        (("Describe the history of {city}.", "It is old."), "instruction"),
        (("介绍一下{城市}的历史。", "历史悠久。"), "instruction"),
        (("Summarise the text.", "It is long.", "[INSERT ARTICLE HERE]"), "input"),
        (("Describe the photo.", "A dog.", "<image>"), "input"),
        (("描述照片。", "一只狗。", "[插入图片]"), "input"),
        (("写一份自我介绍。", "大家好，我叫（此处填写姓名），来自南京。"), "output"),
        (("写一份求职材料。", "我毕业于XXX大学，主修历史专业。"), "output"),
        (("Introduce a speaker.", "Please welcome XXX, who will speak now."), "output"),
        (("Write a slogan.", "Drink {Brand Name} every day!"), "output"),
        (("Fill the page.", "Lorem ipsum dolor sit amet."), "output"),
        (("Repeat: <input>", "Hello"), "instruction"),
    ],
)
def test_unfilled(fields, where):
    score = next(placeholder([row(*fields)]))
    assert score.value == 1
    assert where in score.why


@pytest.mark.parametrize(
    "fields",
    [
        ("Write a Python greeting.", 'name = input()\nprint(f"Hello {name}!")'),
        ("Write a Python greeting.", '"Hello {name}".format(name="Ann")'),
        ("写一个函数。", "```python\nd = {name: value}\n```"),
        ("Use a Mustache template.", "`{{name}}` is replaced by the name."),
        ("Give the quadratic formula.", r"$x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$"),
        ("Simplify.", r"\[ \begin{array}{l} \text{a} \end{array} \]"),
        ("Give JSON.", '{"name": "Ann", "tags": ["a", "b"]}'),
        ("Write a regex for a word in brackets.", r"\[(\w+)\]"),
        ("Write a regex.", r"^[A-Za-z]{3,5}\d{2}$"),
        ("List the movies in the format {title} - {year}.", "Up - 2009"),
        ("Write HTML for a form.", '<form><input type="text"></form>'),
        ("What is a set?", "A set such as {a, b, c} or {1, 2} has no order."),
        ("Explain C++.", "#include <iostream>\nint main() { return 0; }"),
        ("Write a letter to a landlord.", "Dear Sir,\nThe roof leaks.\nYours,\n[Your Name]"),
        ("写一封感谢信。", "尊敬的老师：\n谢谢您。\n[您的姓名]"),
        ("What year is MMXXX?", "It is 2030, written with roman numerals."),
        ("See [the docs](https://example.org).", "Read [1] and [2]."),
        ("概括新闻。", "【标题】：新能源投资增长（详见第2页）。"),
        ("Replace the <mask> token with a word.", "sunny", "Today is <mask>."),
        ("Fill in the blank.", "blue", "The sky is ____."),
        ("用一句话说明。", "他说：“请填写表格（共三页）。”"),
    ],
)
def test_not_a_slot(fields):
    score = next(placeholder([row(*fields)]))
    assert (score.value, score.why) == (0, "")


@pytest.mark.parametrize(
    ("file", "most"),
    [
        ("02_alpaca/alpagasus_dolly_3k.jsonl.gz", 3),
        ("02_alpaca/raschka_instruction_1100.jsonl", 0),
        ("02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz", 4),
    ],
)
def test_clean_rows_stay_clean(shared, file, most):
    assert sum(score.value for score in placeholder(alpaca(shared / file))) <= most
