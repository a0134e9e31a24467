"""Carries out SQS's operations on messages: each function gets the JSON of a request, and returns the JSON of the
reply.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from moto.sqs.models import DEFAULT_SENDER_ID, sqs_backends
from parcelq.limits import (
    MAX_DEADLINE_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_LONG_POLL_SECONDS,
    MAX_REQUEST_BYTES,
    MAX_REQUEST_MESSAGES,
)

from parcelq_emulator.sqs_backend import find_queue
from parcelq_emulator.sqs_delivery import Delivery
from parcelq_emulator.sqs_message import (
    Attributes,
    Message,
    SqsError,
    attributes_md5,
    invalid_parameter,
    missing_parameter,
    request_bytes,
)
from parcelq_emulator.sqs_queue import StandardQueue

Request = Mapping[str, Any]
Reply = dict[str, Any]

_ENTRY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_MAX_MOVE_TASKS: Final = 10


# Sending.


def _send_message(queue: StandardQueue, request: Request) -> Reply:
    message = Message.from_request(request, queue.maximum_message_size)
    queue.send([(message, _delay(queue, request))])
    return _sent(message)


def _send_message_batch(queue: StandardQueue, request: Request) -> Reply:
    entries = _entries(request, "SendMessageBatch")
    if any(not entry.get("MessageBody") for entry in entries):
        raise missing_parameter("MessageBody")
    size = sum(map(request_bytes, entries))
    if size > MAX_REQUEST_BYTES:
        raise SqsError(
            "AWS.SimpleQueueService.BatchRequestTooLong",
            f"Batch requests cannot be longer than {MAX_REQUEST_BYTES} bytes. You have sent {size} bytes.",
        )
    # All valid messages are added together, so that a poll that waits gets all of them.
    accepted: list[tuple[Message, int]] = []

    def accept(entry: Request) -> Reply:
        message = Message.from_request(entry, queue.maximum_message_size)
        accepted.append((message, _delay(queue, entry)))
        return _sent(message)

    reply = _each(entries, accept)
    queue.send(accepted)
    return reply


def _delay(queue: StandardQueue, request: Request) -> int:
    return _integer(request, "DelaySeconds", 0, MAX_DELAY_SECONDS, queue.delay_seconds)


def _sent(message: Message) -> Reply:
    reply = {"MessageId": message.id, "MD5OfMessageBody": message.body_md5}
    if message.attributes:
        reply["MD5OfMessageAttributes"] = attributes_md5(message.attributes)
    return reply


# Receiving.


def _receive_message(queue: StandardQueue, request: Request) -> Reply:
    count = _integer(request, "MaxNumberOfMessages", 1, MAX_REQUEST_MESSAGES, 1)
    wait_seconds = _integer(
        request, "WaitTimeSeconds", 0, MAX_LONG_POLL_SECONDS, queue.receive_message_wait_time_seconds
    )
    timeout = _integer(request, "VisibilityTimeout", 0, MAX_DEADLINE_SECONDS, queue.visibility_timeout)
    system_names = {*request.get("AttributeNames", ()), *request.get("MessageSystemAttributeNames", ())}
    names = request.get("MessageAttributeNames", ())
    deliveries = queue.receive(count, wait_seconds, timeout)
    return {"Messages": [_received(delivery, system_names, names) for delivery in deliveries]} if deliveries else {}


def _received(delivery: Delivery, system_names: set[str], names: Iterable[str]) -> Reply:
    message = delivery.message
    reply: Reply = {
        "MessageId": message.id,
        "ReceiptHandle": delivery.receipt_handle,
        "MD5OfBody": message.body_md5,
        "Body": bytes(message.body).decode(),
    }
    if system_names:
        system = {
            "SenderId": DEFAULT_SENDER_ID,
            "SentTimestamp": str(delivery.sent_ms),
            "ApproximateReceiveCount": str(delivery.receive_count),
            "ApproximateFirstReceiveTimestamp": str(delivery.first_received_ms),
            **message.system_attributes,
        }
        if "All" not in system_names:
            system = {name: system[name] for name in system if name in system_names}
        reply["Attributes"] = system
    if attributes := _asked_for(message.attributes, names):
        reply["MessageAttributes"] = attributes
        reply["MD5OfMessageAttributes"] = attributes_md5(attributes)
    return reply


def _asked_for(attributes: Attributes, names: Iterable[str]) -> Attributes:
    wanted = set(names)
    if "All" in wanted:
        return attributes
    prefixes = tuple(name.removesuffix(".*") for name in wanted if name.endswith(".*"))
    return {name: value for name, value in attributes.items() if name in wanted or name.startswith(prefixes)}


# After receiving.


def _delete_message(queue: StandardQueue, request: Request) -> Reply:
    queue.delete(_string(request, "ReceiptHandle"))
    return {}


def _delete_message_batch(queue: StandardQueue, request: Request) -> Reply:
    return _each(_entries(request, "DeleteMessageBatch"), lambda entry: _delete_message(queue, entry))


def _change_message_visibility(queue: StandardQueue, request: Request) -> Reply:
    if "VisibilityTimeout" not in request:
        raise missing_parameter("VisibilityTimeout")
    timeout = _integer(request, "VisibilityTimeout", 0, MAX_DEADLINE_SECONDS, 0)
    queue.change_visibility(_string(request, "ReceiptHandle"), timeout)
    return {}


def _change_message_visibility_batch(queue: StandardQueue, request: Request) -> Reply:
    entries = _entries(request, "ChangeMessageVisibilityBatch")
    return _each(entries, lambda entry: _change_message_visibility(queue, entry))


def _purge_queue(queue: StandardQueue, _request: Request) -> Reply:
    queue.purge()
    return {}


# Redriving a dead-letter queue. A task ends before its request is answered, so no client ever sees a running task.


def _start_message_move_task(request: Request) -> Reply:
    source = _queue_of_arn(request, "SourceArn")
    backend = sqs_backends[source.account_id][source.region]
    if not backend.list_dead_letter_source_queues(source.name):
        raise invalid_parameter("Source queue must be configured as a Dead Letter Queue.")
    source.move_messages(_queue_of_arn(request, "DestinationArn") if request.get("DestinationArn") else None)
    return {"TaskHandle": str(uuid.uuid4())}


def _list_message_move_tasks(request: Request) -> Reply:
    source = _queue_of_arn(request, "SourceArn")
    most = _integer(request, "MaxResults", 1, _MAX_MOVE_TASKS, 1)
    tasks = [
        {
            "SourceArn": source.queue_arn,
            "DestinationArn": task.destination_arn,
            "Status": "FAILED" if task.failure else "COMPLETED",
            "FailureReason": task.failure,
            "ApproximateNumberOfMessagesMoved": task.moved,
            "ApproximateNumberOfMessagesToMove": task.to_move,
            "StartedTimestamp": task.started_ms,
        }
        for task in list(source.move_tasks)[:most]
    ]
    return {"Results": [{name: value for name, value in task.items() if value is not None} for task in tasks]}


def _queue_of_arn(request: Request, parameter: str) -> StandardQueue:
    try:
        _, _, service, region, account, name = _string(request, parameter).split(":")
        queue = find_queue(name, account, region)
        if service == "sqs" and isinstance(queue, StandardQueue):
            return queue
    except (ValueError, KeyError, SqsError):
        pass
    text = f"The resource that you specified for the {parameter} parameter doesn't exist."
    raise SqsError("ResourceNotFoundException", text, status=404)


# Common to all operations.


def _entries(request: Request, operation: str) -> list[Request]:
    """Return the entries of a batch request. Raise SqsError if the batch as a whole is not valid."""
    entries: list[Request] = request.get("Entries") or []
    if not entries:
        text = f"There should be at least one {operation}RequestEntry in the request."
        raise SqsError("AWS.SimpleQueueService.EmptyBatchRequest", text)
    if len(entries) > MAX_REQUEST_MESSAGES:
        raise SqsError(
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {MAX_REQUEST_MESSAGES}. You have sent {len(entries)}.",
        )
    seen: set[str] = set()
    for entry in entries:
        entry_id = entry.get("Id", "")
        if not _ENTRY_ID.fullmatch(entry_id):
            raise SqsError(
                "AWS.SimpleQueueService.InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
                "It can be at most 80 letters long.",
            )
        if entry_id in seen:
            raise SqsError("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", f"Id {entry_id} repeated.")
        seen.add(entry_id)
    return entries


def _each(entries: Iterable[Request], operation: Callable[[Request], Reply]) -> Reply:
    """Do an operation for every entry of a batch, and return a reply that omits empty lists, as SQS does."""
    successful: list[Reply] = []
    failed: list[Reply] = []
    for entry in entries:
        try:
            successful.append({"Id": entry["Id"], **operation(entry)})
        except SqsError as error:
            failed.append(error.as_failed(entry["Id"]))
    return {name: items for name, items in (("Successful", successful), ("Failed", failed)) if items}


def _string(request: Request, name: str) -> str:
    if not request.get(name):
        raise missing_parameter(name)
    return str(request[name])


def _integer(request: Request, name: str, low: int, high: int, default: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise SqsError("SerializationException", f"{name} must be a whole number, but is {value!r}.")
    if not low <= value <= high:
        raise invalid_parameter(
            f"Value {value} for parameter {name} is invalid. Reason: Must be between {low} and {high}, if provided."
        )
    return value


ON_QUEUES: Final[Mapping[str, Callable[[StandardQueue, Request], Reply]]] = {
    "SendMessage": _send_message,
    "SendMessageBatch": _send_message_batch,
    "ReceiveMessage": _receive_message,
    "DeleteMessage": _delete_message,
    "DeleteMessageBatch": _delete_message_batch,
    "ChangeMessageVisibility": _change_message_visibility,
    "ChangeMessageVisibilityBatch": _change_message_visibility_batch,
    "PurgeQueue": _purge_queue,
}
"""The operations on the queue that `QueueUrl` names. An operation raises `SqsError` if SQS would refuse it."""

ON_ARNS: Final[Mapping[str, Callable[[Request], Reply]]] = {
    "StartMessageMoveTask": _start_message_move_task,
    "ListMessageMoveTasks": _list_message_move_tasks,
}
"""The operations that name their queues by ARN. An operation raises `SqsError` if SQS would refuse it."""
