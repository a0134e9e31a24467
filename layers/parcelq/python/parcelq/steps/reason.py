"""Reasons: texts of limited size that say why a step failed. The first line is the most important line."""

from __future__ import annotations

import re
from typing import Final

TRACEBACK: Final = "Traceback (most recent call last):"
_FRAME: Final = '  File "'
_ILLEGAL: Final = "[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]"
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html"""
CUT: Final = " … "


def reason_first(text: str) -> str:
    """Move the exception from the end of a Python traceback to the beginning. The text then starts, for example, with
    `ValueError: bad SMILES`, followed by the frames.

    A text without a traceback stays unchanged. Lines that were printed before the traceback are moved after the
    traceback.
    """
    start = text.rfind(f"{TRACEBACK}\n")
    body = start + len(TRACEBACK) + 1
    if start < 0:
        start = body = text.find(_FRAME)  # only the end of the traceback may have been kept
    if start < 0:
        return text
    lines = text[body:].splitlines(keepends=True)
    at = next((number for number, line in enumerate(lines) if line[:1] not in {" ", "\t", "\n", "\r"}), None)
    if at is None:
        return text
    exception = "".join(lines[at:]).rstrip("\n")
    frames = "".join(lines[:at])
    return f"{exception}\n{TRACEBACK}\n{frames}{text[:start]}"


def escaped(text: str) -> str:
    """Escape those characters of a text that XML, and therefore SQS, does not allow."""
    return re.sub(_ILLEGAL, lambda found: found[0].encode("unicode_escape").decode(), text)


def shortened(text: str, most_bytes: int) -> str:
    """Shorten a text to `most_bytes` of UTF-8: the middle is cut out of the lines after the first line, or out of the
    first line if it is too long.
    """
    data = text.encode("utf-8", "replace")
    first, room = data.partition(b"\n")[0], most_bytes - len(CUT.encode())
    if len(data) > most_bytes and len(first) > room:
        data = first
    if len(data) <= most_bytes:
        return data.decode()
    head = max(room // 2, len(first)) if len(first) <= room else room // 2
    start = data[:head].decode("utf-8", "ignore")
    end = data[len(data) - (room - head) :].decode("utf-8", "ignore") if room > head else ""
    return f"{start}{CUT}{end}".rstrip()
