"""How far a job of this machine is, by its record and by what is stored of it."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

from parcelq.local.files import FileState, LocalFile
from parcelq.local.manage import LocalJobs
from parcelq.local.state import LocalRecord, StateFolder

LINES = b"line\n" * 20


def test_the_size_of_a_job_is_that_of_its_files_unless_they_are_compressed_or_changed(tmp_path: Path) -> None:
    contents = {"plain": LINES, "gzip": gzip.compress(LINES), "bzip2": bz2.compress(LINES), "changed": LINES}
    records = []
    for number, (name, content) in enumerate(contents.items()):
        path = tmp_path / name
        path.write_bytes(content)
        file = LocalFile(name, FileState.at(path, path.stat()))
        records.append(LocalRecord(f"{number:024x}", f"file://{path}?put=1", "", name, (file,), name=name))
    StateFolder(tmp_path / "results").write(records)
    (tmp_path / "changed").write_bytes(LINES * 2)
    found = {one.record.result: one for one in LocalJobs(tmp_path / "results").all()}
    assert {name: one.total for name, one in found.items()} == {
        "plain": len(LINES),
        "gzip": None,
        "bzip2": None,
        "changed": None,
    }
    assert (found["plain"].state, found["plain"].share, found["plain"].missing) == ("stopped", 0.0, len(LINES))
    assert (found["gzip"].state, found["gzip"].share, found["gzip"].map) == ("stopped", None, "")
