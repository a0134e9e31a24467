"""Checks replies of AWS: an operation counts as done only if the reply confirms the operation.

A broken proxy may send wrong replies: `200 {}`, HTML with status 200, a reply that is cut off or lists an entry twice.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from parcelq.errors import AwsError
from parcelq.limits import KIB

_log = logging.getLogger(__name__)
_CHECKED_BYTES: Final = 4 * KIB
"""The form of a reply is checked if the reply has at most this many bytes. Larger replies are full of messages."""
_TYPES: Final = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "blob": str,
    "boolean": bool,
    "integer": int,
}
INCOMPLETE: Final = "IncompleteReply"
"""The code of an AwsError for a reply without its required content. A retry may help."""


def needed(reply: Mapping[str, Any], operation: str, name: str) -> Any:
    """Return a member that a reply must contain. Raises AwsError if the member is missing or empty."""
    value = reply.get(name)
    # guard[False]: a reply counts only if it has what it must contain
    if value is None or value in ("", {}, []):
        raise incomplete(operation, f"the reply does not contain {name}")
    return value


def all_needed(reply: Mapping[str, Any], operation: str, *names: str) -> list[Any]:
    """Return several members that a reply must contain; see `needed`."""
    return [needed(reply, operation, name) for name in names]


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
    """Make an SQS client refuse replies that have a good status but are not from SQS: HTML, an empty body, a body that
    is cut off, or JSON of another form.

    botocore treats an unreadable reply as an empty reply. An empty reply to ListQueues or ReceiveMessage means that
    there are no queues or messages. If a member has another type, botocore fails with an AttributeError or returns it.
    """
    model = client.meta.service_model
    if getattr(model, "resolved_protocol", model.protocol) != "json":
        return

    def check(response_dict: Mapping[str, Any], operation_model: Any, **_: Any) -> None:
        if response_dict["status_code"] >= 300:
            return
        body, shape = response_dict["body"].strip(), operation_model.output_shape
        may_be_empty = not (shape and shape.members)
        # guard[False]: a web page with a good status is no reply of SQS
        if not (body.startswith(b"{") and body.endswith(b"}")) and not (may_be_empty and not body):
            raise incomplete(operation_model.name, f"the reply is not a JSON object but {body[:60]!r}")
        # guard[False]: JSON of another form is no reply of SQS
        if shape and body and len(body) <= _CHECKED_BYTES and not _has_form(shape, body):
            raise incomplete(
                operation_model.name, f"the reply has not the form of this operation's replies: {body[:60]!r}"
            )

    client.meta.events.register("before-parse.sqs", check)


def _has_form(shape: Any, body: bytes) -> bool:
    """Return whether a body is JSON of a shape, with one of the shape's members at least, unless the body is `{}`."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return _fits(shape, reply) and not (reply and shape.members and reply.keys().isdisjoint(shape.members))


def _fits(shape: Any, value: Any) -> bool:
    """Return whether a JSON value and all of its members have the types of a shape. Unknown members do not matter."""
    wanted: Any = _TYPES.get(shape.type_name, object)
    if not isinstance(value, wanted):
        return False
    if shape.type_name == "structure":
        known = ((shape.members[name], one) for name, one in value.items() if name in shape.members and one is not None)
        return all(_fits(member, one) for member, one in known)
    if shape.type_name == "list":
        return all(_fits(shape.member, one) for one in value)
    return shape.type_name != "map" or all(_fits(shape.value, one) for one in value.values())


def size_of_part(reply: Mapping[str, Any], start: int, key: str) -> int:
    """Return the size of an object from the reply to a request for some of its bytes.

    Raises AwsError if the reply contains other bytes.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", str(reply.get("ContentRange", "")))
    # guard[not found]: a part of an object counts only if it is the part that was asked for
    if not found or int(found[1]) != start:
        raise incomplete("GetObject", f"the reply is not the requested part of {key!r}")
    return int(found[2])
