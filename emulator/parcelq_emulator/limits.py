"""The limits of AWS that only the emulator keeps; see `parcelq.limits` for the pages that document them."""

from __future__ import annotations

from typing import Final

from parcelq.limits import MIB

MAX_IN_FLIGHT: Final = 120_000
"""The most messages of a standard queue that may be locked, which means pulled and not yet acknowledged."""
PURGE_INTERVAL_SECONDS: Final = 60
"""SQS allows one PurgeQueue request of a queue in this many seconds: the reference of PurgeQueue."""
MIN_MULTIPART_BYTES: Final = 5 * MIB
"""The fewest bytes of every part of a multipart upload except the last."""
