"""Formats by name, by short text and by setting."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.aws.text import legal_text
from parcelq.errors import InvalidValueError
from parcelq.records import by_name, from_settings, parse
from parcelq.records.choose import MAX_TEXT

MARKERS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=16)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "csv"),
        ("folder.csv/a.TSV", "tsv"),
        ("a.csv.gz", "csv"),
        ("A.FASTA.BZ2", "fasta"),
        ("x/y.faa.xz", "fasta"),
        ("r.fq.zst", "fastq"),
        ("m.sd", "sdf"),
        ("m.mol2", 'starts="@<TRIPOS>MOLECULE"'),
        ("a.ndjson", "jsonl"),
        ("a.smi", "lines"),
        ("csv", "lines"),
        (".csv", "lines"),
        (".gz", "lines"),
        ("a.gz.csv", "csv"),
        ("", "lines"),
    ],
)
def test_the_name_of_a_file_chooses_its_format(name, text):
    assert str(by_name(name)) == text


@pytest.mark.parametrize(
    "text", ["csv", "csv header=0", "lines header=2", "lines=4", 'starts=">"', 'ends="a b" header=3']
)
def test_the_short_text_of_a_format_reads_as_the_same_format(text):
    fmt = parse(text)
    assert str(fmt) == text
    assert from_settings(text) == fmt == pickle.loads(pickle.dumps(fmt))
    assert len({fmt, parse(text)}) == 1


@given(MARKERS, st.sampled_from(["starts", "ends"]), st.integers(0, 1000))
def test_any_marker_travels_as_text_that_sqs_takes(marker, kind, header):
    fmt = from_settings({kind: marker, "header": header})
    assert parse(str(fmt)) == fmt
    assert legal_text(str(fmt).encode()) is not None
    assert len(str(fmt)) <= MAX_TEXT


def test_a_text_without_blanks_needs_no_quotes():
    assert parse("starts=@<TRIPOS>MOLECULE") == by_name("x.mol2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CSV",
        "xml",
        "csv ",
        "csv=1",
        "lines=0",
        "lines=x",
        "lines=1001",
        "csv header=",
        "csv header=1001",
        "starts=",
        'starts=""',
        'starts="a\\n"',
        'starts="\\ud800"',
        'starts="a',
        "starts",
        "lines=٣",
        "x" * 10_000,
        f'ends="{"a" * 65}"',
        "csv\n",
    ],
)
def test_a_text_that_is_no_format_is_refused(text):
    with pytest.raises(InvalidValueError, match="must be"):
        parse(text)


@pytest.mark.parametrize(
    "setting",
    [
        None,
        7,
        [],
        {},
        {"header": 1},
        {"starts": ">", "ends": "<"},
        {"starts": 1},
        {"starts": None},
        {"lines": True},
        {"lines": "4"},
        {"format": "xml"},
        {"format": ["csv"]},
        {"format": "csv", "header": -1},
        {"format": "csv", "header": "1"},
        {"stars": ">"},
        {1: 2},
    ],
)
def test_a_setting_that_is_no_format_is_refused(setting):
    with pytest.raises(InvalidValueError, match="must be"):
        from_settings(setting)


def test_the_settings_of_a_file_make_its_format():
    assert from_settings({"format": "csv", "header": 0}) == parse("csv header=0")
    assert from_settings({"lines": 4, "header": 1}) == parse("lines=4 header=1")
    assert from_settings({"lines": 1, "header": 1}) == parse("lines header=1")
