"""The page in a real browser: the switch works with and without JavaScript, and nothing sticks out on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from report_folder import add_results, add_tuning, build_folder

from zhiling.report import build

CHROMIUM = Path("/usr/bin/chromium")
STICKING_OUT = """() => [...document.querySelectorAll('body *')].filter(node => node.getClientRects().length
    && node.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(node => node.outerHTML.slice(0, 120))"""
HIDDEN_LABELS = """() => [...document.querySelectorAll('svg.pic')].filter(node => node.getClientRects().length).flatMap(picture => {
    const frame = picture.getBoundingClientRect();
    return [...picture.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < frame.left - 2 || box.right > frame.right + 2;
    }).map(text => text.textContent);
})"""
OVERLAPPING = """() => [...document.querySelectorAll('svg.pic')].filter(node => node.getClientRects().length).flatMap(picture => {
    const boxes = [...picture.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    return boxes.flatMap(([a, one], i) => boxes.slice(i + 1).filter(([b, two]) =>
        Math.min(one.right, two.right) - Math.max(one.left, two.left) > 1 && Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top) > 4
    ).map(([b]) => `${a} / ${b}`));
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'zhiling[dev]'"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-quic"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    build_folder(folder)
    add_tuning(folder)
    add_results(folder)
    return build(folder).as_uri()


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page in a tab. Fails when it asks for anything but itself, or complains."""
    page, trouble = browser.new_page(**options), list[str]()
    page.on(
        "request",
        lambda request: trouble.append(request.url) if request.url.split("#")[0] != address.split("#")[0] else None,
    )
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(address)
    yield page
    page.close()
    assert trouble == []


def press(page: Any, selector: str) -> None:
    """A click where the thing is, as a hand does it: playwright's own would scroll the page first."""
    box = page.locator(selector).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def shown(page: Any) -> list[str]:
    return [main.get_attribute("id") for main in page.locator("main").all() if main.is_visible()]


def test_the_switch_shows_one_language_and_keeps_the_place(browser: Any, address: str):
    with opened(browser, address, viewport={"width": 1280, "height": 900}) as page:
        assert shown(page) == ["en"]
        page.evaluate("document.getElementById('en-proof').scrollIntoView()")
        press(page, ".switch a[lang|=zh]")
        assert shown(page) == ["zh"] and page.evaluate("document.documentElement.lang") == "zh-Hans"
        top = page.evaluate("document.getElementById('zh-proof').getBoundingClientRect().top")
        assert 0 < top < 200
        press(page, ".switch a[lang=en]")
        assert shown(page) == ["en"] and page.evaluate("document.documentElement.className") == "js en"


def test_the_switch_works_without_javascript(browser: Any, address: str):
    with opened(browser, address, java_script_enabled=False) as page:
        assert shown(page) == ["en"] and not page.locator(".theme").is_visible()
        page.click(".switch a[lang|=zh]")
        assert shown(page) == ["zh"]
        page.click("main.zh nav a[href='#zh-bill']")
        assert shown(page) == ["zh"]
        page.click(".switch a[lang=en]")
        assert shown(page) == ["en"]


@pytest.mark.parametrize("script", [True, False])
def test_an_address_can_name_the_language(browser: Any, address: str, script: bool):
    with opened(browser, f"{address}#zh-losses", java_script_enabled=script) as page:
        assert shown(page) == ["zh"]


def test_light_and_dark_follow_the_reader_and_the_button(browser: Any, address: str):
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, address, color_scheme="light") as light, opened(browser, address, color_scheme="dark") as dark:
        colours = light.evaluate(paper), dark.evaluate(paper)
        assert colours[0] != colours[1]
        for page, other in ((light, colours[1]), (dark, colours[0])):
            page.click(".theme")
            assert page.evaluate(paper) == other


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [1280, 890, 760, 390, 340])
def test_nothing_sticks_out_or_overlaps(browser: Any, address: str, lang: str, width: int):
    with opened(browser, f"{address}#{lang}", viewport={"width": width, "height": 800}) as page:
        page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(STICKING_OUT) == []
        assert page.evaluate(HIDDEN_LABELS) == []
        assert page.evaluate(OVERLAPPING) == []


def test_hostile_names_do_not_break_the_layout(browser: Any, tmp_path: Path):
    build_folder(tmp_path / "x", spoil=lambda text: text + "<b>很长的名字very-long-name</b>" * 6)
    add_tuning(tmp_path / "x", spoil=lambda text: text + "很长的名字very-long-name" * 6)
    add_results(tmp_path / "x", spoil=lambda text: text + "很长的名字very-long-name" * 6)
    address = build(tmp_path / "x").as_uri()
    for width in (1280, 390):
        with opened(browser, address, viewport={"width": width, "height": 800}) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
