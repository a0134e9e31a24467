"""Checks replies of AWS: an operation counts as done only if the reply confirms the operation.

A broken proxy may send wrong replies: `200 {}`, HTML with status 200, a reply that is cut off or lists an entry twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from parcelq.errors import AwsError

_log = logging.getLogger(__name__)
INCOMPLETE: Final = "IncompleteReply"
"""The code of an AwsError for a reply without its required content. A retry may help."""


def needed(reply: Mapping[str, Any], operation: str, name: str) -> Any:
    """Return a member that a reply must contain. Raises AwsError if the member is missing or empty."""
    value = reply.get(name)
    # guard[False]: a reply counts only if it has what it must contain
    if value is None or value in ("", {}):
        raise incomplete(operation, f"the reply does not contain {name}")
    return value


def incomplete(operation: str, reason: str) -> AwsError:
    """Return the error for an invalid reply. The error has no status, because a retry may help."""
    return AwsError(operation, INCOMPLETE, f"{reason}; did something other than AWS answer?")


class Confirmed(NamedTuple):
    """The ids of the entries of a batch request that succeeded; and why each of the other entries failed."""

    done: frozenset[str]
    failed: Mapping[str, Mapping[str, Any]]


def reconcile(operation: str, reply: Mapping[str, Any], ids: Collection[str]) -> Confirmed:
    """Return which entries of a batch request to SQS succeeded, and which failed, according to the reply.

    An entry has succeeded only if the reply lists the entry under `Successful` and not under `Failed`. An entry in
    neither list has failed and may be retried. Ids that were not in the request are ignored.
    """
    successful = {str(one.get("Id")) for one in reply.get("Successful") or ()}
    refused = {str(one.get("Id")): one for one in reply.get("Failed") or ()}
    if unknown := (successful | refused.keys()).difference(ids):
        _log.warning("the reply to %s lists entries that were not in the request: %s", operation, sorted(unknown)[:10])
    # guard[done = frozenset(one for one in ids if one not in refused)]: an entry of a batch counts as done only if the
    # reply confirms it
    done = frozenset(one for one in ids if one in successful and one not in refused)
    lost = {
        "Code": INCOMPLETE,
        "Message": f"the reply to {operation} says neither that the entry succeeded nor that it failed",
        "SenderFault": False,
    }
    return Confirmed(done, {one: {**lost, **refused.get(one, {})} for one in ids if one not in done})


def check_replies(client: Any) -> None:
    """Make an SQS client refuse replies that have a good status but are not from SQS: HTML or an empty body.

    botocore treats an unreadable reply as an empty reply. An empty reply to ListQueues or ReceiveMessage means that
    there are no queues or messages.
    """
    model = client.meta.service_model
    if getattr(model, "resolved_protocol", model.protocol) != "json":
        return

    def check(response_dict: Mapping[str, Any], operation_model: Any, **_: Any) -> None:
        if response_dict["status_code"] >= 300:
            return
        body = response_dict["body"].strip()
        may_be_empty = not (operation_model.output_shape and operation_model.output_shape.members)
        # guard[False]: a web page with a good status is no reply of SQS
        if not (body.startswith(b"{") and body.endswith(b"}")) and not (may_be_empty and not body):
            raise incomplete(operation_model.name, f"the reply is not a JSON object but {body[:60]!r}")

    client.meta.events.register("before-parse.sqs", check)


def size_of_part(reply: Mapping[str, Any], start: int, key: str) -> int:
    """Return the size of an object from the reply to a request for some of its bytes.

    Raises AwsError if the reply contains other bytes.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", str(reply.get("ContentRange", "")))
    # guard[not found]: a part of an object counts only if it is the part that was asked for
    if not found or int(found[1]) != start:
        raise incomplete("GetObject", f"the reply is not the requested part of {key!r}")
    return int(found[2])
