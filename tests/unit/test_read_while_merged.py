"""What is read of a job while another process merges its indexes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

import pytest
from memory_store import Objects
from parcelq.collect import runs
from parcelq.collect.segments import RUN_SUFFIX, JobKey, folder, write_segment
from parcelq.collect.status import statuses
from parcelq.errors import NotFoundError, StoreError
from parcelq.topics.pieces import Piece
from parcelq.upload.notes import note_upload
from parcelq.upload.sources import Uploaded

WHEN = datetime(2026, 11, 26, tzinfo=UTC)
JOB = JobKey("s3://bucket/inbox/a.txt?etag=e&put=1", "shout")
LINES = 20


@dataclass
class Shared(Objects):
    """A store that another process changes.

    Attributes:
        meanwhile: what that process does after a record of index runs was read.
    """

    meanwhile: Callable[[], object] | None = None

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        data = super().read(key, start, length)
        if key.endswith("/runs.json") and self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return data


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Shared:
    """A source of 20 lines; four of them were collected and merged into an index run."""
    monkeypatch.setattr(runs, "FEWEST", 4)
    monkeypatch.setattr(runs, "FEWEST_RUNS", 2)
    store = Shared()
    note_upload(
        store,
        JOB.source,
        0,
        Uploaded(LINES, LINES, 4 * LINES),
        total=4 * LINES,
        topic="in",
        output="out",
        workflow="shout@1a",
    )
    collect(store, 0)
    return store


def collect(store: Objects, first: int) -> None:
    """Write segments of four lines, and merge their indexes."""
    for at in range(4 * first, 4 * first + 16, 4):
        write_segment(store, "out", JOB, [Piece(f"{at}-{at + 4}/{4 * LINES}", b"abc\n", 1)], [], WHEN, WHEN)
    runs.tidy(store, "out", list(store.keys(folder("out", JOB.id))), WHEN)


def run_keys(store: Objects) -> list[str]:
    return [key for key in store.objects if key.endswith(RUN_SUFFIX)]


def test_status_reads_a_job_again_that_was_merged_meanwhile(store: Shared) -> None:
    before = run_keys(store)
    store.meanwhile = lambda: collect(store, 4)
    (status,) = statuses(store, "out")
    assert set(before).isdisjoint(run_keys(store))
    assert (status.resolution.covered, status.resolution.holes) == (32, ((32, 80),))
    assert status.topic == "in"


def test_status_leaves_out_a_job_that_is_merged_each_time(store: Shared, caplog: pytest.LogCaptureFixture) -> None:
    (gone,) = run_keys(store)
    store.delete([gone])
    assert list(statuses(store, "out")) == []
    assert "another process deleted it before it was read" in caplog.text


def test_what_reads_a_job_is_called_again_and_gives_up_after_a_few_tries(store: Shared) -> None:
    tries = count(1)

    def read(collected: object) -> None:
        assert collected
        next(tries)
        raise NotFoundError("a key")

    with pytest.raises(StoreError, match="try again"):
        runs.read_collected(store, "out", JOB.id, read)
    assert next(tries) == 6


def test_a_job_that_is_finished_meanwhile_has_no_messages(store: Shared) -> None:
    store.meanwhile = lambda: store.delete(list(store.keys(folder("out", JOB.id))))
    assert runs.read_collected(store, "out", JOB.id, lambda collected: collected is None)
