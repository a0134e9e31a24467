"""Creates HTML text and escapes everything that is put into it."""

from __future__ import annotations

import html
import json
from typing import Any

from parcelq.escaping import one_line


def text(value: object) -> str:
    """Return a value escaped for HTML, also for attributes."""
    return html.escape(one_line(value), quote=True)


def element(name: str, *content: str, **attributes: object) -> str:
    """Return an element. Its content is HTML; the values of its attributes are escaped.

    Attributes with None or False are left out; with True, only the name appears. `class_` becomes
    `class`; other underscores become hyphens.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.rstrip("_").replace("_", "-")
        parts.append(shown if value is True else f'{shown}="{text(value)}"')
    start = f"<{' '.join(parts)}>"
    return start if name == "br" else f"{start}{''.join(content)}</{name}>"


def table(heads: list[str], rows: list[list[str]], caption: str = "", **attributes: object) -> str:
    """Return a table in a box that scrolls if it is too wide. Its heads are texts, its cells HTML."""
    head = element("tr", *(element("th", text(one), scope="col") for one in heads))
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    title = element("caption", text(caption)) if caption else ""
    return element("div", element("table", title, element("thead", head), element("tbody", *body)), **attributes)


def section(title: str, *content: str, words: str = "", **attributes: object) -> str:
    """Return a section with a title and perhaps words below it, which are texts, and content, which is HTML."""
    below = element("p", text(words), class_="soft") if words else ""
    return element("section", element("h2", text(title)), below, *content, **attributes)


def json_block(name: str, data: Any) -> str:
    """Return an element that contains JSON for a script. The JSON is escaped so that it cannot end the element."""
    shown = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        shown = shown.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{text(name)}">{shown}</script>'
