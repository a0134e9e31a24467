"""What tests of workflows on a stack have in common: workflows that are put, and the disk of the function."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from function_world import BUCKET, Stack
from parcelq.jobs.assembled import from_folder
from parcelq.jobs.version import Version, version_of
from parcelq.jobs.versions import Versions, bundle_key
from parcelq.steps.bundles import write_bundle
from parcelq.store.bucket import BucketStore


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The function's disk."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def versions(stack: Stack) -> Versions:
    return Versions(BucketStore(stack.s3, BUCKET))


@pytest.fixture
def put(versions: Versions, tmp_path: Path, temporary: Path) -> Callable[..., Version]:
    """Puts a workflow of these files, and lets new jobs get it."""

    def put_(name: str, text: str, **files: str) -> Version:
        folder = tmp_path / f"{name}-{os.urandom(4).hex()}"
        folder.mkdir()
        (folder / "workflow.yaml").write_text(text)
        for file, content in files.items():
            path = folder / file.replace("__", ".")
            path.write_text(content)
            path.chmod(0o755)
        assembled = from_folder(folder, name)
        archive = tmp_path / "code.zip"
        version = version_of(name, assembled.workflow, write_bundle(assembled.files, archive), [None] * 8, "")
        version = version_of(name, assembled.workflow, version.code, [None] * len(assembled.workflow.steps), "")
        versions.store.put(bundle_key(version.code), archive.read_bytes())
        versions.put(version)
        versions.make_current(version)
        return version

    return put_
