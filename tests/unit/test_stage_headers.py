"""The header that all outputs of a stage share."""

from __future__ import annotations

from pathlib import Path

import pytest
from parcelq.errors import NotFoundError, RecordError
from parcelq.process.headers import StageHeaders
from parcelq.records import by_name
from parcelq.steps.settings import StepSettings
from parcelq.store.folder import FolderStore


def test_of_two_runs_that_store_a_header_at_once_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, output, fmt = FolderStore(tmp_path / "store"), tmp_path / "output", by_name("a.csv")
    output.write_bytes(b"name,value\n1,2\n")
    StageHeaders(StepSettings(), "out", store=store).of(output, "source", fmt)
    read = FolderStore.read

    def too_early(_: FolderStore, key: str) -> bytes:
        monkeypatch.setattr(FolderStore, "read", read)
        raise NotFoundError(key)

    monkeypatch.setattr(FolderStore, "read", too_early)
    output.write_bytes(b"other,value\n1,2\n")
    with pytest.raises(RecordError):
        StageHeaders(StepSettings(), "out", store=store).of(output, "source", fmt)


def test_a_header_that_another_thread_evicts_meanwhile_is_still_returned(tmp_path: Path) -> None:
    class Evicted(dict[str, bytes]):
        """Loses all it has as soon as somebody has looked."""

        def __contains__(self, key: object) -> bool:
            found = super().__contains__(key)
            self.clear()
            return found

    output, fmt = tmp_path / "output", by_name("a.csv")
    output.write_bytes(b"name,value\n1,2\n")
    headers = StageHeaders(StepSettings(), "out")
    first = headers.of(output, "source", fmt)
    headers._known = Evicted(headers._known)
    assert headers.of(output, "source", fmt) == first
