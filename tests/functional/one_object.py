"""A bucket with one object, and time that is soon over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from parcelq.lineage.source import Source
from parcelq.store.store import OpenedPut

SOURCE = Source.of_object("bucket", "inbox/file", etag="e", put="1")


@dataclass
class OneObject:
    """A bucket with one object, which is `SOURCE`."""

    data: bytes

    def in_bucket(self, bucket: str) -> OneObject:
        return self

    @contextmanager
    def opened_put(self, key: str, *, version: str = "", etag: str = "", start: int = 0) -> Iterator[OpenedPut | None]:
        yield OpenedPut(BytesIO(self.data[start:]), len(self.data), "")


class Nothing(OneObject):
    """The same when the object is gone."""

    @contextmanager
    def opened_put(self, key: str, *, version: str = "", etag: str = "", start: int = 0) -> Iterator[OpenedPut | None]:
        yield None


def after(count: int) -> Callable[[], bool]:
    """Says for a number of times that there is time."""
    left = count

    def may_go_on() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    return may_go_on
