"""Objects, and the tasks for their ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.errors import MessageError
from parcelq.lineage.source import Source
from parcelq.store.folder import FolderStore
from parcelq.upload.puts import Object, is_coded
from parcelq.upload.ranges import RangeTask, note_scan, task_of, tasks_after_scan, tasks_for


def put(key: str, size: int = 1) -> Object:
    return Object(Source.of_object("bucket", key, etag="e", put="1"), size)


class TestObject:
    @pytest.mark.parametrize(
        ("key", "topic"),
        [("inbox/a.txt", "default"), ("inbox/t/a.txt", "t"), ("inbox/t/u/a.txt", "t"), ("inbox/t/", "default")],
    )
    def test_a_folder_below_the_inbox_is_the_topic(self, key: str, topic: str) -> None:
        assert put(key).topic("default") == topic

    @pytest.mark.parametrize(
        ("key", "size", "is_folder"), [("inbox/t/", 0, True), ("inbox/t/", 1, False), ("a", 0, False)]
    )
    def test_an_empty_object_with_a_folders_name_is_a_folder(self, key: str, size: int, is_folder: bool) -> None:
        assert put(key, size).is_folder == is_folder

    @pytest.mark.parametrize(
        ("encoding", "expected"),
        [
            ("", False),
            ("gzip", True),
            ("GZIP", True),
            ("zstd", True),
            ("aws-chunked,gzip", True),
            ("aws-chunked, x-gzip", True),
            ("gzipped", False),
            ("aws-chunked", False),
        ],
    )
    def test_an_object_is_compressed_if_its_content_encoding_says_so(self, encoding: str, expected: bool) -> None:
        assert is_coded(encoding) == expected


class TestRangeTask:
    def test_the_task_of_a_range_reads_as_it_was_written(self) -> None:
        task = RangeTask(str(put("inbox/ä b.txt").source), "topic", 3, 9, 12)
        assert task_of(str(task)) == task

    @pytest.mark.parametrize(
        ("changed", "value"),
        [
            ("source", "here"),
            ("source", None),
            ("topic", 1),
            ("start", "0"),
            ("start", -1),
            ("end", 3),
            ("total", 5),
            ("start", 3.0),
            ("end", 9.5),
            ("start", True),
            ("total", float("inf")),
            ("total", 10**400),
            ("format", "cvs"),
            ("format", 7),
            ("format", "lines=4"),
            ("header", None),
            ("header", "x" * 3000),
            ("origin", 13),
            ("line", 0),
            ("scan", 3),
            ("scan", -3),
            ("inside", 1),
        ],
    )
    def test_the_task_of_a_range_with_nonsense_is_refused(self, changed: str, value: object) -> None:
        task = RangeTask(
            **{"source": str(put("a").source), "topic": "topic", "start": 3, "end": 9, "total": 12, changed: value}
        )  # type: ignore[arg-type]
        with pytest.raises(MessageError, match="not a range or the rest of an object"):
            task_of(str(task))

    @pytest.mark.parametrize("text", ["", "[]", "null", "7", "[" * 100_000, '{"a":' * 100_000, '{"source": NaN}'])
    def test_a_text_that_is_no_task_of_a_range_is_refused(self, text: str) -> None:
        with pytest.raises(MessageError, match="not a range or the rest of an object"):
            task_of(text)


class TestScans:
    @given(st.data())
    def test_of_scans_in_any_order_one_publishes_all_ranges_with_the_parity_before_each(self, tmp_path_factory, data):
        flips = data.draw(st.lists(st.booleans(), min_size=1, max_size=6))
        order = data.draw(st.permutations(range(len(flips))))
        store = FolderStore(tmp_path_factory.mktemp("store"))
        total = 10 * len(flips) - 3
        whole = RangeTask(str(put("inbox/a.csv").source), "topic", 0, total, total, "csv", "YQ==", 2, 2)
        scans = list(tasks_for(whole, 10))
        published = []
        for number in order:
            assert published == []
            note_scan(store, scans[number], flips=flips[number])
            published += tasks_after_scan(store, scans[number])
        assert [(task.start, task.end) for task in published] == [(task.start, task.end) for task in scans]
        assert [task.inside for task in published] == [sum(flips[:number]) % 2 == 1 for number in range(len(flips))]
        assert {task._replace(start=0, end=total, inside=False) for task in published} == {whole}
        # The publishing scan may have died before its tasks were published; any other must not publish them again.
        again = [len(tasks_after_scan(store, scan)) for scan in scans]
        assert sorted(again) == [0] * (len(flips) - 1) + [len(flips)]
        assert again[order[-1]] == len(flips)

    def test_a_format_whose_records_can_be_found_from_the_middle_is_not_scanned(self) -> None:
        whole = RangeTask(str(put("inbox/a.sdf").source), "topic", 0, 25, 25, "sdf")
        assert [(task.start, task.end, task.scan) for task in tasks_for(whole, 10)] == [
            (0, 10, 0),
            (10, 20, 0),
            (20, 25, 0),
        ]
