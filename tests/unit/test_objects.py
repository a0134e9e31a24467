"""Objects and their ranges: every line belongs to the range that it starts in, and to no other."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parcelq.errors import MessageError
from parcelq.lineage.source import Source
from parcelq.records.line_ranges import FirstBytes, LinesOfRange
from parcelq.upload.objects import Object, RangeTask, is_gzip


class Ragged:
    """A stream that returns what it likes of what is asked for, as a network does; nothing only at its end."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.stream = BytesIO(data)
        self.sizes = sizes

    def read(self, size: int, /) -> bytes:
        self.sizes.append(self.sizes.pop(0))
        return self.stream.read(min(size, self.sizes[-1]))


def lines_of(data: bytes, start: int, end: int, block: int, sizes: list[int]) -> tuple[int | None, bytes]:
    """Where the lines of a range start, and their bytes, read in small blocks."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("parcelq.records.line_ranges.BLOCK_BYTES", block)
        lines = LinesOfRange(Ragged(data[max(0, start - 1) :], list(sizes)), start, end)
        read = b""
        while more := lines.read(block + 1):
            read += more
        assert lines.read(block) == b""
    return lines.start, read


def cut_into(data: bytes, places: list[int]) -> list[tuple[int, int]]:
    """Ranges that tile the data."""
    return list(pairwise(sorted({0, len(data), *(place % (len(data) + 1) for place in places)})))


TEXT = st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r\n", b"\x00", b"long line " * 3]), max_size=25).map(b"".join)
PLACES = st.lists(st.integers(0, 400), max_size=8)
BLOCK = st.integers(1, 20)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=4)


class TestLinesOfRange:
    @settings(deadline=None)
    @given(TEXT | st.binary(max_size=60), PLACES, BLOCK, SIZES)
    @example(b"a line longer than any range\nb\n", list(range(30)), 3, [2])
    @example(b"\n\n\n", [0, 1, 2, 3], 1, [1])
    @example(b"no line end", [3, 6], 4, [4])
    def test_every_line_is_owned_once_by_the_range_that_it_starts_in(
        self, data: bytes, places: list[int], block: int, sizes: list[int]
    ) -> None:
        starts = [0] * bool(data) + [at + 1 for at in range(len(data) - 1) if data[at : at + 1] == b"\n"]
        ends = [*starts[1:], len(data)]
        together = b""
        for start, end in cut_into(data, places):
            owned = [number for number, at in enumerate(starts) if start <= at < end]
            first, read = lines_of(data, start, end, block, sizes)
            assert first == (starts[owned[0]] if owned else None)
            assert read == (data[starts[owned[0]] : ends[owned[-1]]] if owned else b"")
            together += read
        assert together == data

    def test_a_range_within_a_line_has_none(self) -> None:
        assert lines_of(b"0123456789\nx\n", 3, 7, 4, [9]) == (None, b"")

    def test_a_line_that_starts_in_a_range_is_read_to_its_end(self) -> None:
        assert lines_of(b"ab\n0123456789\nx\n", 3, 5, 4, [9]) == (3, b"0123456789\n")

    def test_no_more_is_read_than_the_last_line(self) -> None:
        stream = BytesIO(b"ab\ncd\n" + b"x" * 100)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr("parcelq.records.line_ranges.BLOCK_BYTES", 4)
            lines = LinesOfRange(stream, 0, 4)
            assert b"".join(iter(lambda: lines.read(99), b"")) == b"ab\ncd\n"
        assert stream.tell() == 8


class TestFirstBytes:
    @settings(deadline=None)
    @given(st.binary(max_size=30), st.integers(0, 40), st.integers(1, 9))
    def test_reads_the_first_bytes_and_no_more(self, data: bytes, size: int, block: int) -> None:
        stream = BytesIO(data)
        first = FirstBytes(stream, size)
        assert b"".join(iter(lambda: first.read(block), b"")) == data[:size]
        assert stream.tell() == min(size, len(data))


def put(key: str, size: int = 1) -> Object:
    return Object(Source.of_object("bucket", key, etag="e", put="1"), size)


class TestObject:
    @pytest.mark.parametrize(
        ("key", "topic"),
        [("inbox/a.txt", "default"), ("inbox/t/a.txt", "t"), ("inbox/t/u/a.txt", "t"), ("inbox/t/", "default")],
    )
    def test_a_folder_below_the_inbox_is_the_topic(self, key: str, topic: str) -> None:
        assert put(key).topic("default") == topic

    @pytest.mark.parametrize(
        ("key", "size", "is_folder"), [("inbox/t/", 0, True), ("inbox/t/", 1, False), ("a", 0, False)]
    )
    def test_an_empty_object_with_a_folders_name_is_a_folder(self, key: str, size: int, is_folder: bool) -> None:
        assert put(key, size).is_folder == is_folder

    @pytest.mark.parametrize(
        ("key", "encoding", "expected"),
        [
            ("inbox/a.gz", "", True),
            ("inbox/a.GZ", "", True),
            ("inbox/.gz", "", True),
            ("inbox/a", "gzip", True),
            ("inbox/a", "GZIP", True),
            ("inbox/a", "aws-chunked,gzip", True),
            ("inbox/a", "aws-chunked, x-gzip", True),
            ("inbox/a", "gzipped", False),
            ("inbox/a", "aws-chunked", False),
            ("inbox/a.gzip.txt", "", False),
        ],
    )
    def test_an_object_is_compressed_by_its_name_or_its_content_encoding(
        self, key: str, encoding: str, expected: bool
    ) -> None:
        assert is_gzip(put(key).source, encoding) == expected


class TestRangeTask:
    def test_is_read_again_as_it_was_written(self) -> None:
        task = RangeTask(str(put("inbox/ä b.txt").source), "topic", 3, 9, 12)
        assert RangeTask.parse(str(task)) == task

    @pytest.mark.parametrize(
        ("changed", "value"),
        [
            ("source", "here"),
            ("source", None),
            ("topic", 1),
            ("start", "0"),
            ("start", -1),
            ("end", 3),
            ("total", 5),
            ("start", 3.0),
            ("end", 9.5),
            ("start", True),
            ("total", float("inf")),
            ("total", 10**400),
        ],
    )
    def test_nonsense_is_refused(self, changed: str, value: object) -> None:
        task = RangeTask(
            **{"source": str(put("a").source), "topic": "topic", "start": 3, "end": 9, "total": 12, changed: value}
        )  # type: ignore[arg-type]
        with pytest.raises(MessageError, match="no range of an object"):
            RangeTask.parse(str(task))

    @pytest.mark.parametrize("text", ["", "[]", "null", "7", "[" * 100_000, '{"a":' * 100_000, '{"source": NaN}'])
    def test_what_is_no_task_at_all_is_refused(self, text: str) -> None:
        with pytest.raises(MessageError, match="no range of an object"):
            RangeTask.parse(text)
