"""Creates HTML, and escapes all texts in the HTML."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Iterable
from typing import Any

from parcelq.escaping import one_line


def text(value: object) -> str:
    """Return a value escaped for HTML, also for attributes."""
    return html.escape(one_line(value), quote=True)


def element(name: str, *content: str, **attributes: object) -> str:
    """Return an element. Its content is HTML; the values of its attributes are escaped. `class_` becomes `class`.

    Attributes are left out if the value is None or False; if the value is True, only the attribute's name is written.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.rstrip("_").replace("_", "-")
        parts.append(shown if value is True else f'{shown}="{text(value)}"')
    start = f"<{' '.join(parts)}>"
    return start if name == "br" else f"{start}{''.join(content)}</{name}>"


def table(name: str, label: str, heads: list[str], rows: Iterable[list[str]], *, texts: Collection[int] = (0,)) -> str:
    """Return a table in a box with the id `name`. If the table is too wide, users can scroll the box, also by keyboard.

    Args:
        label: a description of the table for screen readers.
        texts: numbers of the columns that contain texts. All other columns contain numbers, aligned to the right.
    """
    kinds = [None if number in texts else "n" for number in range(len(heads))]
    head = (element("th", text(one), scope="col", class_=kind) for one, kind in zip(heads, kinds, strict=True))
    body = (
        element("tr", *(element("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)))
        for row in rows
    )
    shown = element("table", element("thead", element("tr", *head)), element("tbody", *body))
    return element("div", shown, class_="scroll", id=name, tabindex="0", role="region", aria_label=label)


def section(title: str, *content: str, words: str = "", **attributes: object) -> str:
    """Return a section. `title` and the optional `words` below the title are texts, and `content` is HTML."""
    below = element("p", text(words), class_="soft") if words else ""
    return element("section", element("h2", text(title)), below, *content, **attributes)


def json_block(name: str, data: Any) -> str:
    """Return an element that contains JSON for a script. Escaping ensures that the JSON cannot end the element."""
    shown = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        shown = shown.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{text(name)}">{shown}</script>'
