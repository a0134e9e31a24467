"""Writes complete HTML files with a content security policy that allows only the given scripts."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from parcelq.collect.page.html import text


def document(title: str, main: str, *, script: str = "", style: str = "", policy: str = "") -> bytes:
    """Return a complete HTML file with a script and a style sheet. `policy` has rules that are added to the content
    security policy; without them, the file loads no other files.
    """
    script, style = _asset("page.js") + script, _asset("page.css") + style
    allowed = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{text(title)}</title><style>{style}</style>"
    )
    html = (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{main}<script>{script}</script></body></html>\n'
    )
    return html.encode("utf-8", "replace")


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
