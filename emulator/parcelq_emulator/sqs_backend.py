"""Moto's SQS, changed so that standard queues are of the class `StandardQueue`."""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar

import moto.sqs.models
import moto.sqs.urls
from parcelq.limits import DELETED_NAME_SECONDS

from parcelq_emulator.sqs_delivery import no_such_queue
from parcelq_emulator.sqs_queue import Clock, StandardQueue


class StandardQueueBackend(moto.sqs.models.SQSBackend):  # type: ignore[misc]
    """Moto's SQS of one account and region, with `StandardQueue` instead of moto's standard queues."""

    queue_class: ClassVar[type[StandardQueue]] = StandardQueue
    deleted_name_seconds: ClassVar[float] = DELETED_NAME_SECONDS

    def __init__(self, region_name: str, account_id: str, clock: Clock = time.time) -> None:
        super().__init__(region_name, account_id)
        self._clock = clock
        self._deleted: dict[str, float] = {}

    @property
    def _url_module(self) -> Any:
        return moto.sqs.urls  # moto searches for this module next to the class

    def create_queue(self, name: str, tags: dict[str, str] | None = None, **attributes: Any) -> Any:
        """Create a queue, or return the existing queue if it has the same attributes."""
        if name in self.queues or str(attributes.get("FifoQueue")).lower() == "true":
            return super().create_queue(name, tags, **attributes)
        attributes.pop("region", None)  # CloudFormation adds this attribute
        queue = self.queue_class(name, self.region_name, self.account_id, clock=self._clock, **attributes)
        queue.tags = dict(tags or {})
        return self.queues.setdefault(name, queue)  # another thread may have created the queue in the meantime

    def delete_queue(self, queue_name: str) -> None:
        """Delete a queue. Requests that wait for the queue's messages end with an error, as on AWS."""
        queue = self.get_queue(queue_name)
        super().delete_queue(queue_name)
        self._deleted[queue_name] = self._clock()
        if isinstance(queue, StandardQueue):
            queue.close()

    def was_deleted_recently(self, name: str) -> bool:
        """Return whether SQS would refuse to create a queue of this name, because such a queue was just deleted."""
        return self._clock() - self._deleted.get(name, -math.inf) < self.deleted_name_seconds


def find_queue(name: str, account_id: str, region: str) -> Any:
    """Return the queue with a name: a `StandardQueue`, or a FIFO queue of moto's.

    Raises:
        SqsError: if the queue does not exist.
    """
    backends = moto.sqs.models.sqs_backends[account_id]
    queue = backends[region].queues.get(name) if region in backends else None
    if queue is None:
        raise no_such_queue()
    return queue
