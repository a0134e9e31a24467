"""The header that all outputs of a stage share."""

from __future__ import annotations

from pathlib import Path

import pytest
from parcelq.errors import RecordError
from parcelq.process.headers import StageHeaders
from parcelq.records import by_name
from parcelq.steps.settings import StepSettings
from parcelq.store.folder import FolderStore


class Late(StageHeaders):
    """Does not see what others stored until it stores something itself."""

    def _stored(self, key: str) -> bytes | None:
        return None


def test_of_two_runs_that_store_a_header_at_once_the_first_counts(tmp_path: Path) -> None:
    store, output, fmt = FolderStore(tmp_path / "store"), tmp_path / "output", by_name("a.csv")
    output.write_bytes(b"name,value\n1,2\n")
    StageHeaders(StepSettings(), "out", store=store).of(output, "source", fmt)
    output.write_bytes(b"other,value\n1,2\n")
    with pytest.raises(RecordError):
        Late(StepSettings(), "out", store=store).of(output, "source", fmt)
