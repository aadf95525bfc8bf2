"""Example 5.1: an instruction template and its worked example, filled with data. / 例 5.1：填充指令模板及其示例。"""

from zhiling.construct.template import from_format, render
from zhiling.types import Demo

template = from_format("将句子翻译成{target_language}：{sentence}")
example = Demo(input="Hello, world!", output="Bonjour, le monde!")

print(render(template, {"target_language": "法语", "sentence": "你好，世界！"}, examples=[example]))
