"""Classes for the messages of an emulated queue and for the deliveries of these messages."""

from __future__ import annotations

from dataclasses import dataclass

from parcelq_emulator.sqs_message import Message, SqsError


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery of a message to a consumer.

    Attributes:
        message: the message that was sent.
        receipt_handle: the text that identifies this delivery.
        sent_ms: when the message was sent, in milliseconds since 1970.
        first_received_ms: when the message was first delivered, in milliseconds since 1970.
        receive_count: how often the message was delivered, including this time.
    """

    message: Message
    receipt_handle: str
    sent_ms: int
    first_received_ms: int
    receive_count: int


@dataclass(frozen=True, slots=True)
class MoveTask:
    """A StartMessageMoveTask that has ended, with the members that ListMessageMoveTasks shows."""

    destination_arn: str | None
    started_ms: int
    moved: int
    to_move: int
    failure: str | None


@dataclass(slots=True)
class Stored:
    """A message in a queue, and the history of its deliveries."""

    message: Message
    sent_ms: int
    first_received_ms: int = 0
    received_at: float = 0.0
    receive_count: int = 0


def no_such_queue() -> SqsError:
    """Return the error for a queue that does not exist."""
    text = "The specified queue does not exist."
    return SqsError("AWS.SimpleQueueService.NonExistentQueue", text, shape="QueueDoesNotExist")
