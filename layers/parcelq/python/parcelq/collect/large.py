"""Large results: several invocations write the parts of one multipart upload in parallel, following a fixed plan.

A look (a scheduled check of a job) stores the plan, and publishes tasks to write the parts, again if parts are missing
after a while. A task depends only on the plan and the segments, so a part that is written twice has the same bytes. The
look that finds all parts completes the upload, if the object to replace has not changed. So any invocation may die, and
tasks may be delivered twice. A plan that no longer matches the job is deleted, and its upload is aborted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from parcelq.aws.parallel import in_flight
from parcelq.collect.assembly import SegmentReader, part_file
from parcelq.collect.plans import ASKED, PartTask, ResultPlan, Wanted, freeze, plans_among, read_plan
from parcelq.collect.segments import segments_among
from parcelq.errors import ConflictError, NotFoundError, ParcelqError
from parcelq.limits import MIB
from parcelq.store.store import Store
from parcelq.topics.topic import Topic, publish_all

if TYPE_CHECKING:
    from parcelq.store.bucket import BucketStore

_log = logging.getLogger(__name__)
LARGE: Final = 256 * MIB
"""A result with more bytes than this is written by several invocations."""
STALLED_SECONDS: Final = 60.0
"""Tasks are published again if no part was written for this many seconds."""
TASK_BYTES: Final = 128 * MIB
"""About how many bytes all parts of one task have together. An invocation gets up to ten tasks."""
HELD_BYTES: Final = 384 * MIB
PARTS_IN_FLIGHT: Final = 4
"""How many parts are written in parallel at most; fewer if these parts would have more than `HELD_BYTES` bytes."""


class LargeResults(NamedTuple):
    """Lets invocations write large results."""

    store: Store
    results: BucketStore
    tasks: Topic
    now: Callable[[], float]

    @staticmethod
    def takes(size: int) -> bool:
        """Return whether a result of `size` bytes is large."""
        return size > LARGE

    def write(self, wanted: Wanted, keys: Sequence[str]) -> bool:
        """Complete a result if all parts exist, and return whether it is complete. Otherwise store the plan, and
        publish tasks to write the missing parts, or begin the result anew with the next call.
        """
        key = wanted.plan_key(keys[0].rpartition("/")[0] + "/")
        # guard[pass]: a plan that was overtaken is dropped with its upload
        self.drop(other for other in plans_among(keys, wanted.key) if other != key)
        plan = (read_plan(self.store, key) if key in keys else None) or freeze(self.store, self.results, wanted, key)
        try:
            etags = self._all_parts(plan)
        except NotFoundError:  # another process completed or aborted the upload; the next look sees the result
            self._drop(plan)
            return False
        return etags is not None and self._complete(plan, etags)

    def is_waiting(self, key: str, keys: Sequence[str]) -> bool:
        """Return whether only parts of a result are missing: no segments are new. If parts are late, ask again."""
        plans = plans_among(keys, key)
        plan = read_plan(self.store, plans[0]) if len(plans) == 1 else None
        if plan is None or set(segments_among(plan.segments)) != set(segments_among(keys)):
            return False
        try:
            return self._all_parts(plan) is None
        except NotFoundError:
            return False

    def write_parts(self, task: PartTask, may_go_on: Callable[[], bool] = lambda: True) -> bool:
        """Write the missing parts of a task as long as `may_go_on` returns True. Return whether the task is done, which
        is also so if the task's plan was deleted.
        """
        plan = read_plan(self.store, task.plan)
        if plan is None or task.last > plan.count:
            return True
        most = max(1, min(PARTS_IN_FLIGHT, HELD_BYTES // plan.part))
        try:
            there = self._there(plan, task.first, task.last)
            left = [number for number in range(task.first, task.last + 1) if number not in there]
            numbers = takewhile(lambda _: may_go_on(), left)
            return len(list(in_flight(lambda number: self._write_part(plan, number), numbers, most))) == len(left)
        except NotFoundError as error:
            _log.info("parts %d to %d of %s are no longer needed: %s", task.first, task.last, plan.key, error)
            return True

    def drop(self, keys: Iterable[str]) -> None:
        """Delete plans and abort their uploads, given keys in a job's folder; keys of other objects are ignored."""
        for key in plans_among(list(keys)):
            if plan := read_plan(self.store, key):
                self._drop(plan)

    def _all_parts(self, plan: ResultPlan) -> list[str] | None:
        """Return the etags of all parts. If parts are missing, call `_ask` and return None. See `_there`."""
        there = self._there(plan)
        missing = [number for number in range(1, plan.count + 1) if number not in there]
        if missing:
            self._ask(plan, missing)
        return None if missing else [etag for _, etag in sorted(there.items())]

    def _there(self, plan: ResultPlan, first: int = 1, last: int | None = None) -> dict[int, str]:
        """Return a dict from number to etag of existing parts. Raises NotFoundError if the upload does not exist."""
        found = self.results.parts(plan.key, plan.upload, first, last or plan.count)
        # guard[True]: a part counts only if it has as many bytes as the plan says
        return {number: one.etag for number, one in found.items() if one.size == plan.bytes_of(number)}

    def _write_part(self, plan: ResultPlan, number: int) -> None:
        extents = plan.extents_of(self.store, number)
        reader = SegmentReader(self.store, plan.segments, len({extent.segment for extent in extents}), plan.part)
        body = part_file(reader, extents)
        if body.getbuffer().nbytes != plan.bytes_of(number):
            raise ParcelqError(f"part {number} of {plan.key!r} does not have the size that its plan says")
        self.results.put_part(plan.key, plan.upload, number, body)

    def _ask(self, plan: ResultPlan, missing: Sequence[int]) -> None:
        """Publish tasks for missing parts, unless parts are being written. Store how many parts are missing."""
        now = self.now()
        try:
            asked: Any = json.loads(self.store.read(plan.place + ASKED))
        except NotFoundError:
            asked = None
        # guard[is_stalled = asked is None]: parts that do not come are asked for again
        is_stalled = asked is None or (len(missing) >= asked["missing"] and now - asked["at"] >= STALLED_SECONDS)
        if is_stalled:
            publish_all(self.tasks, _tasks(plan, missing))
        if is_stalled or len(missing) < asked["missing"]:
            self.store.put(plan.place + ASKED, json.dumps({"at": now, "missing": len(missing)}).encode())

    def _complete(self, plan: ResultPlan, etags: Sequence[str]) -> bool:
        try:
            self.results.complete_upload(plan.key, plan.upload, etags, plan.seen)
        except (ConflictError, NotFoundError) as error:
            _log.info("%s was not completed: %s", plan.key, error)
            self._drop(plan)
            written = self.results.stat(plan.key)
            return written is not None and dict(written.metadata) == dict(plan.metadata)
        self._delete(plan)
        return True

    def _drop(self, plan: ResultPlan) -> None:
        self.results.abort_upload(plan.key, plan.upload)
        self._delete(plan)

    def _delete(self, plan: ResultPlan) -> None:
        self.store.delete([plan.extents])
        now = read_plan(self.store, plan.place)
        if now and now.upload == plan.upload:  # if the upload differs, another process began the result anew
            self.store.delete([plan.place + ASKED])
            self.store.delete([plan.place])


def _tasks(plan: ResultPlan, missing: Sequence[int]) -> Iterator[PartTask]:
    """Yield tasks to write missing parts. Existing parts in the range of a task are not written again."""
    most = max(1, TASK_BYTES // plan.part)
    for at in range(0, len(missing), most):
        yield PartTask(plan.place, missing[at], missing[min(at + most, len(missing)) - 1])
