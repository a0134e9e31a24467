"""Reading sources in one pass: what is missing comes with the numbers that it has, wherever reading goes on."""

from __future__ import annotations

import gzip
import random
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcelq.errors import ParcelqError, SourceError
from parcelq.lineage.lineage import MAX_POSITION
from parcelq.local.files import FileState, LocalFile, LocalSource
from parcelq.local.reading import EVERYTHING, Range, Reading
from parcelq.records import Parcel, by_name, cut_bytes
from parcelq.upload.notes import Beginning

LINES = st.lists(st.sampled_from(["a", "bb", "", "ccc d", "é"]), max_size=8).map("\n".join)
CSV = st.lists(st.sampled_from(["1,x", '2,"y\nz"', '3,"""q"""']), max_size=6).map(
    lambda some: "id,text\n" + "\n".join(some)
)
FASTA = st.lists(st.sampled_from([">a\nAC\nGT", ">b", ">c\n\nAA"]), max_size=5).map("\n".join)
SDF = st.lists(st.sampled_from(["m1\n\n$$$$", "m2\n$$$$"]), max_size=5).map(
    lambda some: "".join(f"{one}\n" for one in some)
)
CONTENTS = st.one_of(
    *(
        st.tuples(st.just(suffix), st.lists(st.tuples(content, st.booleans(), st.booleans()), min_size=1, max_size=5))
        for suffix, content in ((".txt", LINES), (".csv", CSV), (".fasta", FASTA), (".sdf", SDF))
    )
)


def source_of(folder: Path, contents: list[bytes], suffix: str) -> LocalSource:
    """A source of files with these contents."""
    files = []
    for number, content in enumerate(contents):
        path = folder / f"{number}{suffix}"
        path.write_bytes(content)
        files.append(LocalFile(path.name, FileState.of(path)))
    return LocalSource.of_files(files, f"all{suffix}", folder)


def read(source: LocalSource, missing: list[Range] | tuple[Range, ...], size: int) -> tuple[list[Parcel], Reading]:
    """Read what is missing."""
    reading = Reading.of(source, None, missing, size)
    return list(reading.parcels()), reading


@settings(max_examples=200, deadline=None)
@given(CONTENTS, st.integers(1, 4), st.integers(0, 2**32))
def test_missing_parts_are_read_with_the_numbers_that_they_have_in_the_source(contents, size, seed) -> None:
    suffix, files = contents
    data = []
    for content, ends, is_compressed in files:
        text = content.encode() + b"\n" * (ends and content != "" and not content.endswith("\n"))
        data.append((text, gzip.compress(text) if is_compressed else text))
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder), [stored for _, stored in data], suffix)
        whole, reading = read(source, EVERYTHING, size)
        chosen = random.Random(seed)
        missing = [(one.start, one.end) for one in whole if chosen.random() < 0.5]
        if missing and missing[-1][1] == reading.end and chosen.random() < 0.5:
            missing[-1] = missing[-1][0], MAX_POSITION
        again, counted = read(source, missing, 1)
    fmt = by_name(f"x{suffix}")
    entries = {(one.start + part.start): (part.data, one) for one in whole for part in cut_bytes(one.data, fmt, 1, 1)}
    # Whatever was cut how: the same bytes at the same places, and the numbers of the source.
    assert [one.start for one in again] == [
        at for at in sorted(entries) if any(start <= at < end for start, end in missing)
    ]
    numbers = {at: number for number, at in enumerate(sorted(entries), 1)}
    header = len(reading.header)
    text = reading.header + b"".join(one.data for one in whole)
    for one in again:
        assert one.data == entries[one.start][0]
        assert one.record == numbers[one.start]
        assert one.line == 1 + text[: one.start].count(b"\n")
    assert (counted.end, counted.entries, counted.lines) == (len(text), len(entries), text.count(b"\n"))
    assert sum(entries for _, entries in counted.parts.all()) == len(entries)
    assert [one.start for one in counted.begins] == [one.start for one in reading.begins]
    assert header == 0 or counted.parts.all()[0] == (header, 0)


