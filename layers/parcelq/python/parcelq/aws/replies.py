"""Replies of AWS, which count only for what they confirm.

A reply may come from a broken proxy, or be cut off: `200 {}`, HTML with status 200, an entry listed twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from parcelq.errors import AwsError

_log = logging.getLogger(__name__)
INCOMPLETE: Final = "IncompleteReply"
"""The code of an AwsError for a reply that lacks what it must contain. A retry may help."""


def needed(reply: Mapping[str, Any], operation: str, name: str) -> Any:
    """Return a member that a reply must contain.

    Raises:
        AwsError: it is missing or empty.
    """
    value = reply.get(name)
    # guard[False]: a reply counts only if it has what it must contain
    if value is None or value in ("", {}):
        raise incomplete(operation, f"the reply does not contain {name}")
    return value


def incomplete(operation: str, reason: str) -> AwsError:
    """The error for a reply that cannot be taken as one. It has no status, since a retry may help."""
    return AwsError(operation, INCOMPLETE, f"{reason}; is something else than AWS answering?")


class Confirmed(NamedTuple):
    """What the reply to a batch request confirms.

    Attributes:
        done: ids of the entries that were carried out.
        failed: the other entries, by id, with the reply's `Code`, `Message` and `SenderFault`.
    """

    done: frozenset[str]
    failed: Mapping[str, Mapping[str, Any]]


def reconcile(operation: str, reply: Mapping[str, Any], ids: Collection[str]) -> Confirmed:
    """Match the reply to a batch request of SQS with the request's entries.

    An entry is done only if the reply lists it under `Successful` and not under `Failed`. One that is in neither list
    has failed, and may be tried again. Ids that were not in the request confirm nothing.

    Args:
        operation: the API's operation, for messages.
        reply: the reply.
        ids: the ids of all entries of the request.
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
    """Let an SQS client refuse replies with a good status that are no replies of SQS: HTML, or nothing at all.

    botocore takes what it cannot read for an empty reply, and an empty reply to ListQueues or ReceiveMessage means
    that there is nothing.
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
    """The size of an object, from the reply to a request for a part of it. Raises AwsError if it is another part."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", str(reply.get("ContentRange", "")))
    # guard[not found]: a part of an object counts only if it is the part that was asked for
    if not found or int(found[1]) != start:
        raise incomplete("GetObject", f"the reply is not the asked-for part of {key!r}")
    return int(found[2])
