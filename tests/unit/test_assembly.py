"""Assembling results: parts, and extents read from segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcelq.collect.assembly import Extent, SegmentReader, parts_of
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


class TestParts:
    @settings(deadline=None)
    @given(st.data(), st.lists(st.binary(max_size=40)), st.integers(1, 20))
    def test_parts_of_one_size_are_the_bytes_of_the_extents(
        self, data: st.DataObject, segments: list[bytes], size: int
    ) -> None:
        store = Memory({str(number): segment for number, segment in enumerate(segments)})
        extents = []
        for number, segment in enumerate(segments):
            start = data.draw(st.integers(0, len(segment)))
            extents.append(Extent(number, start, data.draw(st.integers(0, len(segment) - start))))
        expected = b"".join(segments[number][start : start + length] for number, start, length in extents)
        reader = SegmentReader(store, list(store.objects))
        parts = list(parts_of(reader, extents, size))
        assert b"".join(parts) == expected
        assert all(len(part) == size for part in parts[:-1])


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

    def test_an_extent_without_bytes_reads_nothing(self) -> None:
        store = Memory({"a": b"data"})
        assert list(SegmentReader(store, ["a"]).read((0, 2, 0))) == []
        assert store.reads == []

    def test_a_segment_that_is_too_short_is_named(self) -> None:
        with pytest.raises(ParcelqError, match="'a' ends before byte 4"):
            list(SegmentReader(Memory({"a": b"data"}), ["a"]).read((0, 2, 5)))


class TestReadingAhead:
    @settings(deadline=None)
    @given(st.data(), st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.integers(1, 9))
    def test_the_same_bytes_come_however_many_windows_are_fetched_together(
        self, data: st.DataObject, segments: list[bytes], window: int
    ) -> None:
        extents = []
        for number, segment in enumerate(segments):
            start = data.draw(st.integers(0, len(segment)))
            extents.append(Extent(number, start, data.draw(st.integers(0, len(segment) - start))))
        extents = data.draw(st.permutations(extents * 2))
        store = Memory({str(number): segment for number, segment in enumerate(segments)})
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr("parcelq.collect.assembly.SMALLEST_WINDOW", window)
            monkeypatch.setattr("parcelq.collect.assembly.CACHE_BYTES", window * data.draw(st.integers(1, 4)))
            reader = SegmentReader(store, sorted(store.objects), most=4 * window)
            halves = extents[: len(extents) // 2], extents[len(extents) // 2 :]
            read = b"".join(bytes(block) for half in halves for block in reader.read_all(half))
        assert read == b"".join(segments[number][start : start + size] for number, start, size in extents)

    def test_windows_of_a_part_are_fetched_side_by_side(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each read waits until four are under way, so that one after another would never end."""
        together = Barrier(4)

        class Waiting(Memory):
            def read(self, key: str, start: int, length: int) -> bytes:
                together.wait(60)
                return super().read(key, start, length)

        monkeypatch.setattr("parcelq.collect.assembly.SMALLEST_WINDOW", 10)
        monkeypatch.setattr("parcelq.collect.assembly.CACHE_BYTES", 40)
        store = Waiting({key: key.encode() * 20 for key in "abcd"})
        reader = SegmentReader(store, list("abcd"), most=40)
        assert b"".join(reader.read_all([Extent(number, 0, 5) for number in range(4)])) == b"aaaaabbbbbcccccddddd"
        assert sorted(key for key, _, _ in store.reads) == list("abcd")
