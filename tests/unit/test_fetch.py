"""Results are brought into the folder that was asked for, whatever an object in the inbox is called."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from parcelq.errors import InvalidValueError
from parcelq_emulator.pipeline import Pipeline


class Bucket:
    def __init__(self):
        self.paths = []

    def download_file(self, _bucket, _key, path):
        self.paths.append(path)
        with open(path, "wb") as file:
            file.write(b"{}")


@pytest.fixture
def pipeline():
    return SimpleNamespace(s3=Bucket(), stack=SimpleNamespace(bucket="b"))


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside", "..", "link/outside"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(pipeline, tmp_path, name):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidValueError, match="stays in"):
        Pipeline.fetch(pipeline, name, folder)
    assert pipeline.s3.paths == []


@pytest.mark.parametrize("name", ["m.smi", "today/m.smi", "..m.smi", "a/../m.smi"])
def test_any_other_name_stays(pipeline, tmp_path, name):
    path, report = Pipeline.fetch(pipeline, name, tmp_path / "results")
    assert path.resolve().is_relative_to(tmp_path / "results")
    assert pipeline.s3.paths == [str(path), f"{path}.report.json"]
    assert report == {}
