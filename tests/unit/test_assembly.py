"""Putting results together: line ends between pieces, and extents read from segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcelq.collect.assembly import SegmentReader, joined, part_bodies, parts_of
from parcelq.errors import ParcelqError


@dataclass
class Memory:
    """A store in memory that counts what is read from it."""

    objects: dict[str, bytes]
    reads: list[tuple[str, int, int]] = field(default_factory=list)

    def put(self, key: str, *parts: bytes) -> None:
        self.objects[key] = b"".join(parts)

    def read(self, key: str, start: int, length: int) -> bytes:
        self.reads.append((key, start, length))
        return self.objects[key][start : start + length]

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)


def small_reader(store: Memory, keys: list[str], window: int, cache: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("parcelq.collect.assembly.SMALLEST_WINDOW", window)
    monkeypatch.setattr("parcelq.collect.assembly.LARGEST_WINDOW", window)
    monkeypatch.setattr("parcelq.collect.assembly.CACHE_BYTES", cache)
    return SegmentReader(store, keys)


class TestJoined:
    @pytest.mark.parametrize(
        ("pieces", "expected"),
        [
            ([], b""),
            ([[]], b""),
            ([[b""]], b""),
            ([[b"a"]], b"a"),
            ([[b"a\n"], [b"b\n"]], b"a\nb\n"),
            ([[b"a"], [b"b"]], b"a\nb"),
            ([[b"a"], [b""], [], [b"b\n"]], b"a\nb\n"),
            ([[b"a\n"], [b"b"]], b"a\nb"),
            ([[b"a"], []], b"a"),
            ([[b"a", b"b"], [b"c"]], b"ab\nc"),
            ([[b"a", b"", b"\n"], [b"c"]], b"a\nc"),
            ([[b"", b"a"], [b"", b"c"]], b"a\nc"),
            ([[b"a\r"], [b"b"]], b"a\r\nb"),
            ([[b"\n"], [b"\n"]], b"\n\n"),
        ],
    )
    def test_a_line_end_is_put_where_one_is_lacking_and_bytes_follow(
        self, pieces: list[list[bytes]], expected: bytes
    ) -> None:
        assert b"".join(joined(pieces)) == expected

    @settings(deadline=None)
    @given(st.lists(st.lists(st.binary(max_size=5), max_size=4), max_size=6))
    def test_however_pieces_come_in_blocks_their_lines_stay_lines(self, pieces: list[list[bytes]]) -> None:
        whole = [b"".join(piece) for piece in pieces]
        filled = [piece for piece in whole if piece]
        ended = [piece if piece.endswith(b"\n") else piece + b"\n" for piece in filled[:-1]] + filled[-1:]
        assert b"".join(joined(pieces)) == b"".join(ended)

    @settings(deadline=None)
    @given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
    def test_a_file_cut_at_line_ends_is_put_together_unchanged(self, data: bytes, places: list[int]) -> None:
        ends = sorted({0, len(data), *(data.find(b"\n", place) + 1 for place in places)})
        pieces = [[data[start:end]] for start, end in pairwise(ends)]
        assert b"".join(joined(pieces)) == data


class TestParts:
    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=40).map(lambda piece: piece.replace(b"\0", b"\n"))), st.integers(1, 20))
    def test_parts_are_what_joined_gives_wherever_one_begins(self, pieces: list[bytes], size: int) -> None:
        store = Memory({str(number): piece for number, piece in enumerate(pieces)})
        extents = [(number, 0, len(piece)) for number, piece in enumerate(pieces)]
        parts = parts_of(extents, size)
        assert len(parts) == -(-sum(map(len, pieces)) // size)
        assert [begin for begin, _ in parts[1:]] == [end for _, end in parts[:-1]]
        reader = SegmentReader(store, list(store.objects))
        bodies = list(part_bodies(reader, extents, parts))
        assert b"".join(bodies) == b"".join(joined([piece] for piece in pieces))
        assert all(size <= len(body) for body in bodies[:-1])
        assert all(len(body) <= size + len(pieces) for body in bodies)
        for done in range(len(parts) + 1):
            assert list(part_bodies(reader, extents, parts[done:])) == bodies[done:]

    @settings(deadline=None)
    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6), st.integers(1, 30))
    def test_extents_that_lie_behind_one_another_in_a_segment_are_cut_all_the_same(
        self, data: bytes, cuts: list[int], size: int
    ) -> None:
        ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        extents = [(0, start, end - start) for start, end in pairwise(ends)]
        parts = parts_of(extents, size)
        reader = SegmentReader(Memory({"a": data}), ["a"])
        expected = b"".join(joined([data[start:end]] for start, end in pairwise(ends)))
        bodies = list(part_bodies(reader, extents, parts))
        assert b"".join(bodies) == expected
        assert all(list(part_bodies(reader, extents, parts[done:])) == bodies[done:] for done in range(len(parts)))

    @pytest.mark.parametrize(
        ("lengths", "expected"),
        [
            ([], []),
            ([0, 0], []),
            ([3], [((0, 0), (1, 0))]),
            ([4], [((0, 0), (1, 0))]),
            ([9], [((0, 0), (0, 4)), ((0, 4), (0, 8)), ((0, 8), (1, 0))]),
            ([0, 4, 0, 1, 0], [((0, 0), (2, 0)), ((2, 0), (4, 0))]),
            ([3, 3], [((0, 0), (1, 1)), ((1, 1), (2, 0))]),
        ],
    )
    def test_parts_are_of_the_wanted_size_wherever_extents_end(
        self, lengths: list[int], expected: list[tuple[tuple[int, int], tuple[int, int]]]
    ) -> None:
        assert parts_of([(0, 0, length) for length in lengths], 4) == expected


class TestSegmentReader:
    @settings(deadline=None)
    @given(st.data(), st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.integers(1, 9))
    def test_any_extents_are_read_whatever_the_window(self, data: st.DataObject, segments: list[bytes], window: int):
        extents = []
        for number, segment in enumerate(segments):
            start = data.draw(st.integers(0, len(segment)))
            extents.append((number, start, data.draw(st.integers(0, len(segment) - start))))
        extents = data.draw(st.permutations(extents * 2))
        store = Memory({str(number): segment for number, segment in enumerate(segments)})
        with pytest.MonkeyPatch.context() as monkeypatch:
            reader = small_reader(store, sorted(store.objects), window, window * 2, monkeypatch)
            read = [b"".join(reader.read(extent)) for extent in extents]
        assert read == [segments[number][start : start + length] for number, start, length in extents]

    def test_an_extent_larger_than_the_window_comes_in_blocks_no_larger(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = bytes(range(100))
        reader = small_reader(Memory({"a": data}), ["a"], 10, 100, monkeypatch)
        blocks = list(reader.read((0, 5, 90)))
        assert b"".join(blocks) == data[5:95]
        assert max(map(len, blocks)) <= 10

    def test_extents_in_order_fetch_every_byte_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        segments = {"a": bytes(range(60)), "b": bytes(range(60, 120))}
        store = Memory(segments)
        reader = small_reader(store, ["a", "b"], 10, 100, monkeypatch)
        for start in range(0, 60, 3):
            for number, key in enumerate("ab"):
                assert b"".join(reader.read((number, start, 3))) == segments[key][start : start + 3]
        assert [start for key, start, _ in store.reads if key == "a"] == [0, 10, 20, 30, 40, 50]
        assert len(store.reads) == 12

    def test_no_more_windows_are_kept_than_there_is_memory_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Memory({key: bytes(20) for key in "abcd"})
        reader = small_reader(store, list("abcd"), 10, 20, monkeypatch)
        for number in (0, 1, 2, 0):
            assert b"".join(reader.read((number, 0, 5))) == bytes(5)
        assert [key for key, _, _ in store.reads] == ["a", "b", "c", "a"]

    def test_an_empty_extent_reads_nothing(self) -> None:
        store = Memory({"a": b"data"})
        assert list(SegmentReader(store, ["a"]).read((0, 2, 0))) == []
        assert store.reads == []

    def test_a_segment_that_is_too_short_is_named(self) -> None:
        with pytest.raises(ParcelqError, match="'a' ends before byte 4"):
            list(SegmentReader(Memory({"a": b"data"}), ["a"]).read((0, 2, 5)))
