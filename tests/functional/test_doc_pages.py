"""What the tutorial and the how-to pages show is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_pages import ON_AWS, PAGES, ROOT, matches, run


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != ON_AWS], ids=lambda page: f"{page.parent.name}/{page.stem}"
)
def test_the_commands_of_a_page_give_the_output_that_it_shows(page: Path, tmp_path: Path) -> None:
    for shown in run(page.read_text(), tmp_path):
        assert matches(shown.expected, shown.actual), f"$ {shown.command}\n{shown.actual}"


def test_the_readme_links_every_how_to_page() -> None:
    text = (ROOT / "README.md").read_text()
    pages = [page.relative_to(ROOT).as_posix() for page in (ROOT / "docs" / "howto").glob("*.md")]
    assert [page for page in pages if f"({page})" not in text] == []
