"""Publishes events to Amazon EventBridge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from parcelq.aws.clients import translated
from parcelq.aws.replies import incomplete
from parcelq.errors import AwsError

SOURCE: Final = "parcelq"


def put_event(events: Any, kind: str, detail: Mapping[str, Any], resource: str) -> None:
    """Put an event on the account's default bus, and check that the reply confirms the event.

    `kind` is the event's `detail-type`; `detail` has at most 256 KiB as JSON; the event is about `resource`. Raises
    AwsError if EventBridge did not accept the event.
    """
    entry = {"Source": SOURCE, "DetailType": kind, "Detail": json.dumps(detail), "Resources": [resource]}
    with translated():
        reply = events.put_events(Entries=[entry])
    entries = reply.get("Entries") or [{}]
    # guard[False]: a job has ended only after EventBridge confirmed the event that says so
    if reply.get("FailedEntryCount") != 0 or not entries[0].get("EventId"):
        if code := entries[0].get("ErrorCode"):
            raise AwsError("PutEvents", code, str(entries[0].get("ErrorMessage", "")))
        raise incomplete("PutEvents", "the reply does not confirm the event")
