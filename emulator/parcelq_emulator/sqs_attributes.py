"""Checks names and attributes of queues as SQS does.

Moto accepts any attribute, so without these checks a misspelt attribute has no effect, or breaks the queue later.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from parcelq.limits import (
    MAX_DEADLINE_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_LONG_POLL_SECONDS,
    MAX_MESSAGE_BYTES,
    MAX_RETENTION_SECONDS,
)

from parcelq_emulator.sqs_message import SqsError, invalid_parameter, missing_parameter

_FIFO: Final = ".fifo"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FIFO_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ARN: Final = re.compile(r"arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,80}(\.fifo)?")
_MOST_RECEIVES: Final = 1000

Check = Callable[[str], bool]


def _number(low: int, high: int) -> Check:
    return lambda text: bool(_NUMBER.fullmatch(text)) and low <= int(text) <= high


def _one_of(*values: str) -> Check:
    return lambda text: text in values


def _json(members: Callable[[Mapping[str, Any]], bool]) -> Check:
    """Return a check that accepts an empty text, which removes the attribute, or a JSON object with valid members."""

    def check(text: str) -> bool:
        if not text:
            return True
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and members(value)

    return check


def _is_redrive(policy: Mapping[str, Any]) -> bool:
    count = str(policy.get("maxReceiveCount"))
    return (
        set(policy) == {"deadLetterTargetArn", "maxReceiveCount"}
        and bool(_ARN.fullmatch(str(policy["deadLetterTargetArn"])))
        and _number(1, _MOST_RECEIVES)(count)
    )


def _is_redrive_allow(policy: Mapping[str, Any]) -> bool:
    sources = policy.get("sourceQueueArns")
    if policy.get("redrivePermission") == "byQueue":
        return (
            isinstance(sources, list) and 1 <= len(sources) <= 10 and all(_ARN.fullmatch(str(one)) for one in sources)
        )
    return policy.get("redrivePermission") in {"allowAll", "denyAll"} and sources is None


_CHECKS: Final[Mapping[str, Check]] = {
    "DelaySeconds": _number(0, MAX_DELAY_SECONDS),
    "MaximumMessageSize": _number(1024, MAX_MESSAGE_BYTES),
    "MessageRetentionPeriod": _number(60, MAX_RETENTION_SECONDS),
    "Policy": _json(lambda _: True),
    "ReceiveMessageWaitTimeSeconds": _number(0, MAX_LONG_POLL_SECONDS),
    "VisibilityTimeout": _number(0, MAX_DEADLINE_SECONDS),
    "RedrivePolicy": _json(lambda policy: not policy or _is_redrive(policy)),
    "RedriveAllowPolicy": _json(lambda policy: not policy or _is_redrive_allow(policy)),
    "KmsMasterKeyId": lambda _: True,
    "KmsDataKeyReusePeriodSeconds": _number(60, 86_400),
    "SqsManagedSseEnabled": _one_of("true", "false"),
}
_FIFO_CHECKS: Final[Mapping[str, Check]] = {
    "ContentBasedDeduplication": _one_of("true", "false"),
    "DeduplicationScope": _one_of("messageGroup", "queue"),
    "FifoThroughputLimit": _one_of("perQueue", "perMessageGroupId"),
}


def check_new_queue(request: Mapping[str, Any]) -> str:
    """Check a CreateQueue request, and return the queue's name.

    Raises:
        SqsError: if SQS would not create this queue.
    """
    name = request.get("QueueName")
    attributes = request.get("Attributes") or {}
    if not name:
        raise missing_parameter("QueueName")
    is_fifo = str(name).endswith(_FIFO)
    if not isinstance(name, str) or not (_FIFO_NAME if is_fifo else _NAME).fullmatch(name):
        raise invalid_parameter("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
    if is_fifo and attributes.get("FifoQueue") != "true":
        raise invalid_parameter("The name of a queue that is not FIFO can not end in .fifo; FifoQueue must be true")
    if not is_fifo and attributes.get("FifoQueue") == "true":
        raise invalid_parameter(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or "
            "underscores, must end with .fifo suffix and be 1 to 80 in length"
        )
    if not is_fifo and "FifoQueue" in attributes:
        raise unknown_attribute("FifoQueue")  # SQS refuses even "false"
    _check({key: value for key, value in attributes.items() if key != "FifoQueue"}, is_fifo)
    return name


def check_changed_queue(name: str, request: Mapping[str, Any]) -> None:
    """Check a SetQueueAttributes request for a queue.

    Raises:
        SqsError: if SQS would refuse these attributes.
    """
    attributes = request.get("Attributes")
    if not attributes:
        raise missing_parameter("Attributes")
    _check(attributes, name.endswith(_FIFO))


def check_asked_for(request: Mapping[str, Any]) -> None:
    """Check the attributes' names in a GetQueueAttributes request.

    Raises:
        SqsError: if SQS knows no attribute of that name.
    """
    for name in request.get("AttributeNames") or ():
        if name not in _READABLE:
            raise unknown_attribute(name)


def unknown_attribute(name: str) -> SqsError:
    """Return the error for an attribute that a queue cannot have."""
    return SqsError("InvalidAttributeName", f"Unknown Attribute {name}.")


def deleted_recently() -> SqsError:
    """Return the error for creating a queue with the name of a queue that was deleted within the last 60 s."""
    text = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    return SqsError("AWS.SimpleQueueService.QueueDeletedRecently", text)


def _check(attributes: Mapping[str, Any], is_fifo: bool) -> None:
    checks = {**_CHECKS, **(_FIFO_CHECKS if is_fifo else {})}
    for name, value in attributes.items():
        if name not in checks:
            raise unknown_attribute(name)
        if not isinstance(value, str) or not checks[name](value):
            raise SqsError("InvalidAttributeValue", f"Invalid value for the parameter {name}.")


_READABLE: Final = frozenset(
    {
        "All",
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "CreatedTimestamp",
        "FifoQueue",
        "LastModifiedTimestamp",
        "QueueArn",
        *_CHECKS,
        *_FIFO_CHECKS,
    }
)
