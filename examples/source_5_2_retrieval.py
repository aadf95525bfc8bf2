"""Example 5.2: the nearest instruction in a database. / 例 5.2：从指令库中检索最相近的指令。"""

from pathlib import Path
from tempfile import TemporaryDirectory

from zhiling.construct.bank import Bank
from zhiling.embed import Use

instructions = ["将句子翻译成法语：{句子}", "将句子翻译成西班牙语：{句子}", "将句子翻译成德语：{句子}"]

with TemporaryDirectory() as folder:
    bank = Bank.create(Path(folder) / "bank", Use())
    bank.add(({"instruction": instruction} for instruction in instructions), licence="Apache-2.0", source="example 5.2")
    print(bank.search("法语", k=1)[0].row.instruction)
