"""Results are brought into the folder that was asked for, whatever an object in the inbox is called."""

from __future__ import annotations

from io import BytesIO

import pytest
from botocore.response import StreamingBody
from parcelq.errors import InvalidValueError
from parcelq_emulator.results import Results


class Bucket:
    def __init__(self):
        self.keys = []

    def get_object(self, **wanted):
        self.keys.append(wanted["Key"])
        return {"Body": StreamingBody(BytesIO(b"{}"), 2)}


@pytest.fixture
def results():
    return Results(Bucket(), "b")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside", "..", "link/outside"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(results, tmp_path, name):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidValueError, match="stays in"):
        results.fetch(name, folder)
    assert results.s3.keys == []


@pytest.mark.parametrize("name", ["m.smi", "today/m.smi", "..m.smi", "a/../m.smi"])
def test_a_name_that_every_file_can_have_is_kept(results, tmp_path, name):
    path, report = results.fetch(name, tmp_path / "results")
    assert path.resolve().is_relative_to(tmp_path / "results")
    assert results.s3.keys == [f"results/{name}", f"results/{name}.report.json", f"results/{name}.report.html"]
    assert report == {}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nul\0", "without NUL"),
        ("x" * 300, "too long"),
        ("x" * 250, "too long"),  # with the report's suffix
        (".parcelq", "Parcelq's own"),
        (".parcelq/logs/x", "Parcelq's own"),
        ("folder", "folder of that name"),
        ("file/below", "file in"),
        ("file/two/below", "file in"),
        ("", "folder of that name"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused_with_the_reason_and_leaves_nothing(results, tmp_path, name, why):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidValueError, match=why):
        results.fetch(name, tmp_path)
    assert not list(tmp_path.glob(".parcelq-*"))
