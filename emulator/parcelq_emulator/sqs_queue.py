"""An emulated standard queue that finds every message by an index.

Moto's queue scans all of its messages several times for each message that it delivers, so it delivers only four
messages a second if 5,000 messages wait. This queue handles messages; moto handles names, attributes, tags,
CloudFormation, and FIFO queues.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import moto.sqs.models
from parcelq.limits import MAX_DEADLINE_SECONDS

from parcelq_emulator.bodies import Bodies
from parcelq_emulator.keyed_heap import KeyedHeap
from parcelq_emulator.limits import MAX_IN_FLIGHT, PURGE_INTERVAL_SECONDS
from parcelq_emulator.sqs_delivery import Delivery, MoveTask, Stored, no_such_queue
from parcelq_emulator.sqs_fairness import Turns
from parcelq_emulator.sqs_message import DEAD_LETTER_SOURCE, Message, SqsError, invalid_parameter

Clock = Callable[[], float]
"""A function that returns the time in seconds since 1970."""


class StandardQueue(moto.sqs.models.Queue):  # type: ignore[misc]
    """A standard queue that delivers messages in the order of arrival, unless a message is delivered again.

    If messages have a `MessageGroupId`, this order holds within each group, and the groups take turns. Every message
    has a number, and is in exactly one of three indexes: visible (in the order of delivery), delayed, or in flight
    (both by the time when the message becomes visible).
    """

    max_in_flight = MAX_IN_FLIGHT
    bodies: ClassVar = Bodies(None)

    # One lock for all queues: a message moves between two queues in one step, so two locks would risk a deadlock.
    _lock = threading.RLock()

    def __init__(self, name: str, region: str, account_id: str, *, clock: Clock = time.time, **attributes: Any) -> None:
        super().__init__(name, region, account_id, **attributes)
        self.move_tasks: deque[MoveTask] = deque(maxlen=10)
        self._clock = clock
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._purged_at = -math.inf
        self._numbers = itertools.count()
        self._handle_prefix = uuid.uuid4().hex
        self._forget_all()

    def _forget_all(self) -> None:
        self._stored: dict[int, Stored] = {}
        self._visible = KeyedHeap()
        self._delayed = KeyedHeap()
        self._in_flight = KeyedHeap()
        self._by_age = KeyedHeap()
        self._turns = Turns()

    # The interface that moto uses.

    @property
    def approximate_number_of_messages(self) -> int:
        """How many messages can be received now."""
        with self._up_to_date():
            return len(self._visible)

    @property
    def approximate_number_of_messages_delayed(self) -> int:
        """How many messages are delayed and not visible yet."""
        with self._up_to_date():
            return len(self._delayed)

    @property
    def approximate_number_of_messages_not_visible(self) -> int:
        """How many messages are in flight: received, but not deleted, and not visible again."""
        with self._up_to_date():
            return len(self._in_flight)

    def add_message(self, message: Any) -> None:
        """Add a message that moto creates, such as an event of S3 or EventBridge."""
        self.send([self.taken(message)])

    def taken(self, message: Any) -> tuple[Message, int]:
        """Convert a message that moto created into the arguments of `send`."""
        attributes = message.message_attributes
        return Message(message.id, message.body.encode(), message.body_md5, attributes, {}), self.delay_seconds

    # SQS's operations.

    def send(self, messages: Iterable[tuple[Message, int]]) -> None:
        """Add messages to the queue; each message has its own delay in seconds."""
        kept = [(replace(one, body=self.bodies.keep(bytes(one.body))), delay) for one, delay in messages]
        with self._lock:
            now = self._clock()
            for message, delay_seconds in kept:
                self._add(Stored(message, sent_ms=int(now * 1000)), now + delay_seconds if delay_seconds else 0.0)

    def receive(self, count: int, wait_seconds: float, visibility_timeout: int) -> list[Delivery]:
        """Deliver at most `count` messages. If no message is visible, wait at most `wait_seconds` for the first
        message.

        Raises:
            SqsError: if the queue was deleted meanwhile, or if `wait_seconds` is 0 and too many messages are in flight:
                https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
        """
        with self._changed:
            until = self._clock() + wait_seconds
            while True:
                now = self._clock()
                self._update(now)
                room = self.max_in_flight - len(self._in_flight)
                if room <= 0 and wait_seconds == 0:
                    raise SqsError("OverLimit", f"{self.max_in_flight} messages are in flight.", status=403)
                deliveries = self._deliver(min(count, room), now, visibility_timeout)
                if deliveries or now >= until:
                    return deliveries
                self._changed.wait(min(until, self._next_due()) - now)
                if self._closed:
                    raise no_such_queue()

    def delete(self, receipt_handle: str) -> None:
        """Delete a message by the handle of any of its deliveries; a message that was already deleted is no error.

        Raises:
            SqsError: if the handle does not belong to this queue.
        """
        with self._lock:
            self._forget(self._number_of(receipt_handle))

    def change_visibility(self, receipt_handle: str, timeout: int) -> None:
        """Lock a message, so that no other consumer gets the message for `timeout` seconds from now.

        Raises:
            SqsError: if the handle does not belong to this queue, if its message was deleted, or if the message would
                stay locked for more than 12 hours after it was received.
        """
        with self._up_to_date() as now:
            number = self._number_of(receipt_handle)
            stored = self._stored.get(number)
            if stored is None:
                raise invalid_parameter(
                    f"Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist "
                    "or is not available for visibility timeout change."
                )
            if now + timeout - stored.received_at > MAX_DEADLINE_SECONDS:
                raise invalid_parameter(
                    f"Value {timeout} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for "
                    f"the message is beyond the limit [{MAX_DEADLINE_SECONDS} seconds]"
                )
            self._visible.discard(number)
            self._schedule(self._in_flight, number, now + timeout)

    def purge(self) -> None:
        """Delete all messages.

        Raises:
            SqsError: if the queue was purged less than 60 s ago.
        """
        with self._lock:
            now = self._clock()
            if now - self._purged_at < PURGE_INTERVAL_SECONDS:
                raise SqsError(
                    "AWS.SimpleQueueService.PurgeQueueInProgress",
                    f"Only one PurgeQueue operation on {self.name} is allowed every {PURGE_INTERVAL_SECONDS} seconds.",
                    status=403,
                )
            self._purged_at = now
            self._forget_all()

    def close(self) -> None:
        """End all polls that wait for messages, because the queue was deleted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def move_messages(self, destination: StandardQueue | None) -> None:
        """Move all visible messages to one queue, or each message back to the queue that it came from. Moved messages
        are new.

        The task ends at the first message without a known origin. The task's outcome becomes the first item of
        `move_tasks`.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/troubleshooting-dlq-redrive.html
        """
        with self._up_to_date() as now:
            to_move = len(self._visible)
            moved, failure = 0, None
            for number in itertools.islice(self._visible.take_up_to(math.inf), to_move):
                message = self._stored[number].message
                source = message.system_attributes.get(DEAD_LETTER_SOURCE)
                target = destination or (self._queue_of(source) if source else None)
                if target is None:
                    self._visible.put(number, self._place(number))
                    failure = "AWS.SimpleQueueService.NonExistentQueue" if source else "CouldNotDetermineMessageSource"
                    break
                self._forget(number)
                kept = {name: value for name, value in message.system_attributes.items() if name != DEAD_LETTER_SOURCE}
                target.send([(replace(message, id=str(uuid.uuid4()), system_attributes=kept), 0)])
                moved += 1
            arn = destination.queue_arn if destination else None
            self.move_tasks.appendleft(MoveTask(arn, int(now * 1000), moved, to_move, failure))

    # How the indexes are maintained. The caller must hold the lock.

    @contextmanager
    def _up_to_date(self) -> Iterator[float]:
        """Take the lock, update the indexes to the present time, and yield that time."""
        with self._lock:
            now = self._clock()
            self._update(now)
            yield now

    def _add(self, stored: Stored, visible_at: float = 0.0) -> None:
        number = next(self._numbers)
        self._stored[number] = stored
        self._by_age.put(number, stored.sent_ms)
        if visible_at:
            self._schedule(self._delayed, number, visible_at)
        else:
            self._visible.put(number, self._place(number))
            self._changed.notify()

    def _place(self, number: int) -> float:
        """Return the place of a message in the order of delivery, which is the order of arrival, except that groups
        take turns.
        """
        group = self._stored[number].message.system_attributes.get("MessageGroupId")
        return number if group is None else self._turns.next(group, self._visible.first_key())

    def _schedule(self, index: KeyedHeap, number: int, due: float) -> None:
        is_next = due < self._next_due()
        index.put(number, due)
        if is_next:
            self._changed.notify_all()  # all waiting polls must wait for this time now

    def _next_due(self) -> float:
        return min(self._delayed.first_key(), self._in_flight.first_key())

    def _update(self, now: float) -> None:
        for index in (self._delayed, self._in_flight):
            for number in index.take_up_to(now):
                self._visible.put(number, self._place(number))
        for number in self._by_age.take_up_to((now - self.message_retention_period) * 1000):
            self._forget(number)

    def _deliver(self, count: int, now: float, visibility_timeout: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        dead_letters, max_receive_count = self._redrive()
        for number in self._visible.take_up_to(math.inf) if count > 0 else ():
            stored = self._stored[number]
            if dead_letters is not None and stored.receive_count >= max_receive_count:
                self._forget(number)
                system = {**stored.message.system_attributes, DEAD_LETTER_SOURCE: self.queue_arn}
                # The time of sending stays the same, so the time when the message expires does not change either.
                dead_letters._add(replace(stored, message=replace(stored.message, system_attributes=system)))
                continue
            stored.received_at = now
            stored.receive_count += 1
            stored.first_received_ms = stored.first_received_ms or int(now * 1000)
            handle = f"{self._handle_prefix}-{number:x}-{stored.receive_count:x}"
            deliveries.append(
                Delivery(stored.message, handle, stored.sent_ms, stored.first_received_ms, stored.receive_count)
            )
            self._schedule(self._in_flight, number, now + visibility_timeout)
            if len(deliveries) == count:
                break
        return deliveries

    def _redrive(self) -> tuple[StandardQueue | None, int]:
        """Return the dead-letter queue, and how often a message is received before it is moved to that queue."""
        policy = self.redrive_policy or {}
        queue = self._queue_of(policy.get("deadLetterTargetArn", ""))
        return (None, 0) if queue is self else (queue, policy.get("maxReceiveCount", 0))

    def _queue_of(self, arn: str) -> StandardQueue | None:
        queue = moto.sqs.models.sqs_backends[self.account_id][self.region].queues.get(arn.rpartition(":")[2])
        return queue if isinstance(queue, StandardQueue) else None

    def _forget(self, number: int) -> None:
        self._stored.pop(number, None)
        for index in (self._visible, self._delayed, self._in_flight, self._by_age):
            index.discard(number)

    def _number_of(self, receipt_handle: str) -> int:
        prefix, _, rest = receipt_handle.partition("-")
        try:
            if prefix == self._handle_prefix:
                return int(rest.partition("-")[0], 16)
        except ValueError:
            pass
        raise SqsError(
            "ReceiptHandleIsInvalid", f'The input receipt handle "{receipt_handle}" is not a valid receipt handle.'
        )
