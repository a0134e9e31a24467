"""A step that gives back what it gets, and takes 300 ms of CPU to be imported, as one with large libraries does."""

from __future__ import annotations

import time

from parcelq.steps.function import step

IMPORT_SECONDS = 0.3

while time.process_time() < IMPORT_SECONDS:
    pass


@step(raw=True)
def same(entries: bytes) -> bytes:
    """Give the entries back."""
    return entries


if __name__ == "__main__":
    same.main()
