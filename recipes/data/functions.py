"""Small functions with examples, for recipes/code.yaml: each is a row once it was run. 供 recipes/code.yaml 使用的小函数。"""

import math


def clamp(value, low, high):
    """The value, or the nearer of the two bounds where it lies outside them.

    >>> clamp(5, 0, 3)
    3
    >>> clamp(-1, 0, 3)
    0
    >>> clamp(2, 0, 3)
    2
    """
    if value < low:
        return low
    return high if value > high else value


def chunks(items, size):
    """The items in lists of `size`; the last may be shorter.

    >>> chunks([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4], [5]]
    >>> chunks([], 3)
    []
    """
    return [items[at : at + size] for at in range(0, len(items), size)]


def initials(name):
    """The first letters of a name's words, in capitals.

    >>> initials("ada quist lind")
    'AQL'
    >>> initials("")
    ''
    """
    return "".join(word[0].upper() for word in name.split())


def is_leap(year):
    """Whether a year has a 29 February.

    >>> [year for year in (1900, 2000, 2023, 2024) if is_leap(year)]
    [2000, 2024]
    """
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def distance(a, b):
    """How far two points of the plane are from each other.

    >>> distance((0, 0), (3, 4))
    5.0
    >>> distance((1, 1), (1, 1))
    0.0
    """
    return math.hypot(a[0] - b[0], a[1] - b[1])


def runs(text):
    """Each character with how often it stands in a row.

    >>> runs("aabccc")
    [('a', 2), ('b', 1), ('c', 3)]
    >>> runs("")
    []
    """
    out = []
    for sign in text:
        if out and out[-1][0] == sign:
            out[-1] = (sign, out[-1][1] + 1)
        else:
            out.append((sign, 1))
    return out


def balanced(text):
    """Whether every bracket of a text is closed, in the right order.

    >>> [balanced(text) for text in ("(a[b])", "(]", "((", "", ")(")]
    [True, False, False, True, False]
    """
    pairs, open_ = {")": "(", "]": "[", "}": "{"}, []
    for sign in text:
        if sign in pairs.values():
            open_.append(sign)
        elif sign in pairs and (not open_ or open_.pop() != pairs[sign]):
            return False
    return not open_


def greet(name):
    """A greeting. Its example says nothing about the name, so that faults go unnoticed and the row is refused.

    >>> greet is not None
    True
    """
    return "Hello, " + name
