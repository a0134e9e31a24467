"""Plans of large results, and tasks for parts of large results.

    <digest of the result's key>-<digest>.plan                  the plan, in the job's folder
    <digest of the result's key>-<digest>.plan.asked            when tasks for parts were last published
    <digest of the result's key>-<digest>-<random>.extents      the places of all parts' bytes, three numbers each

The second digest covers everything that determines the result: its metadata with the state of the resolution, its size,
its parts, and the object to replace.
"""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from parcelq.checks import checked, text, whole
from parcelq.collect.assembly import Extent, extents_of_parts
from parcelq.errors import ConflictError, MessageError, NotFoundError, ParcelqError
from parcelq.limits import MAX_MULTIPART_PARTS
from parcelq.store.store import Store, joined, part_bytes

if TYPE_CHECKING:
    from parcelq.store.bucket import BucketStore

PLAN: Final = ".plan"
ASKED: Final = ".asked"
_EXTENT: Final = struct.Struct("<QQQ")
_PART: Final = whole(1, MAX_MULTIPART_PARTS)
_TASK: Final = {"plan": text, "first": _PART, "last": _PART}


class PartTask(NamedTuple):
    """A message that asks an invocation to write parts of a large result. Parts are numbered from 1."""

    plan: str
    first: int
    last: int

    @classmethod
    def parse(cls, message: str) -> PartTask | None:
        """Parse a task; return None for another kind of message. Raises MessageError if the task is invalid."""
        try:
            document = json.loads(message)
            json.dumps(document, ensure_ascii=False).encode()  # raises ValueError if a text cannot be part of a key
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or "plan" not in document:
            return None
        values, problems = checked(document, _TASK, cls._fields)
        if not problems and values["first"] > values["last"]:
            problems.append("first is greater than last")
        if problems:
            raise MessageError(f"{message[:200]!r} is not a task: {'; '.join(problems)}")
        return cls(**values)

    def __str__(self) -> str:
        return json.dumps(self._asdict(), separators=(",", ":"))


class Wanted(NamedTuple):
    """A result to write.

    Attributes:
        seen: the etag of the object that the result replaces; None if no object may exist.
        extents: the places of the result's bytes, which can be iterated only once.
    """

    key: str
    metadata: Mapping[str, str]
    seen: str | None
    size: int
    segments: Sequence[str]
    extents: Iterable[Extent]

    def plan_key(self, folder: str) -> str:
        """Return the key of the result's plan. Results with equal keys of plans have equal bytes."""
        document = [sorted(self.metadata.items()), self.seen, self.size, part_bytes(self.size)]
        return f"{_start(folder, self.key)}-{digest_of(document)}{PLAN}"


@dataclass(frozen=True, slots=True)
class ResultPlan:
    """The stored plan of a result. Attributes that are not listed here mean the same as in `Wanted`.

    Attributes:
        place: key of the object with the plan.
        part: how many bytes each part has, except the last part.
        extents: key of the object with the places of the bytes of the result.
        ends: for each part, how many extents the parts up to and including this part have.
    """

    place: str
    key: str
    metadata: Mapping[str, str]
    seen: str | None
    size: int
    part: int
    upload: str
    segments: tuple[str, ...]
    extents: str
    ends: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many parts the result has."""
        return len(self.ends)

    def bytes_of(self, number: int) -> int:
        """Return how many bytes a part has."""
        return min(self.part, self.size - (number - 1) * self.part)

    def extents_of(self, store: Store, number: int) -> list[Extent]:
        """Read the places of a part's bytes. Raises NotFoundError if the plan was deleted."""
        before = self.ends[number - 2] if number > 1 else 0
        size = (self.ends[number - 1] - before) * _EXTENT.size
        return [Extent(*one) for one in _EXTENT.iter_unpack(store.read(self.extents, before * _EXTENT.size, size))]


def read_plan(store: Store, key: str) -> ResultPlan | None:
    """Return a plan; None if the plan does not exist. Raises ParcelqError if the object is not a plan."""
    try:
        document: Any = json.loads(store.read(key))
        return ResultPlan(**{**document, "segments": tuple(document["segments"]), "ends": tuple(document["ends"])})
    except NotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ParcelqError(f"{key!r} is not a plan: {error}") from None


def freeze(store: Store, results: BucketStore, wanted: Wanted, key: str) -> ResultPlan:
    """Write the plan of a result, or return the plan that another process wrote first. Raises NotFoundError if that
    plan was deleted before it was read.
    """
    size = part_bytes(wanted.size)
    ends = array("Q")
    extents = f"{key.removesuffix(PLAN)}-{uuid.uuid4().hex[:12]}.extents"
    store.write(extents, joined(_packed(wanted, size, ends), part_bytes(0)), {}, None)
    upload = results.begin_upload(wanted.key, wanted.metadata)
    about = wanted.key, dict(wanted.metadata), wanted.seen, wanted.size, size, upload, tuple(wanted.segments)
    plan = ResultPlan(key, *about, extents, tuple(ends))
    try:
        # guard[store.put(key, json.dumps(asdict(plan)).encode())]: of several plans for one result, one counts
        store.put(key, json.dumps(asdict(plan)).encode(), if_absent=True)
    except ConflictError:
        results.abort_upload(plan.key, upload)
        store.delete([extents])
        other = read_plan(store, key)
        if other is None:
            raise NotFoundError(key, "the plan was deleted just now") from None
        return other
    return plan


def digest_of(values: Iterable[Any]) -> str:
    """Return a digest of the `repr` of values, in hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=12)
    for value in values:
        hasher.update(repr(value).encode())
    return hasher.hexdigest()


def plans_among(keys: Sequence[str], result: str = "") -> list[str]:
    """Return only the keys of plans, given the keys of a job: plans of one result, or by default of all results."""
    start = _start(keys[0].rpartition("/")[0] + "/", result) if keys and result else ""
    return [key for key in keys if key.startswith(start) and key.endswith(PLAN)]


def _start(folder: str, result: str) -> str:
    return folder + digest_of([result])


def _packed(wanted: Wanted, size: int, ends: array[int]) -> Iterator[bytes]:
    """Yield the extents of each part as bytes, and append the number of extents so far to `ends`."""
    count = found = 0
    for extents in extents_of_parts(wanted.extents, size):
        count, found = count + len(extents), found + sum(extent.size for extent in extents)
        ends.append(count)
        yield b"".join(_EXTENT.pack(*extent) for extent in extents)
    if found != wanted.size:
        raise ParcelqError(f"{wanted.key!r} would have {found} bytes, but should have {wanted.size}")
