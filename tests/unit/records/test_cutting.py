"""Whatever the bytes, limits, blocks and ranges: entries cover their source, and are those of a simple parser."""

from __future__ import annotations

import tracemalloc
from io import BytesIO
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parcelq.aws.text import legal_text
from parcelq.errors import InvalidValueError, RecordError
from parcelq.records import Format, by_name, cut, cut_bytes, cutting, fit_messages, markers, parse, places, ranges
from parcelq.topics.message import Message

from .reference import Dribble, entries_of, ranges_of

FORMATS = [
    parse(text)
    for text in (
        "lines",
        "jsonl",
        "csv",
        "tsv",
        "fasta",
        "fastq",
        "sdf",
        "lines=3",
        "lines=1",
        'starts="ab"',
        'starts="@<TRIPOS>MOLECULE"',
        'ends="//"',
        'ends="a"',
    )
]
RANGED = [fmt for fmt in FORMATS if fmt.ranges]

PIECES = {
    "csv": [b'"', b'"', b",", b"x", b"\n", b"\n", b"\r\n", b"yy"],
    "fasta": [b">", b"\n>", b"\n", b"AC", b"\r\n", b">>"],
    "fastq": [b"@", b"\n@", b"\n+", b"\n", b"AC", b"\n+\n"],
    "sdf": [b"$$$$", b"\n$$$$\n", b"\n$$$$\r\n", b"\n$$$", b"\n", b"m", b"$", b"\n$$$$x"],
    "lines": [b"\n", b"x", b"\r\n", b"\xff\x00", b"yyyyyyyy"],
}
BYTES = st.integers(1, 400)
BLOCKS = st.integers(1, 120)


def pieces_of(fmt: Format) -> list[bytes]:
    own = [getattr(fmt, "text", b""), b"\n" + getattr(fmt, "text", b"")]
    return own + PIECES.get({"tsv": "csv"}.get(fmt.name, fmt.name), PIECES["lines"])


@st.composite
def sources(draw: st.DrawFn, formats: list[Format]) -> tuple[Format, bytes]:
    """Any bytes, made mostly of what means something to the format; often of entries that repeat."""
    fmt = draw(st.sampled_from(formats))
    data = b"".join(draw(st.lists(st.sampled_from(pieces_of(fmt)) | st.binary(max_size=3), max_size=60)))
    return fmt, data * draw(st.sampled_from([1, 1, 1, 7]))


@st.composite
def good_fastq(draw: st.DrawFn) -> bytes:
    """FASTQ as sequencers write it, with qualities that look like everything else."""
    made = []
    for _ in range(draw(st.integers(1, 12))):
        size = draw(st.integers(0, 6))
        quality = bytes(draw(st.lists(st.sampled_from(b"@+I>"), min_size=size, max_size=size)))
        made.append(b"@r%s\n%s\n+%s\n%s\n" % (draw(st.sampled_from([b"", b"@", b"+"])), b"ACGTNA"[:size], b"", quality))
    return b"".join(made)


def naive_parcels(entries: list[bytes], parcel_size: int, max_bytes: int) -> list[bytes]:
    made: list[list[bytes]] = []
    for entry in entries:
        if made and len(made[-1]) < parcel_size and sum(map(len, made[-1])) + len(entry) <= max_bytes:
            made[-1].append(entry)
        else:
            made.append([entry])
    return [b"".join(part) for part in made]


