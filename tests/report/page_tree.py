"""A page as a tree, strictly: every element that is opened must be closed, in order."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr", "rect", "line", "circle", "path"}


class Node:
    """An element: its tag, attributes, and what it holds (texts and elements)."""

    def __init__(self, tag: str, attrs: dict[str, str | None]) -> None:
        self.tag, self.attrs, self.parts = tag, attrs, list[str | Node]()

    def all(self, tag: str = "", **attrs: str) -> Iterator[Node]:
        """Every element below with that tag and those attributes, in order; `class_` asks for one class among others."""
        wanted = attrs.pop("class_", None)
        for part in self.parts:
            if isinstance(part, Node):
                named = not tag or part.tag == tag
                classed = wanted is None or wanted in (part.attrs.get("class") or "").split()
                if (
                    named
                    and classed
                    and all(part.attrs.get(key.replace("_", "-")) == value for key, value in attrs.items())
                ):
                    yield part
                yield from part.all(tag, **attrs, **({"class_": wanted} if wanted else {}))

    def one(self, tag: str = "", **attrs: str) -> Node:
        """The first such element; fails where there is none."""
        return next(self.all(tag, **attrs))

    @property
    def text(self) -> str:
        """All its text, as a reader would select it."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)


class _Strict(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        assert len(dict(attrs)) == len(attrs), f"<{tag}> names an attribute twice"
        self.open[-1].parts.append(node)
        if tag not in VOID or (tag in ("rect", "circle") and not (self.get_starttag_text() or "").endswith("/>")):
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}> at line {self.getpos()[0]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def parse(html: str) -> Node:
    """The page's tree. Fails where an element is not closed, or closed out of order."""
    parser = _Strict()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1, f"never closed: {[node.tag for node in parser.open[1:]]}"
    return parser.open[0]
