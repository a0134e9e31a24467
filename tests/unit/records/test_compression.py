"""Compressed sources: whole, of many members, broken, cut off, wrongly named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from parcelq.errors import CompressionError
from parcelq.records.compression import Opened, is_compressed, open_source, without_suffix

from .reference import Dribble

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress}
SUFFIXES = sorted(PACK)


def read(opened: Opened, size: int = 1000) -> bytes:
    data = b""
    while block := opened.stream.read(size):
        assert len(block) <= size
        data += block
    return data


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SUFFIXES),
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.integers(1, 50),
    st.integers(1, 500),
)
def test_all_members_of_a_compressed_source_come_out_whatever_is_read_at_a_time(suffix, members, most, size):
    data = b"".join(PACK[suffix](member) for member in members)
    opened = open_source(Dribble(data, most), "folder/x.csv" + suffix)
    assert read(opened, size) == b"".join(members)
    assert opened.warnings == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_content_says_how_a_source_is_compressed_whatever_its_name(suffix):
    data = PACK[suffix](b"a\nb\n")
    for name in ("x.csv", "x.gz", ".gz"):
        assert read(open_source(Dribble(data, 3), name)) == b"a\nb\n"
    assert open_source(Dribble(data, 3), "x.csv").coding != ""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_compressed_source_that_is_cut_off_anywhere_is_refused(suffix):
    data = PACK[suffix](b"some text that is long enough" * 20)
    for size in range(len(data)):
        with pytest.raises(CompressionError, match=r"'x\.gz' .*(ends too early|empty|begins with)"):
            read(open_source(Dribble(data[:size], 1000), "x.gz"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_off_second_member_is_refused(suffix):
    data = PACK[suffix](b"first") + PACK[suffix](b"second" * 10)[:-3]
    with pytest.raises(CompressionError, match="ends too early"):
        read(open_source(Dribble(data, 7), "x" + suffix))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_a_second_member_that_is_cut_off_in_its_first_bytes_is_refused(suffix, length):
    data = PACK[suffix](b"first\n") + PACK[suffix](b"second\n")[:length]
    with pytest.raises(CompressionError, match="ends too early"):
        read(open_source(Dribble(data, 7), "x" + suffix))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_compressed_source_with_a_broken_byte_is_refused(suffix):
    data = bytearray(PACK[suffix](bytes(range(256)) * 8))
    data[len(data) // 2] ^= 0xFF
    if suffix != ".zst":  # zstd's command writes a checksum, which Python's function leaves out
        with pytest.raises(CompressionError, match="is broken"):
            read(open_source(Dribble(bytes(data), 100), "x" + suffix))
    with pytest.raises(CompressionError, match="x" + suffix):
        read(open_source(Dribble(PACK[suffix](b"")[:6] + b"\xff" * 50, 100), "x" + suffix))


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_other_bytes_after_the_data_are_ignored_with_a_warning_as_the_commands_do(suffix):
    opened = open_source(Dribble(PACK[suffix](b"a\n" * 50) + b"garbage", 9), "x" + suffix)
    assert read(opened) == b"a\n" * 50
    assert ["other bytes after" in one for one in opened.warnings] == [True]


@pytest.mark.parametrize("suffix", [".xz", ".zst"])
def test_other_bytes_after_the_data_are_refused_where_the_commands_do(suffix):
    with pytest.raises(CompressionError, match="has other bytes after"):
        read(open_source(Dribble(PACK[suffix](b"a\n") + b"garbage!!!!!", 9), "x" + suffix))


def test_zeros_after_a_compressed_member_are_padding():
    opened = open_source(Dribble(gzip.compress(b"a\n") + b"\0" * 600 + gzip.compress(b"b\n") + b"\0" * 9, 10), "x.gz")
    assert read(opened) == b"a\nb\n"
    assert opened.warnings == []


@pytest.mark.parametrize("data", [b"", b"not gzip at all", b"\x1f", b"\x1f\x8b\x07aaaaaaaaaaa"])
def test_a_source_that_only_its_name_calls_compressed_is_refused(data):
    with pytest.raises(CompressionError, match=r"'a/x\.GZ' (should be|is not) gzip"):
        open_source(Dribble(data, 10), "a/x.GZ")
    with pytest.raises(CompressionError, match="compressed"):
        open_source(Dribble(data, 10), "x", compressed=True)
    assert read(open_source(Dribble(data, 10), "x.txt")) == data


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_source_that_grows_a_thousandfold_is_read_in_little_memory(suffix):
    data = PACK[suffix](bytes(30 << 20))
    tracemalloc.start()
    try:
        opened = open_source(Dribble(data, 1 << 16), "x" + suffix)
        size = 0
        while block := opened.stream.read(1 << 16):
            size += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 30 << 20
    assert peak < 12 << 20  # xz itself takes 8 MiB


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("x.csv.gz", "x.csv"),
        ("x.CSV.GZ", "x.CSV"),
        ("a/x.zst", "a/x"),
        (".gz", ".gz"),
        ("a/.xz", "a/.xz"),
        ("x.gz.gz", "x.gz"),
        ("gz", "gz"),
        ("", ""),
    ],
)
def test_the_name_of_a_compressed_source_loses_one_suffix(name, stem):
    assert without_suffix(name) == stem
    assert is_compressed(name) == (name != stem)
