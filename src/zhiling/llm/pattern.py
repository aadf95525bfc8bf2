"""Regular expressions that a reply can be held to: read once into a small automaton that matches in linear time and guides decoding.

Python's `re` will not do: it backtracks (a hostile pattern hangs on thirty characters), and decoders need the automaton itself. What is
left out (look-around, back-references, flags) is what no constrained decoder can do either. A pattern describes the whole text, so that
^ and $ change nothing. `\\d`, `\\w` and `\\s` are ASCII, as in RE2 and JSON Schema; Han is `[一-鿿]`. Method: Thompson's construction, then
subsets (Aho, Sethi and Ullman 1986), with dead ends cut off.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from zhiling.errors import RecipeError
from zhiling.llm.pattern_parse import ALL, Parser, Ranges, refused

MOST_STATES, MOST_PLACES = 2000, 5000


class State(NamedTuple):
    """One state: whether the text may end here, and which characters (ranges of code points, ordered) lead where."""

    accepts: bool
    lows: tuple[int, ...]
    highs: tuple[int, ...]
    targets: tuple[int, ...]


class Pattern(NamedTuple):
    """An automaton; state 0 is where a text begins, and from every state some text can still be completed."""

    source: str
    states: tuple[State, ...]

    def step(self, state: int, code: int) -> int:
        """The state after one more character, -1 when there is none."""
        _, lows, highs, targets = self.states[state]
        i = bisect_right(lows, code) - 1
        return targets[i] if i >= 0 and code <= highs[i] else -1

    def overlaps(self, state: int, low: int, high: int) -> bool:
        """Whether any character of a range of code points may come next."""
        _, lows, highs, _ = self.states[state]
        i = bisect_right(lows, high) - 1
        return i >= 0 and highs[i] >= low

    def matches(self, text: str) -> bool:
        """Whether the whole text matches; time grows with its length only."""
        return self.longest(text, 0) == len(text)

    def longest(self, text: str, start: int) -> int:
        """Where the longest match that begins at `start` ends, -1 when there is none."""
        state, end = 0, start if self.states[0].accepts else -1
        for i in range(start, len(text)):
            state = self.step(state, ord(text[i]))
            if state < 0:
                break
            if self.states[state].accepts:
                end = i + 1
        return end

    def grammar(self) -> str:
        """The same language in llama.cpp's grammar notation: one rule per state, so that it never branches or recurses on the left."""
        lines = ["root ::= s0"]
        for i, (accepts, lows, highs, targets) in enumerate(self.states):
            by_target: dict[int, list[str]] = {}
            for low, high, target in zip(lows, highs, targets, strict=True):
                by_target.setdefault(target, []).append(f"\\U{low:08X}-\\U{high:08X}")
            ways = [f"[{''.join(ranges)}] s{target}" for target, ranges in by_target.items()]
            lines.append(f"s{i} ::= " + " | ".join([*ways, *(['""'] if accepts else [])]))
        return "\n".join(lines)


@lru_cache(maxsize=256)
def compiled(regex: str) -> Pattern:
    """The automaton of a regular expression that describes a whole text.

    Raises RecipeError, with the place, for what is no regular expression, cannot be held to, matches nothing, or needs more than
    MOST_STATES states.
    """
    branches = Parser(regex).branches()
    return _determined(regex, ("alt", [node for _, node, _ in branches]))


@lru_cache(maxsize=256)
def searching(regex: str) -> Pattern:
    """The automaton of all texts in which the expression is found somewhere, ^ and $ heeded; as JSON Schema's `pattern` asks."""
    any_text = ("repeat", ("set", ALL), 0, None)
    parts = [
        ("cat", [*([] if begins else [any_text]), node, *([] if ends else [any_text])])
        for begins, node, ends in Parser(regex).branches()
    ]
    return _determined(regex, ("alt", parts))


@lru_cache(maxsize=256)
def one_of(choices: tuple[str, ...]) -> Pattern:
    """The automaton of exactly these texts."""
    parts = [("cat", [("set", ((ord(c), ord(c)),)) for c in choice]) for choice in choices]
    return _determined(" | ".join(choices), ("alt", parts))


