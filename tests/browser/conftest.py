"""A real browser for the tests of pages. Where there is none, they are skipped; `make browser` installs one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or next(
    (path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None
)


class Opened:
    """A page in the browser, and whatever it complained of or asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def text(self, selector: str) -> str:
        """What people see of an element, on one line."""
        return " ".join(self.page.locator(selector).inner_text().split())

    def counts(self) -> dict[str, str]:
        """The figures at the top of a report, by their names."""
        tiles = self.page.locator("#counts > div")
        pairs = [tiles.nth(number).inner_text().split("\n") for number in range(tiles.count())]
        return {name: figure for name, figure, *_ in ([part for part in pair if part.strip()] for pair in pairs)}

    def kinds(self) -> list[str]:
        """What each part of the map is, in order."""
        classes = self.page.eval_on_selector_all("#map button", "all => all.map(one => one.className)")
        return [name.removeprefix("cell ") for name in classes]

    def choose(self, part: int) -> str:
        """Click a part of the map, and return what is shown of it."""
        self.page.locator(f'#map button[data-part="{part}"]').click()
        return self.text("#chosen")

    def wait_for(self, selector: str, text: str) -> None:
        """Wait until an element shows a text."""
        self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
            arg=[selector, text],
            timeout=120_000,
        )

    def press(self, button: str, answer: str = "Yes") -> str:
        """Press a button and answer what it asks; return the question."""
        self.page.locator(button).first.click()
        question = self.text("dialog p")
        self.page.get_by_role("button", name=answer, exact=True).click()
        return question

    def violations(self) -> list[str]:
        """What axe finds wrong with the page, in both colour schemes."""
        from axe_playwright_python.sync_playwright import Axe

        found = []
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            # The page's policy allows no script but its own, so axe comes by way of the debugger.
            self.page.evaluate(Axe().axe_script)
            results = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
            found += [
                f"{scheme}: {one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes']][:3]}"
                for one in results["violations"]
            ]
        return found

    def check(self, own: str = "") -> None:
        """Check that nothing was complained of, that nothing came from elsewhere, and that axe finds nothing."""
        assert self.violations() == []
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(own or "file://")] == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; see make browser")
    pytest.importorskip("axe_playwright_python", reason="axe is not installed; see make browser")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; make browser installs it")
    with playwright.sync_playwright() as driver:
        # As root, as in CI, Chromium starts only without its sandbox. It opens nothing but pages of these tests.
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[[str], Opened]]:
    """Opens an address."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    context.set_default_timeout(20_000)

    def to(url: str) -> Opened:
        opened = Opened(context.new_page())
        opened.page.goto(url)
        return opened

    yield to
    context.close()


@pytest.fixture
def show(visit: Callable[[str], Opened], tmp_path: Path) -> Callable[[bytes], Opened]:
    """Opens a page that is given as bytes, from a file."""

    def opened(page: bytes) -> Opened:
        path = tmp_path / "page.report.html"
        path.write_bytes(page)
        return visit(path.as_uri())

    return opened
