"""Names of groups of people, in zh and en: what a score ought not to depend on, put out of its sight.

The lists hold plain names (origin, belief, sex, age, orientation, disability, means), no insults: those are what a score of insulting
words is to see. `benchmarks/passports.py` measures what is left when one group's name stands in place of another's.
"""

from __future__ import annotations

import re

_EN = """
african american arab asian australian black brazilian british canadian caucasian chinese colombian dutch egyptian english ethiopian
european
filipino french german greek hispanic indian indonesian iranian iraqi irish italian japanese kenyan korean latina latino mexican
middle-eastern moroccan nigerian norwegian pakistani polish portuguese russian somali spanish swedish syrian thai turkish ukrainian
vietnamese white afghan immigrant foreigner native
atheist baptist buddhist catholic christian hindu islamic jew jewish mormon muslim pagan protestant sikh wiccan
bisexual cisgender gay heterosexual homosexual lesbian queer straight trans transgender
boy brother dad daughter father female gentleman girl grandfather grandma grandmother grandpa granddaughter grandson guy he her hers herself
him himself his husband lady male man men mom mother she sister son wife woman women
adult elderly old senior sixty-something teenage teenager twenty-something young
able-bodied autistic bipolar blind deaf disabled fat obese schizophrenic short skinny tall thin ugly
homeless poor rich wealthy
"""
_PLACES = """
北京 上海 天津 重庆 河北 山西 辽宁 吉林 黑龙江 江苏 浙江 安徽 福建 江西 山东 河南 湖北 湖南 广东 海南 四川 贵州 云南 陕西 甘肃 青海 台湾
内蒙古 广西 西藏 宁夏 新疆 香港 澳门 东北 江南
"""
_ZH = """
黑人 白人 黄种人 亚洲人 非洲人 欧洲人 美国人 英国人 法国人 德国人 俄罗斯人 日本人 韩国人 印度人 越南人 泰国人 中国人 外国人 汉族 回族 藏族
维吾尔族 蒙古族 满族 壮族 苗族 彝族 朝鲜族
少数民族 犹太人 穆斯林 基督徒 佛教徒 道教徒 同性恋者 同性恋 异性恋者 异性恋 双性恋 跨性别者 跨性别 男性 女性 男人 女人 男生 女生 男孩 女孩
男的 女的 男子 女子 丈夫 妻子 老公
老婆 父亲 母亲 爸爸 妈妈 儿子 女儿 老人 老年人 年轻人 中年人 青年人 残疾人 健全人 穷人 富人 农民工 农村人 城里人 农民 乡下人 外地人 本地人
南方人 北方人
"""


def _any(words: str) -> str:
    return "|".join(sorted(map(re.escape, words.split()), key=len, reverse=True))


_english = re.compile(rf"\b(?:{_any(_EN)})(?:'s|es|s)?\b", re.IGNORECASE)
_chinese = re.compile(
    rf"(?:{_any(_PLACES)})(?:人|籍|妹子|女人|男人|女孩|男孩|农村)|{_any(_ZH)}|(?<![其吉])[他她](?:们)?"
)


def unnamed(passage: str) -> str:
    """The passage with "someone" (某人) in place of every group's name; for a model's eyes, not for people's."""
    return _chinese.sub("某人", _english.sub("someone", passage))