class _Places:
    """Thompson's automaton: places with silent moves and moves by a set of characters."""

    def __init__(self, regex: str) -> None:
        self.regex = regex
        self.silent: list[list[int]] = []
        self.moves: list[list[tuple[Ranges, int]]] = []

    def new(self) -> int:
        if len(self.silent) >= MOST_PLACES:
            raise _too_large(self.regex)
        self.silent.append([])
        self.moves.append([])
        return len(self.silent) - 1

    def wire(self, node: Any, a: int) -> int:
        """Lay the node from place `a` on; returns where it ends."""
        if node[0] == "set":
            end = self.new()
            self.moves[a].append((node[1], end))
            return end
        if node[0] == "cat":
            for part in node[1]:
                a = self.wire(part, a)
            return a
        end = self.new()
        if node[0] == "alt":
            for part in node[1]:
                start = self.new()
                self.silent[a].append(start)
                self.silent[self.wire(part, start)].append(end)
            return end
        _, part, low, high = node
        for _ in range(low):
            a = self.wire(part, a)
        self.silent[a].append(end)
        if high is None:
            start = self.new()
            self.silent[a].append(start)
            self.silent[self.wire(part, start)] += [start, end]
        for _ in range(0 if high is None else high - low):
            a = self.wire(part, a)
            self.silent[a].append(end)
        return end

    def closure(self, places: Iterator[int] | set[int]) -> frozenset[int]:
        seen, todo = set[int](), list(places)
        while todo:
            place = todo.pop()
            if place not in seen:
                seen.add(place)
                todo += self.silent[place]
        return frozenset(seen)

    def steps(self, places: frozenset[int]) -> Iterator[tuple[int, int, frozenset[int]]]:
        """(low, high, places reached) for each range of characters that leads anywhere, in order."""
        edges: dict[int, list[tuple[int, int]]] = {}
        for place in places:
            for ranges, target in self.moves[place]:
                for low, high in ranges:
                    edges.setdefault(low, []).append((target, 1))
                    edges.setdefault(high + 1, []).append((target, -1))
        active: Counter[int] = Counter()
        points = sorted(edges)
        for point, following in pairwise(points):
            for target, change in edges[point]:
                active[target] += change
            if reached := {target for target, count in active.items() if count}:
                yield point, following - 1, self.closure(reached)


def _determined(regex: str, node: Any) -> Pattern:
    places = _Places(regex)
    start = places.new()
    end = places.wire(node, start)
    first = places.closure({start})
    numbers, order, table = {first: 0}, [first], list[list[tuple[int, int, int]]]()
    for known in order:  # grows while it is walked
        row = list[tuple[int, int, int]]()
        for low, high, reached in places.steps(known):
            if reached not in numbers:
                if len(order) >= MOST_STATES:
                    raise _too_large(regex)
                numbers[reached] = len(order)
                order.append(reached)
            if row and row[-1][1] == low - 1 and row[-1][2] == numbers[reached]:
                row[-1] = (row[-1][0], high, row[-1][2])
            else:
                row.append((low, high, numbers[reached]))
        table.append(row)
    return _trimmed(regex, table, [end in known for known in order])


def _trimmed(regex: str, table: list[list[tuple[int, int, int]]], accepts: list[bool]) -> Pattern:
    """Without the states from which nothing can be completed."""
    came_from: list[list[int]] = [[] for _ in table]
    for i, row in enumerate(table):
        for _, _, target in row:
            came_from[target].append(i)
    alive, todo = set[int](), [i for i, yes in enumerate(accepts) if yes]
    while todo:
        state = todo.pop()
        if state not in alive:
            alive.add(state)
            todo += came_from[state]
    if 0 not in alive:
        raise refused(regex, "no text matches it", "没有任何文本与之匹配")
    numbers = {old: new for new, old in enumerate(sorted(alive))}
    states = []
    for old in sorted(alive):
        row = [(low, high, numbers[target]) for low, high, target in table[old] if target in alive]
        lows, highs, targets = zip(*row, strict=True) if row else ((), (), ())
        states.append(State(accepts[old], lows, highs, targets))
    return Pattern(regex, tuple(states))


def _too_large(regex: str) -> RecipeError:
    return refused(
        regex,
        f"it needs more than {MOST_STATES} states; make its repetitions shorter",
        f"所需状态超过 {MOST_STATES} 个，请减少重复次数",
    )