@settings(max_examples=100, deadline=None)
@given(CONTENTS, st.integers(1, 4))
def test_several_files_are_read_as_the_records_of_each_in_order(contents, size) -> None:
    suffix, files = contents
    fmt = by_name(f"x{suffix}")
    wanted = []
    for name, (content, _, _) in enumerate(files):
        data = content.encode()
        header = data[: fmt.header_end(data, last=True)]
        found = [part.data for part in cut_bytes(data[len(header) :], fmt, 1, 1)] if data else []
        wanted += [(f"{name}{suffix}", number, entry) for number, entry in enumerate(found, 1)]
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder), [content.encode() for content, _, _ in files], suffix)
        whole, reading = read(source, EVERYTHING, size)
    got = []
    for parcel in whole:
        for number, part in enumerate(cut_bytes(parcel.data, fmt, 1, 1)):
            at = parcel.start + part.start
            file = [one for one in reading.begins if one.start <= at][-1]
            got.append((file.name, parcel.record + number - file.record, part.data))
    assert [(file, number, entry.rstrip(b"\n")) for file, number, entry in got] == [
        (file, number, entry.rstrip(b"\n")) for file, number, entry in wanted
    ]
    assert all(one.end == other.start for one, other in pairwise(whole))


def test_many_files_of_one_record_come_in_few_parcels(tmp_path) -> None:
    source = source_of(tmp_path, [b"%d\n" % number for number in range(1000)], ".txt")
    whole, reading = read(source, EVERYTHING, 300)
    assert [one.entries for one in whole] == [300, 300, 300, 100]
    assert reading.begins[999] == Beginning("999.txt", len(whole[0].data) * 0 + whole[-1].end - 4, 999, 999)


def test_a_file_whose_last_record_is_open_does_not_run_into_the_next_file(tmp_path) -> None:
    source = source_of(tmp_path, [b"m1\n$$$$\nm2\n", b"m3\n$$$$\n"], ".sdf")
    with pytest.raises(SourceError, match=r"0\.sdf"):
        read(source, EVERYTHING, 10)


def test_files_with_different_headers_are_not_one_source(tmp_path) -> None:
    source = source_of(tmp_path, [b"a,b\n1,2\n", b"a,c\n3,4\n"], ".csv")
    with pytest.raises(SourceError, match=r"1\.csv.*its header differs from that of '0\.csv'"):
        read(source, EVERYTHING, 10)


def test_a_header_with_another_line_end_or_byte_order_mark_is_the_same(tmp_path) -> None:
    source = source_of(tmp_path, [b"", b"a,b\n1,2\n", b"\xef\xbb\xbfa,b\r\n3,4", b"a,b"], ".csv")
    whole, reading = read(source, EVERYTHING, 10)
    assert reading.header == b"a,b\n"
    assert [one.data for one in whole] == [b"1,2\n3,4\n"]
    assert [one.name for one in reading.begins] == ["0.csv", "1.csv", "2.csv", "3.csv"]


def test_a_file_that_changed_is_not_read(tmp_path) -> None:
    source = source_of(tmp_path, [b"a\n", b"b\n"], ".txt")
    (tmp_path / "1.txt").write_bytes(b"other\n")
    with pytest.raises(ParcelqError, match=r"'1\.txt' changed"):
        read(source, EVERYTHING, 10)


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path) -> None:
    source = source_of(tmp_path, [b"a\n"], ".txt")
    parcels = Reading.of(source, None, EVERYTHING, 1).parcels()
    with pytest.raises(ParcelqError, match="changed"):  # noqa: PT012 - it changes between two steps
        next(parcels)
        with (tmp_path / "0.txt").open("ab") as file:
            file.write(b"b\n")
        list(parcels)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("line", [b"line\n", b"a line that is longer than the first bytes of compressed files\n"])
@pytest.mark.parametrize(
    ("lines", "size", "sizes"),
    [(10, 1000, [3, 3, 3, 1]), (10, 2, [2] * 5), (3, 1000, [1, 1, 1]), (2, 1000, [2]), (0, 1000, [])],
)
def test_a_short_source_has_a_parcel_for_each_of_four_cpus(
    tmp_path: Path, pack: Callable[[bytes], bytes], line: bytes, lines: int, size: int, sizes: list[int]
) -> None:
    source = source_of(tmp_path, [pack(line * lines)], ".txt")
    reading = Reading.of(source, None, EVERYTHING, size, parcels=4)
    assert [one.entries for one in reading.parcels()] == sizes


def test_a_long_source_that_begins_with_a_short_compressed_member_keeps_the_size_of_parcels(tmp_path: Path) -> None:
    source = source_of(tmp_path, [gzip.compress(b"line\n" * 3) + gzip.compress(b"line\n" * 99_997)], ".txt")
    reading = Reading.of(source, None, EVERYTHING, 1000, parcels=4)
    assert {one.entries for one in reading.parcels()} == {1000}


def test_a_long_source_keeps_the_size_of_parcels(tmp_path: Path) -> None:
    source = source_of(tmp_path, [b"line\n" * 100_000], ".txt")
    reading = Reading.of(source, None, EVERYTHING, 1000, parcels=4)
    assert {one.entries for one in reading.parcels()} == {1000}
