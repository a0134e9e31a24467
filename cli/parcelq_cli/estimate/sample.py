"""Samples records from all parts of a file or an S3 object, without reading the whole source."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from parcelq.errors import CompressionError, ParcelqError, RecordError
from parcelq.limits import KIB, MIB
from parcelq.local.files import FileState
from parcelq.readable import Readable
from parcelq.records import FirstBytes, Format, RangeReader, by_name, cut, split_header
from parcelq.records.compression import open_source
from parcelq.store.store import OpenedPut
from parcelq.upload.puts import is_coded

COUNTED_BYTES: Final = 64 * MIB
"""Up to this size (decompressed), the records of a source are counted; for a larger source, the number is extrapolated.
"""
_TOGETHER: Final = 10
"""How many records are taken at one place, so that the sample is fair even if long and short records alternate."""
_READ_BYTES: Final = 64 * KIB
_LONGEST: Final = 64 * MIB

_Open: TypeAlias = Callable[[int], AbstractContextManager[OpenedPut]]
"""A function that opens a source from a byte offset."""


class Sample(NamedTuple):
    """Some records of a source, in their order, and facts about the whole source.

    Attributes:
        size: how many bytes the source has, decompressed; extrapolated if the source is compressed and large.
        stored: how many bytes the stored source has, perhaps compressed.
        total: how many records the source has.
        counted: whether `total` was counted; otherwise `total` was extrapolated.
        one_stream: whether the source cannot be cut into ranges.
    """

    records: tuple[bytes, ...]
    size: int
    stored: int
    total: int
    counted: bool
    format: Format
    header: bytes = b""
    one_stream: bool = False


def read_sample(file: str | Path, wanted: int, fmt: Format | None = None) -> Sample:
    """Read about `wanted` records from all parts of a source, and return them as a sample.

    The places are random, so that a pattern in the file does not distort the sample. The same file always gives the
    same places. If a large source cannot be read from the middle (compressed, CSV, `lines=N`), all records come from
    the first 64 MiB. If the source has fewer records than wanted, all are taken.

    Args:
        file: the path of a file, or `s3://bucket/key`.
        fmt: the record format; None if the source's name decides.

    Raises:
        ParcelqError: if the source does not exist, cannot be read, does not match its format, or has no records.
        AwsError: if a request to S3 failed.
    """
    name = str(file)
    opened = _object(name) if name.startswith("s3://") else _file(Path(name))
    try:
        return _sample(opened, name, wanted, fmt or by_name(name))
    except (RecordError, CompressionError) as error:
        raise ParcelqError(f"file {name!r} cannot be sampled: {error}") from None


def _file(path: Path) -> _Open:
    state = FileState.of(path)

    @contextmanager
    def opened(start: int) -> Iterator[OpenedPut]:
        with state.path.open("rb", buffering=0) as file:
            file.seek(start)
            yield OpenedPut(file, state.size, "")

    return opened


def _object(name: str) -> _Open:
    from parcelq_cli import clients

    bucket, _, key = name.removeprefix("s3://").partition("/")
    store = clients.bucket(bucket)
    seen = store.stat(key) if key else None
    if seen is None:
        raise ParcelqError(f"there is no object {name!r}")

    @contextmanager
    def opened(start: int) -> Iterator[OpenedPut]:
        with store.opened_put(key, etag=seen.etag.strip('"'), start=start) as found:
            if found is None:
                raise ParcelqError(f"{name!r} was deleted or replaced just now")
            yield found

    return opened


def _sample(opened: _Open, name: str, wanted: int, fmt: Format) -> Sample:
    with opened(0) as found:
        raw = _Counted(found.body)
        source = open_source(raw, name, compressed=is_coded(found.encoding))
        header, rest = split_header(source.stream, fmt)
        head = b"".join(iter(partial(FirstBytes(rest, COUNTED_BYTES).read, MIB), b""))
        more, stored = rest.read(1), found.size
    if not head:
        raise ParcelqError(f"file {name!r} has no records, so there is nothing to estimate")
    if more:  # the last record may continue after the data
        head = head[: fmt.closing(head).start]
    if not head:
        raise ParcelqError(f"file {name!r} has a record of more than {COUNTED_BYTES // MIB} MiB; is it {fmt}?")
    line, read = 1 + header.count(b"\n"), len(header) + len(head)
    count = sum(one.entries for one in cut(BytesIO(head), fmt, MIB, MIB, start=len(header), line=line))
    one_stream = bool(source.coding) or not fmt.ranges
    size = (round(read * stored / raw.count) if source.coding else stored) if more else read
    if more and not one_stream and not fmt.two_phases:
        chosen = tuple(_from_places(opened, fmt, len(header), size, wanted))
        count, taken = len(chosen), sum(map(len, chosen))
    else:
        chosen, taken = _from_head(head, fmt, count, wanted, stored), len(head)
    total = round(count * (size - len(header)) / taken)
    return Sample(chosen, size, stored, total, not more, fmt, header, one_stream)


def _from_head(data: bytes, fmt: Format, count: int, wanted: int, seed: int) -> tuple[bytes, ...]:
    """Choose records at random places in data that has `count` records, and return these records."""
    together = _together(wanted)
    starts = range(0, count, together) if count <= wanted else _places(seed, count, wanted)
    numbers = {number for start in starts for number in range(start, min(count, start + together))}
    return tuple(data[one.start : one.end] for one in fmt.locate(data, sorted(numbers)[:wanted]))


def _from_places(opened: _Open, fmt: Format, origin: int, size: int, wanted: int) -> Iterator[bytes]:
    """Yield records from many places of a source: at each place, the next records that begin after the place."""
    end = 0
    for place in _places(size, size, wanted):
        start = max(place, end)
        if start >= size:
            break
        with opened(max(0, start - 1)) as found:
            reader = RangeReader(_Counted(found.body, _READ_BYTES), fmt, start, size, origin=origin)
            if reader.start is None:
                continue
            parcel = next(cut(reader, fmt, _together(wanted), _LONGEST, start=reader.start))
            yield from (parcel.data[one.start : one.end] for one in fmt.locate(parcel.data, range(parcel.entries)))
            end = parcel.end


def _places(seed: int, size: int, wanted: int) -> Iterator[int]:
    """Cut a source into as many equal sections as the sample needs, and yield a random place in each section."""
    chance = random.Random(seed)  # nosec B311 # the same file gives the same places
    places = -(-wanted // _together(wanted))
    for place in range(places):
        yield int(size * (place + chance.random()) / places)


def _together(wanted: int) -> int:
    return max(1, min(_TOGETHER, wanted // _TOGETHER))


class _Counted:
    """Reads at most `most` bytes at a time, and counts the bytes that were read."""

    def __init__(self, stream: Readable, most: int = MIB) -> None:
        self._stream = stream
        self._most = most
        self.count = 0

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(min(size, self._most))
        self.count += len(block)
        return block
