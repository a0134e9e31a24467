"""Samples records from all parts of a file or an S3 object, without reading all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from parcelq.errors import CompressionError, ParcelqError, RecordError
from parcelq.limits import KIB, MIB
from parcelq.lineage.source import Source
from parcelq.local.files import FileState
from parcelq.readable import Readable
from parcelq.records import Format, RangeReader, by_name, cut, split_header
from parcelq.records.compression import open_source
from parcelq.store.store import OpenedPut
from parcelq.upload.puts import Puts, is_coded

COUNTED_BYTES: Final = 64 * MIB
"""The records of a source up to this size, decompressed, are counted; for a larger one their number is extrapolated."""
_TOGETHER: Final = 10
"""Records that are taken at one place, so that sources that alternate long and short records are sampled fairly."""
_READ_BYTES: Final = 64 * KIB
_LONGEST: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of the records of a source.

    Attributes:
        records: the records, in the order of the source.
        size: bytes of the whole source, decompressed; extrapolated for a large compressed one.
        stored: its bytes as they are stored.
        total: records of the whole source.
        counted: whether `total` was counted; otherwise it was extrapolated.
        format: its record format.
        header: its header.
        one_stream: whether it cannot be cut into ranges.
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
    """Take about `wanted` records from all parts of a source.

    The places are random, so that a pattern in the file does not distort the sample, but the same file always gives the
    same places. If a large source cannot be read from the middle (compressed, CSV, `lines=N`), the records come from
    its first 64 MiB.

    Args:
        file: a path, or `s3://bucket/key`.
        wanted: how many records, at least 1; all of them if the source has fewer.
        fmt: the record format; None if its name decides.

    Raises:
        ParcelqError: the source does not exist, cannot be read, does not match its format, or has no records.
        AwsError: a request to S3 failed.
    """
    puts, source = _source(str(file))
    try:
        return _sample(puts, source, str(file), wanted, fmt)
    except (RecordError, CompressionError) as error:
        raise ParcelqError(f"file {str(file)!r} cannot be sampled: {error}") from None


def _source(file: str) -> tuple[Puts, Source]:
    if not file.startswith("s3://"):
        state = FileState.of(Path(file))
        return _OneFile(state), Source.of_file(str(state.path), "0")
    from parcelq.store.bucket import BucketStore

    from parcelq_cli import clients

    bucket, _, key = file.removeprefix("s3://").partition("/")
    store = BucketStore(clients.s3(), bucket)
    found = store.stat(key) if key else None
    if found is None:
        raise ParcelqError(f"there is no object {file!r}")
    return store, Source.of_object(bucket, key, etag=found.etag.strip('"'), put="0")


@dataclass(frozen=True, slots=True)
class _OneFile:
    """Reads a file through the interface for objects of a bucket."""

    state: FileState

    def in_bucket(self, bucket: str) -> _OneFile:  # noqa: ARG002 - a file is in none
        return self

    @contextmanager
    def opened_put(
        self,
        key: str,  # noqa: ARG002
        *,
        version: str = "",  # noqa: ARG002
        etag: str = "",  # noqa: ARG002
        start: int = 0,
    ) -> Iterator[OpenedPut | None]:
        with self.state.path.open("rb", buffering=0) as file:
            file.seek(start)
            yield OpenedPut(file, self.state.size, "")


def _sample(puts: Puts, source: Source, name: str, wanted: int, fmt: Format | None) -> Sample:
    fmt = fmt or by_name(source.key)
    with puts.opened_put(source.key, etag=source.etag) as found:
        if found is None:
            raise ParcelqError(f"{name!r} was deleted or replaced just now")
        counting = _Counting(found.body)
        opened = open_source(counting, source.key, compressed=is_coded(found.encoding))
        header, rest = split_header(opened.stream, fmt)
        head = _read(rest, COUNTED_BYTES)
        more, stored = rest.read(1), found.size
    if not head:
        raise ParcelqError(f"file {name!r} has no records, so there is nothing to estimate")
    if more:  # the last record may continue after it
        head = head[: fmt.closing(head).start]
    if not head:
        raise ParcelqError(f"file {name!r} has a record of more than {COUNTED_BYTES // MIB} MiB; is it {fmt}?")
    line = 1 + header.count(b"\n")
    count = sum(one.entries for one in cut(BytesIO(head), fmt, MIB, MIB, start=len(header), line=line))
    one_stream = bool(opened.coding) or not fmt.ranges
    if not more:
        chosen = _chosen(head, fmt, count, wanted, stored)
        return Sample(chosen, len(header) + len(head), stored, count, True, fmt, header, one_stream)
    size = stored if not opened.coding else round((len(header) + len(head)) * stored / counting.count)
    if one_stream or fmt.two_phases:
        chosen = _chosen(head, fmt, count, wanted, stored)
        total = round(count * (size - len(header)) / len(head))
    else:
        chosen = tuple(_from_places(puts, source, fmt, len(header), size, wanted))
        total = round(len(chosen) * (size - len(header)) / sum(map(len, chosen)))
    return Sample(chosen, size, stored, total, False, fmt, header, one_stream)


def _chosen(data: bytes, fmt: Format, count: int, wanted: int, seed: int) -> tuple[bytes, ...]:
    """Records from equal sections of data, one from each section."""
    chance, numbers = random.Random(seed), dict.fromkeys(range(count) if count <= wanted else ())  # nosec B311
    for start in () if numbers else _places(chance, count, wanted):
        numbers |= dict.fromkeys(range(int(start), min(count, int(start) + _together(wanted))))
    return tuple(data[one.start : one.end] for one in fmt.locate(data, sorted(numbers)[:wanted]))


def _from_places(puts: Puts, source: Source, fmt: Format, origin: int, size: int, wanted: int) -> Iterator[bytes]:
    """Records from places all over a source: those that start first at or after each place."""
    end = 0
    for place in _places(random.Random(size), size, wanted):  # nosec B311 # the same for the same file
        start = max(int(place), end)
        if start >= size:
            break
        with puts.opened_put(source.key, etag=source.etag, start=max(0, start - 1)) as found:
            if found is None:
                raise ParcelqError(f"{source.name!r} was deleted or replaced just now")
            reader = RangeReader(_Small(found.body), fmt, start, size, origin=origin)
            if reader.start is None:
                continue
            parcel = next(cut(reader, fmt, _together(wanted), _LONGEST, start=reader.start))
            yield from (parcel.data[one.start : one.end] for one in fmt.locate(parcel.data, range(parcel.entries)))
            end = parcel.end


def _places(chance: random.Random, size: int, wanted: int) -> Iterator[float]:
    """One random place in each of several equal sections; their number gives the sample the wanted size."""
    places = -(-wanted // _together(wanted))
    for place in range(places):
        yield size * (place + chance.random()) / places


def _together(wanted: int) -> int:
    return max(1, min(_TOGETHER, wanted // _TOGETHER))


class _Counting:
    """Counts the bytes that are read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(size)
        self.count += len(block)
        return block


class _Small:
    """Reads a few bytes at a time, because few are needed."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, _READ_BYTES))


def _read(stream: Readable, size: int) -> bytes:
    """Read up to `size` bytes."""
    blocks, left = [], size
    while left and (block := stream.read(min(left, MIB))):
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)
