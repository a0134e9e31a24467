"""The header that all outputs of a stage share."""

from __future__ import annotations

from pathlib import Path

from parcelq.process.headers import StageHeaders
from parcelq.records import by_name
from parcelq.steps.settings import StepSettings
from parcelq.store.folder import FolderStore


class Late(StageHeaders):
    """Does not see what others stored until it stores something itself."""

    def _stored(self, key: str) -> bytes | None:
        return None


def test_of_two_runs_that_store_a_header_at_once_both_go_by_the_first(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    output = tmp_path / "output"
    output.write_bytes(b"name,value\n1,2\n")
    written = [
        kind(StepSettings(), "out", store=store).of(output, "source", by_name("a.csv")) for kind in (StageHeaders, Late)
    ]
    assert written[0] == written[1]
