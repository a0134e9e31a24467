"""Logs of what steps print."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from parcelq.local.printed import PrintLogs, place_of
from parcelq.process.plan import Work
from parcelq.topics.attributes import ENTRIES, FIRST, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled

SOURCE_TEXT = "file:///lines?put=0"


def work(start: int, body: bytes, first: str = "", source: str = SOURCE_TEXT) -> Work:
    lineage = f"{start}-{start + len(body)}/*"
    attributes = {
        SOURCE: source,
        LINEAGE: lineage,
        ENTRIES: str(body.count(b"\n")),
        **({FIRST: first} if first else {}),
    }
    message = Message(body, attributes)
    return Work.of(Pulled("id", "receipt", 1, message), message)


@pytest.mark.parametrize(
    ("works", "place"),
    [
        ([work(0, b"a\nb\n", "1,1")], "records 1 to 2, bytes 0 to 4"),
        ([work(4, b"a\n", "3,4")], "record 3, bytes 4 to 6"),
        ([work(4, b"a\n", "+3,4")], "bytes 4 to 6"),
        ([work(4, b"a\n")], "bytes 4 to 6"),
        ([work(0, b"a\n", "1,1"), work(2, b"b\nc\n", "2,2")], "records 1 to 3, bytes 0 to 6"),
    ],
)
def test_a_place_names_records_only_where_their_numbers_are_known(works: list[Work], place: str) -> None:
    assert place_of(works) == place


def test_a_log_is_bounded_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parcelq.local.printed.MAX_LOG_BYTES", 200)
    path = tmp_path / "log"
    logs = PrintLogs({SOURCE_TEXT: path})
    for _ in range(10):
        logs.add("step", [work(0, b"a\n", "1,1")], "x" * 50 + "\n")
    text = path.read_text()
    assert len(text) <= 200 + 60
    assert text.endswith("--- more was printed; this log is full\n")
    assert text.count("this log is full") == 1
    assert text.startswith("--- step step, record 1, bytes 0 to 2\nxxx")


def test_each_source_has_its_own_log_which_goes_on_after_a_stop(tmp_path: Path) -> None:
    for text in ("first\n", "second\n"):
        logs = PrintLogs({SOURCE_TEXT: tmp_path / "one", "file:///other?put=0": tmp_path / "other"})
        logs.add("step", [work(0, b"a\n")], text)
        logs.add("step", [work(0, b"a\n", source="file:///unknown?put=0")], text)
    assert (tmp_path / "one").read_text() == "--- step step, bytes 0 to 2\nfirst\n--- step step, bytes 0 to 2\nsecond\n"
    assert not (tmp_path / "other").exists()


def test_a_log_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        PrintLogs({SOURCE_TEXT: tmp_path / "file" / "log"}).add("step", [work(0, b"a\n")], "text\n")
    assert "cannot be logged" in caplog.text