@settings(max_examples=500, deadline=None)
@given(sources(FORMATS), st.integers(1, 70), BYTES, BLOCKS, st.sampled_from([1, 200]))
@example((parse("sdf"), b"$$$$\n\nm\n$$$$\n\n\n"), 1, 10, 3, 200)
@example((parse("lines=3"), b"a\nb\nc\n\n\n\n\n"), 5, 100, 2, 200)
@example((parse("csv"), b'"a\n"""\n""\n"\n"\n'), 2, 100, 1, 200)
@example((parse("fasta"), b"\n>\n>a"), 1, 1, 1, 1)
def test_parcels_are_those_that_cutting_entry_by_entry_gives(source, parcel_size, max_bytes, block, rare):
    fmt, data = source
    entries = entries_of(data, fmt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "BLOCK_BYTES", block)
        patch.setattr(markers, "_RARE", rare)
        made = list(cut(Dribble(data, 1 + block // 2), fmt, parcel_size, max_bytes, start=9, strict=False))
    assert [one.data for one in made] == naive_parcels(entries, parcel_size, max_bytes)
    assert [one.start for one in made] == [9, *(one.end for one in made)][: len(made)]
    assert b"".join(one.data for one in made) == data
    assert [one.record for one in made] == [1 + n for n in accumulate([0, *(one.entries for one in made)])][: len(made)]
    for one in made:
        assert one.entries == len(entries_of(one.data, fmt)) == fmt.count(one.data)
        assert one.line == 1 + data.count(b"\n", 0, one.start - 9)
    assert list(cut_bytes(data, fmt, parcel_size, max_bytes)) == [one._replace(start=one.start - 9) for one in made]


@settings(max_examples=300, deadline=None)
@given(sources(FORMATS), st.data())
def test_bodies_are_counted_split_and_looked_into_as_entry_by_entry(source, more):
    fmt, data = source
    entries = entries_of(data, fmt)
    assert fmt.count(data) == len(entries)
    assert list(fmt.split(data)) == entries
    numbers = sorted(more.draw(st.sets(st.integers(0, max(0, len(entries) - 1))))) if entries else []
    found = list(fmt.locate(data, numbers))
    assert [data[one.start : one.end] for one in found] == [entries[number] for number in numbers]
    assert [one.line for one in found] == [data.count(b"\n", 0, one.start) for one in found]
    starts = [one.start + 4 for one in found]
    numbered = places(BytesIO(data), fmt, starts, start=4, record=10, line=100)
    assert [(numbered[one.start + 4].record, numbered[one.start + 4].line) for one in found] == [
        (10 + one.number, 100 + one.line) for one in found
    ]


@settings(max_examples=500, deadline=None)
@given(sources([fmt for fmt in RANGED if fmt.name != "fastq"]), st.lists(st.integers(1, 60), min_size=1), BLOCKS)
@example((parse("sdf"), b"m\n$$$$junk and more\nn\n$$$$\n"), [3], 2)
@example((parse("csv"), b'a\n"\n\n\n\n\n\n",b\nc\n'), [1], 1)
def test_ranges_of_any_size_give_the_entries_of_one_stream(source, sizes, block):
    fmt, data = source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        made = ranges_of(data, fmt, sizes)
    assert [entry for _, content in made for entry in entries_of(content, fmt)] == entries_of(data, fmt)
    assert_ranges_are_placed(made, data)


@settings(max_examples=150, deadline=None)
@given(good_fastq(), st.lists(st.integers(1, 60), min_size=1), BLOCKS)
def test_ranges_of_fastq_find_its_entries_among_qualities_that_look_like_them(data, sizes, block):
    fmt = parse("fastq")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        made = ranges_of(data, fmt, sizes)
    assert [entry for _, content in made for entry in entries_of(content, fmt)] == entries_of(data, fmt)
    assert_ranges_are_placed(made, data)
    list(cut(BytesIO(data), fmt, 3, 1000))  # and it is good


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(RANGED), st.integers(1, 50), st.integers(1, 30), st.sampled_from([b"h\n", b'"h"\n', b"$$$$\n"]))
def test_ranges_begin_after_the_header_however_small_they_are(fmt, size, entries, header):
    one = {"fasta": b">a\nAC\n", "sdf": b"m\n\n$$$$\n", "fastq": b"@r\nA\n+\n@\n"}.get(fmt.name, b"")
    data = header + (one or getattr(fmt, "text", b"") + b"1\n") * entries
    made = ranges_of(data, fmt, [size], origin=len(header))
    assert b"".join(content for _, content in made) == data[len(header) :]
    assert [entry for _, content in made for entry in entries_of(content, fmt)] == entries_of(data[len(header) :], fmt)


def assert_ranges_are_placed(made, data):
    at = 0
    for reader, content in made:
        assert (reader.start is None) == (content == b"")
        if content:
            assert reader.start == at
            at += len(content)
    assert at == len(data)


@pytest.mark.parametrize("fmt", RANGED, ids=str)
def test_a_range_inside_one_long_entry_reads_no_further_than_its_own_end(fmt):
    stream = Dribble(b"x" * 10_000, 100)
    reader = ranges.RangeReader(stream, fmt, 1, 1000)
    assert (reader.start, reader.read(10)) == (None, b"")
    assert stream.rest.tell() <= 1200


def test_a_format_that_cannot_be_cut_from_the_middle_has_no_ranges():
    with pytest.raises(InvalidValueError, match="can be cut from the middle"):
        ranges.RangeReader(BytesIO(b""), parse("lines=2"), 0, 10)


@settings(max_examples=400, deadline=None)
@given(sources(FORMATS), st.integers(1, 70), st.integers(4, 200))
def test_parcels_for_messages_fit_as_base64_where_they_must_be(source, parcel_size, max_bytes):
    fmt, data = source
    parcels = cut(BytesIO(data), fmt, parcel_size, max_bytes, start=5, strict=False)
    made = list(fit_messages(parcels, fmt, max_bytes, lambda body: legal_text(body) is not None))
    assert [entry for one in made for entry in entries_of(one.data, fmt)] == entries_of(data, fmt)
    record = 1
    for one in made:
        assert (one.record, one.line) == (record, 1 + data.count(b"\n", 0, one.start - 5))
        assert one.entries <= parcel_size
        assert len(Message(one.data).wire().text.encode()) <= max_bytes or one.entries == 1 or one.data == b""
        record += one.entries


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_an_empty_source_has_no_entries_in_any_format(fmt):
    assert list(cut(BytesIO(b""), fmt, 10, 10)) == []
    assert fmt.count(b"") == 0
    assert list(fmt.split(b"")) == []


def test_entries_that_suddenly_become_short_are_still_counted_right():
    data = (b"x" * 5000 + b"\n") * 20 + b"\n" * 100_000 + (b"y" * 3000 + b"\n") * 20
    for fmt in (parse("lines"), parse("csv")):
        made = list(cut_bytes(data, fmt, 1000, 1 << 20))
        assert b"".join(one.data for one in made) == data
        assert [one.entries for one in made] == [1000] * 100 + [40]


@pytest.mark.parametrize(
    ("name", "entry"),
    [("x", b"0" * 63 + b"\n"), ("x.csv", b'"a\n""b",' + b"0" * 55 + b"\n"), ("x.fa", b">a\n" + b"A" * 60 + b"\n")],
)
def test_memory_stays_flat_whatever_the_length_of_the_stream(name, entry):
    class Endless:
        left = 16 << 20

        def read(self, size: int, /) -> bytes:
            given = min(size, self.left)
            self.left -= given
            return entry * (given // 64)

    tracemalloc.start()
    try:
        entries = sum(one.entries for one in cut(Endless(), by_name(name), 1000, 1 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert entries == (16 << 20) // len(entry)
    assert peak < 4 * cutting.BLOCK_BYTES


@pytest.mark.parametrize("text", ["csv", "sdf", "fasta", "lines", 'ends="//"'])
def test_an_entry_that_never_ends_is_refused_before_it_takes_all_memory(text, monkeypatch):
    class Endless:
        given = 0

        def read(self, size: int, /) -> bytes:
            block = b"x" * size if self.given else b'>"' + b"x" * (size - 2)
            self.given += size
            return block

    monkeypatch.setattr(cutting, "MAX_ENTRY_BYTES", 8 << 20)
    stream = Endless()
    with pytest.raises(RecordError, match=r"record 1 \(line 1; byte 0\) does not end within 8 MiB"):
        list(cut(stream, parse(text), 10, 1000))
    assert stream.given <= 20 << 20


@pytest.mark.parametrize(("parcel_size", "max_bytes"), [(0, 1), (-1, 1), (1, 0), (1, -5)])
def test_limits_of_a_parcel_below_one_are_refused(parcel_size, max_bytes):
    with pytest.raises(InvalidValueError, match="at least 1"):
        list(cut_bytes(b"a\n", parse("lines"), parcel_size, max_bytes))


@pytest.mark.parametrize("numbers", [[3], [-1], [1, 1], [2, 0]])
def test_a_cut_at_entries_that_do_not_exist_is_refused(numbers):
    with pytest.raises(InvalidValueError, match="entry is"):
        list(parse("lines").locate(b"a\nb\nc", numbers))


def test_parcels_of_one_source_follow_each_other():
    made = list(cut(BytesIO(b"a\nb\nc"), parse("lines"), 2, 100, record=8, line=20))
    assert [(one.data, one.entries, one.record, one.line) for one in made] == [(b"a\nb\n", 2, 8, 20), (b"c", 1, 10, 22)]
    assert all(one.end == other.start for one, other in pairwise(made))
