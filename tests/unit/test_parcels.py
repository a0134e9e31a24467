"""Cutting streams into parcels: whatever the bytes, limits and blocks, nothing is lost and nothing too large."""

from __future__ import annotations

import tracemalloc
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parcelq.errors import InvalidValueError
from parcelq.records import LINES, cut, cut_bytes, cutting
from parcelq.topics.message import Message
from parcelq.upload.parcels import cut_for_messages

# Entries of about one length, of very different lengths, empty ones, illegal ones; ended or not.
ENTRIES = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.integers(0, 300).map(lambda length: b"x" * length),
        st.just(b""),
        st.just(b"\x00\xff\r"),
    ),
    max_size=60,
)
DATA = st.one_of(
    st.binary(max_size=400), ENTRIES.map(b"\n".join), ENTRIES.map(lambda lines: b"".join(x + b"\n" for x in lines))
)
SIZES = st.integers(1, 70)
BYTES = st.integers(1, 400)
BLOCKS = st.integers(1, 200)


class Dribble:
    """A stream that gives fewer bytes than asked for, as sockets and decompressors do."""

    def __init__(self, data: bytes, most: int) -> None:
        self.rest = BytesIO(data)
        self.most = most

    def read(self, size: int, /) -> bytes:
        return self.rest.read(min(size, self.most))


def lines_of(data: bytes) -> list[bytes]:
    """The entries with their line ends, found in another way than the library's."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def naive(data: bytes, parcel_size: int, max_bytes: int) -> list[bytes]:
    """What cutting should give, entry by entry."""
    made: list[list[bytes]] = []
    for line in lines_of(data):
        fits = made and len(made[-1]) < parcel_size and sum(map(len, made[-1])) + len(line) <= max_bytes
        if fits:
            made[-1].append(line)
        else:
            made.append([line])
    return [b"".join(lines) for lines in made]


@settings(max_examples=400)
@given(DATA, SIZES, BYTES, BLOCKS)
@example(b"\n", 1, 1, 1)
@example(b"\na", 5, 2, 2)
@example(b"\n\n\na", 5, 2, 4)
@example(b"a\n" * 40 + b"b" * 300 + b"\n" * 40, 30, 100, 7)
def test_parcels_are_those_that_cutting_entry_by_entry_gives(data, parcel_size, max_bytes, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "BLOCK_BYTES", block)
        made = list(cut(BytesIO(data), LINES, parcel_size, max_bytes))
    assert [one.data for one in made] == naive(data, parcel_size, max_bytes)


@settings(max_examples=400)
@given(DATA, SIZES, BYTES, BLOCKS, st.integers(0, 2**60))
def test_parcels_tile_the_stream_within_their_limits_and_are_as_long_as_possible(
    data, parcel_size, max_bytes, block, start
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "BLOCK_BYTES", block)
        made = list(cut(Dribble(data, 1 + block // 3), LINES, parcel_size, max_bytes, start=start))
    assert b"".join(one.data for one in made) == data
    assert [one.start for one in made] == [start, *(one.end for one in made)][: len(made)]
    assert all(one.end - one.start == len(one.data) > 0 for one in made)
    for one in made:
        assert one.entries == len(lines_of(one.data)) == LINES.count(one.data)
        assert one.entries <= parcel_size
        assert len(one.data) <= max_bytes or one.entries == 1
    for one, following in pairwise(made):
        assert one.data.endswith(b"\n")
        added = lines_of(following.data)[0]
        assert one.entries == parcel_size or len(one.data) + len(added) > max_bytes


@settings(max_examples=400)
@given(DATA, SIZES, st.integers(4, 200), BLOCKS)
def test_parcels_for_messages_fit_as_base64_where_they_must_be(data, parcel_size, max_bytes, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "BLOCK_BYTES", block)
        made = list(cut_for_messages(BytesIO(data), LINES, parcel_size, max_bytes))
    assert b"".join(one.data for one in made) == data
    assert [one.start for one in made] == [0, *(one.end for one in made)][: len(made)]
    for one in made:
        assert one.entries == len(lines_of(one.data)) <= parcel_size
        assert len(Message(one.data).wire().text.encode()) <= max_bytes or one.entries == 1


def test_legal_parcels_for_messages_are_not_made_smaller_for_a_base64_they_do_not_need():
    assert [len(one.data) for one in cut_for_messages(BytesIO(b"abc\n" * 10), LINES, 100, 20)] == [20, 20]
    assert [len(one.data) for one in cut_for_messages(BytesIO(b"ab\0\n" * 10), LINES, 100, 20)] == [12, 8, 12, 8]


@given(DATA, SIZES, BYTES)
def test_bytes_in_memory_are_cut_in_the_same_way_as_a_stream(data, parcel_size, max_bytes):
    assert list(cut_bytes(data, LINES, parcel_size, max_bytes)) == list(
        cut(BytesIO(data), LINES, parcel_size, max_bytes)
    )


def test_an_empty_stream_is_cut_into_no_parcels():
    assert list(cut_bytes(b"", LINES, 10, 10)) == []


def test_the_last_entry_may_lack_its_line_end_and_counts():
    first, second = cut_bytes(b"a\nb\nc", LINES, 2, 100)
    assert (first.data, first.entries) == (b"a\nb\n", 2)
    assert (second.data, second.entries, second.start, second.end) == (b"c", 1, 4, 5)


def test_an_entry_larger_than_a_parcel_may_be_stands_alone():
    made = list(cut_bytes(b"a\n" + b"x" * 50 + b"\nb\n", LINES, 100, 10))
    assert [(len(one.data), one.entries) for one in made] == [(2, 1), (51, 1), (2, 1)]


def test_entries_that_suddenly_become_short_are_still_counted_right():
    data = (b"x" * 5000 + b"\n") * 20 + b"\n" * 100_000 + (b"y" * 3000 + b"\n") * 20
    made = list(cut_bytes(data, LINES, 1000, 1 << 20))
    assert b"".join(one.data for one in made) == data
    assert [one.entries for one in made] == [1000] * 100 + [40]


def test_parcels_are_cut_while_the_stream_is_still_being_read():
    class Endless:
        asked = 0

        def read(self, size: int, /) -> bytes:
            self.asked += size
            return b"abc\n" * (size // 4)

    stream = Endless()
    made = cut(stream, LINES, 10, 1000)
    assert next(made).data == b"abc\n" * 10
    assert stream.asked == cutting.BLOCK_BYTES


def test_memory_stays_flat_whatever_the_streams_length():
    class Zeros:
        left = 40 << 20

        def read(self, size: int, /) -> bytes:
            given = min(size, self.left)
            self.left -= given
            return (b"0" * 63 + b"\n") * (given // 64)

    tracemalloc.start()
    try:
        entries = sum(one.entries for one in cut(Zeros(), LINES, 1000, 1 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert entries == (40 << 20) // 64
    assert peak < 3.5 * cutting.BLOCK_BYTES


@pytest.mark.parametrize(("parcel_size", "max_bytes"), [(0, 1), (-1, 1), (1, 0), (1, -5)])
def test_limits_of_entries_and_bytes_below_one_are_refused(parcel_size, max_bytes):
    with pytest.raises(InvalidValueError, match="at least 1"):
        list(cut_bytes(b"a\n", LINES, parcel_size, max_bytes))
