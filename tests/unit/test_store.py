"""Stores: parts that are put as one object without being joined."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.store.joined import JoinedParts


class TestStream:
    @given(st.lists(st.binary(max_size=9)), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30))))
    def test_a_stream_of_parts_reads_as_the_joined_parts_do(
        self, parts: list[bytes], reads: list[tuple[int, int]]
    ) -> None:
        stream, file = JoinedParts(parts), io.BytesIO(b"".join(parts))
        for place, length in reads:
            assert stream.seek(place) == file.seek(place)
            assert [stream.read(length), stream.read(length)] == [file.read(length), file.read(length)]
            assert min(stream.tell(), place + 2 * length) == stream.tell() == file.tell()
        assert stream.seek(0, io.SEEK_END) == file.seek(0, io.SEEK_END)
        stream.seek(0)
        assert stream.readall() == file.getvalue()

    def test_a_stream_of_parts_gives_as_many_bytes_as_asked_for_until_its_end(self) -> None:
        stream = JoinedParts([b"a" * 10, b"", b"b", b"c" * 9])
        assert [stream.read(8), stream.read(8), stream.read(8)] == [b"a" * 8, b"aab" + b"c" * 5, b"c" * 4]

    @pytest.mark.parametrize(("offset", "whence", "place"), [(2, 0, 2), (1, 1, 4), (-1, 1, 2), (-2, 2, 3)])
    def test_a_stream_of_parts_goes_to_a_place_in_all_three_ways(self, offset: int, whence: int, place: int) -> None:
        stream = JoinedParts([b"ab", b"cde"])
        stream.read(3)
        assert stream.seek(offset, whence) == place
        assert stream.read() == b"abcde"[place:]
