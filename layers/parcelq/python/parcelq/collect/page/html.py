"""HTML as text: everything that is put into it is escaped here."""

from __future__ import annotations

import html
import json
from typing import Any

from parcelq.escaping import one_line


def text(value: object) -> str:
    """Return a value as it may stand in HTML, also within an attribute."""
    return html.escape(one_line(value), quote=True)


def element(name: str, *content: str, **attributes: object) -> str:
    """Return an element. Its content is HTML; its attributes are values, which are escaped.

    Attributes whose value is None or False are left out; of those with True only the name is there. `class_` becomes
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
    """Return a table whose heads are texts and whose cells are HTML, in a box that scrolls if it is too wide."""
    head = element("tr", *(element("th", text(one), scope="col") for one in heads))
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    title = element("caption", text(caption)) if caption else ""
    return element("div", element("table", title, element("thead", head), element("tbody", *body)), **attributes)


def section(title: str, *content: str, words: str = "", **attributes: object) -> str:
    """Return a section with a title and perhaps words below it, which are texts, and content, which is HTML."""
    below = element("p", text(words), class_="soft") if words else ""
    return element("section", element("h2", text(title)), below, *content, **attributes)


def json_block(name: str, data: Any) -> str:
    """Return an element that holds JSON for a script. Nothing in the JSON can end the element."""
    shown = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        shown = shown.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{text(name)}">{shown}</script>'
