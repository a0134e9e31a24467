"""Checks the relative links of pages outside docs/, such as README.md; MkDocs checks the links of pages in docs/.

python scan/links.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

ROOT: Final = Path(__file__).parents[1]
_CODE: Final = re.compile(r"^```.*?^```|`[^`\n]*`", re.S | re.M)
_LINK: Final = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_HEADING: Final = re.compile(r"^#+ +(.+)$", re.M)


def main() -> int:
    """Print broken links; return the exit code."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    pages = [ROOT / name for name in listed.stdout.split("\0") if name and not name.startswith("docs/")]
    broken = [f"{page.relative_to(ROOT)}: {link}" for page in pages for link in broken_links(page)]
    for one in broken:
        print(f"{one} leads nowhere")
    return 1 if broken else 0


def broken_links(page: Path) -> Iterator[str]:
    """Yield the relative links of a page whose file or heading does not exist."""
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        path, _, heading = unquote(link).partition("#")
        target = page.parent / path if path else page
        if re.match("[a-z]+:", link):
            continue
        if not target.exists() or (heading and target.suffix == ".md" and heading not in _headings(target)):
            yield link


def _headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub creates them."""
    titles = _HEADING.findall(
        _CODE.sub(lambda code: code[0].strip("`") if "\n" not in code[0] else "", page.read_text())
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


if __name__ == "__main__":
    sys.exit(main())
