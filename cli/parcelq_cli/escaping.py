"""Escapes text of unknown origin before it is printed, as `parcelq.escaping` does, but also escapes styled text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parcelq.escaping import HARMFUL, escaped, escaped_bytes, escaped_json, one_line

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["escaped", "escaped_bytes", "escaped_json", "escaped_text", "one_line"]


def escaped_text(text: Text) -> Text:
    """Escape terminal control characters in styled text, and keep the styles."""
    places = [found.start() for found in HARMFUL.finditer(text.plain)]
    if not places:
        return text
    pieces = text.divide(sorted({at for place in places for at in (place, place + 1)} - {0, len(text.plain)}))
    for piece in pieces:
        piece.plain = escaped(piece.plain)
    return type(text)().join(pieces)
