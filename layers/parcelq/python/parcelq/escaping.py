"""Escapes text of unknown origin, so that the text cannot move the cursor, change colours or hide what follows."""

from __future__ import annotations

import re
from typing import Final

# Control characters, line and paragraph separators, characters that change the writing direction, and surrogates, which
# represent bytes that are not UTF-8. https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
_ABOVE_ASCII: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb"
HARMFUL: Final = re.compile(f"[\x00-\x08\x0b-\x1f{_ABOVE_ASCII}]")
"""The characters that control a terminal."""
_IN_LINE: Final = re.compile(f"[\x00-\x1f{_ABOVE_ASCII}]")
_IN_JSON: Final = re.compile(f"[{_ABOVE_ASCII}]")
_SHORT: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def escaped(text: str) -> str:
    r"""Escape characters that control a terminal, such as `\x1b`, but not line ends and tabs."""
    return HARMFUL.sub(_escape, text)


def one_line(text: object) -> str:
    """Escape line ends and tabs too, so that the text stays within one line."""
    return _IN_LINE.sub(_escape, str(text))


def cut(text: str, characters: int) -> str:
    """Return a text, cut to at most `characters` characters. A text that was cut ends with `…`."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def escaped_json(text: str) -> str:
    """Escape JSON from `json.dumps` as `escaped` does with text, without changing the meaning of the JSON."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escaped_bytes(data: bytes) -> bytes:
    """Escape bytes as `escaped` does with text; bytes that are not UTF-8 are escaped too."""
    return escaped(data.decode("utf-8", "surrogateescape")).encode()


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
