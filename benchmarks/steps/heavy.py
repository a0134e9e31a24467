"""A step that returns its input, and takes 300 ms of CPU to import, like a step with large libraries."""

from __future__ import annotations

import time

from parcelq.steps.function import step

IMPORT_SECONDS = 0.3

while time.process_time() < IMPORT_SECONDS:
    pass


@step(raw=True)
def same(entries: bytes) -> bytes:
    """Return the entries unchanged."""
    return entries


if __name__ == "__main__":
    same.main()
