"""Sources that are one stream: an upload without time for all of it hands on, and gives the same messages."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable

import pytest
from memory_store import Objects
from one_object import SOURCE, Nothing, OneObject, after
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.collect.segments import segment_keys
from parcelq.errors import MessageError, SourceError
from parcelq.records import parse
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message
from parcelq.upload.notes import EntryCounts, notes_of, notes_of_whole, upload_folder
from parcelq.upload.objects import ObjectUploader
from parcelq.upload.ranges import RangeTask, StreamTask, task_of
from parcelq.upload.sources import Rest
from record_world import ORDERS, READS


def messages_of(topic: MemoryTopic) -> list[Message]:
    return [topic.read(one) for one in topic.pull(1, 10_000, 0)]


def uploaded(uploader: ObjectUploader, may_go_on: Callable[[], Callable[[], bool]], twice: bool) -> list[Message]:
    """The messages of all invocations that it takes."""
    topic, ranges = MemoryTopic("topic"), MemoryTopic("ranges")
    uploader.upload(SOURCE, topic, ranges, may_go_on())
    while pulled := ranges.pull(1, 1, 0):
        task = task_of(pulled[0].wire.text)
        assert isinstance(task, StreamTask)
        for _ in range(1 + twice):
            uploader.upload_rest(task, topic, ranges if not twice else MemoryTopic("lost"), may_go_on())
        if twice:
            uploader.upload_rest(task, topic, ranges, may_go_on())
        ranges.acknowledge(pulled)
    return messages_of(topic)


def compressed(data: bytes, way: str) -> bytes:
    half = len(data) // 2
    return {
        "": lambda: data,
        "gz": lambda: gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "bz2": lambda: bz2.compress(data),
        "xz": lambda: lzma.compress(data),
    }[way]()


@pytest.mark.parametrize("way", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("lines=3", b"".join(b"line %d\n" % number for number in range(99))),
        ("lines header=1", b"head\n" + b"line\n" * 50 + b"\xff\x00\n" * 50 + b"no end"),
        ("csv", ORDERS),
        ("fastq", READS),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("twice", [False, True])
def test_a_stream_that_is_handed_on_gives_the_messages_of_one_that_is_not(
    way: str, text: str, data: bytes, count: int, twice: bool
) -> None:
    store, fmt = Objects(), parse(text)
    uploader = ObjectUploader(OneObject(compressed(data, way)), store, 4, format=fmt, chosen_by="stack")
    topic = MemoryTopic("whole")
    uploader.upload(SOURCE, topic)
    whole = messages_of(topic)
    store.delete(list(store.objects))
    skip = 2 * (way != "")  # reading what was uploaded before asks, too
    found = uploaded(uploader, lambda: after(count + skip), twice)
    unique = {str(one.attributes): one for one in found}
    assert sorted(map(str, unique.values())) == sorted(map(str, whole))
    notes = notes_of(store, str(SOURCE))
    assert len(notes) > 1
    assert EntryCounts(notes, len(data)).between(0, len(data)) == sum(one.entries for one in whole)
    assert {(note.format, note.chosen_by) for note in notes} == {(str(fmt), "stack")}


@pytest.mark.parametrize("count", [20, 200])
def test_no_note_of_a_try_that_handed_over_stays_if_a_later_try_uploads_the_whole(count: int) -> None:
    """S3 sends an event twice. A small upload is never handed over, and its notes are deleted without a listing."""
    store, topic, ranges = Objects(), MemoryTopic("topic"), MemoryTopic("ranges")
    uploader = ObjectUploader(OneObject(b"line\n" * count), store, 1)
    if count > 100:
        uploader.upload(SOURCE, topic, ranges, after(count // 2))
        task = task_of(ranges.pull(1, 1, 0)[0].wire.text)
        assert isinstance(task, StreamTask)
        uploader.upload_rest(task, topic, ranges, after(count))
    uploader.upload(SOURCE, topic, ranges, after(count))
    assert len(notes_of(store, str(SOURCE))) == 1 + (count > 100)
    Drainer(topic, store, receivers=1).drain(0)
    finisher = Finisher(store, "topic", bucket="bucket")
    ((_, keys),) = segment_keys(store, "topic").items()
    seen, notes = finisher.see(keys), notes_of_whole(store, str(SOURCE))
    state = finisher.finish(seen, notes=notes)
    store.calls.clear()
    finisher.delete_unneeded(seen, state, notes)
    assert store.read(state.result) == b"line\n" * count
    assert list(store.objects) == [key for key in store.objects if key.startswith("results/")]
    listings = [key for name, key in store.calls if name == "list"]
    assert listings == [upload_folder(str(SOURCE))] * (count > 100)


def test_a_compressed_source_is_refused_if_skipping_takes_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parcelq.upload.objects.BLOCK_BYTES", 10)
    store, data = Objects(), b"line\n" * 100
    uploader = ObjectUploader(OneObject(gzip.compress(data)), store, 10)
    topic, ranges = MemoryTopic("topic"), MemoryTopic("ranges")
    task = StreamTask(str(SOURCE), "topic", "lines", Rest(250, 51, 51, coded=True))
    with pytest.raises(SourceError, match="decompressing its first 250 bytes takes longer than a function may run"):
        uploader.upload_rest(task, topic, ranges, after(3))
    (note,) = notes_of(store, str(SOURCE))
    assert "put it uncompressed, or as several files" in note.problem
    assert messages_of(topic) == []


def test_an_upload_notes_that_its_object_is_gone_before_all_of_it_was_uploaded() -> None:
    store, topic = Objects(), MemoryTopic("topic")
    task = StreamTask(str(SOURCE), "topic", "lines", Rest(10, 3, 3))
    assert ObjectUploader(Nothing(b""), store, 10).upload_rest(task, topic, topic, lambda: True) is None
    (note,) = notes_of(store, str(SOURCE))
    assert note.problem == "it was deleted or replaced after it was put"


def test_a_flaw_in_what_was_handed_on_is_named_by_its_place_in_the_source() -> None:
    data = b"a,b\n" + b"1,2\n" * 20 + b'3,"x\n'
    uploader = ObjectUploader(OneObject(gzip.compress(data)), Objects(), 4, format=parse("csv"))
    with pytest.raises(SourceError, match=r"csv: record 21 \(line 22; byte 84\) has a quote that is not closed"):
        uploaded(uploader, lambda: after(4), twice=False)


TASK = StreamTask(str(SOURCE), "topic", "csv", Rest(9, 2, 3, "YQ==", coded=True))


def test_a_task_is_read_again_as_it_was_written() -> None:
    assert task_of(str(TASK)) == TASK
    ranged = RangeTask(str(SOURCE), "topic", 3, 9, 12)
    assert task_of(str(ranged)) == ranged


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"start": 9', '"start": 0'),
        ('"start": 9', '"start": "9"'),
        ('"record": 2', '"record": 1e3'),
        ('"line": 3', '"line": true'),
        ('"line": 3', '"line": 1' + 400 * "0"),
        ('"coded": true', '"coded": 1'),
        ('"format": "csv"', '"format": "cvs"'),
        ('"format": "csv"', '"format": 3'),
        ('"topic": "topic"', '"topic": null'),
        ('"header": "YQ=="', '"header": "' + 3000 * "Y" + '"'),
        ('"header": "YQ=="', '"more": ""'),
        ('"rest": {', '"rest": [], "x": {'),
        ("s3://", "ftp://"),
    ],
)
def test_a_task_of_a_stream_that_is_nonsense_is_refused(old: str, new: str) -> None:
    assert old in str(TASK)
    with pytest.raises(MessageError, match="is not a range or the rest of an object"):
        task_of(str(TASK).replace(old, new))
