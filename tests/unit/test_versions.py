"""Versions of workflows in a store: named by what they run, kept by jobs, and refused where they are damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from parcelq.errors import WorkflowError
from parcelq.jobs.version import Version, version_of
from parcelq.jobs.versions import Versions, bundle_key
from parcelq.jobs.workflow import Workflow, WorkflowStep
from parcelq.names import VERSIONS
from parcelq.steps.bundles import Bundle
from parcelq.store.folder import FolderStore

SOURCE = "s3://bucket/inbox/score/a.smi?etag=0a&put=01"
CURRENT = "workflows/score/current.json"


def bundle_of(data: bytes) -> Bundle:
    return Bundle(hashlib.sha256(data).hexdigest(), len(data), len(data), 0, 1)


CODE, PACKAGES = b"code", b"packages"


def version(name: str = "score", code: bytes = CODE, lock: str = "six==1", **changes: object) -> Version:
    workflow = Workflow((WorkflowStep("score.py"), WorkflowStep("cat")))._replace(**changes)
    return version_of(name, workflow, bundle_of(code), [(bundle_of(PACKAGES), lock), None], "3.13")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def versions(store: FolderStore) -> Versions:
    return Versions(store)


@pytest.fixture
def put(versions, store):
    def put_(one: Version, code: bytes = CODE) -> Version:
        for data in (code, PACKAGES):
            store.put(bundle_key(bundle_of(data)), data)
        versions.put(one)
        versions.make_current(one)
        return one

    return put_


def test_a_version_changes_with_everything_that_decides_what_runs():
    one = version()
    others = [version(code=b"other"), version(lock="six==2"), version(batch_size=3), version(parcel_size=3)]
    assert len({one.id, *(other.id for other in others)}) == 5
    assert version().id == one.id
    assert version("other").id == one.id, "the name alone does not decide what runs"


def test_a_version_is_read_as_it_was_put(put, versions):
    one = put(version())
    assert versions.read(one.attribute) == one
    assert versions.current("score") == one.id


def test_a_version_lacks_its_bundles_until_they_are_stored(versions, store):
    one = version()
    assert versions.lacks(one) == list(one.bundles)
    store.put(bundle_key(one.code), CODE)
    assert versions.lacks(one) == [bundle_of(PACKAGES)]
    store.put(bundle_key(bundle_of(PACKAGES)), PACKAGES[:-1])
    assert versions.lacks(one) == [bundle_of(PACKAGES)], "one of another size is not it"
    with pytest.raises(WorkflowError, match="its files were deleted"):
        versions.put(one)


def test_two_that_put_a_version_at_once_do_not_overwrite_each_other(put, versions, store, monkeypatch):
    put(version())
    mine, theirs = version(code=b"mine"), version(code=b"theirs")
    stat = FolderStore.stat

    def seen_before_theirs(self, key):
        found = stat(self, key)
        monkeypatch.undo()
        put(theirs, b"theirs")
        return found

    monkeypatch.setattr(FolderStore, "stat", seen_before_theirs)
    with pytest.raises(WorkflowError, match="another process put it at the same time"):
        versions.make_current(mine)
    assert versions.current("score") == theirs.id


def test_a_job_keeps_the_version_that_it_began_with(put, versions, store):
    first = put(version())
    assert versions.of_job(SOURCE, "score") == first.attribute
    second = put(version(code=b"new"), b"new")
    assert versions.of_job(SOURCE, "score") == first.attribute
    assert versions.of_job(SOURCE.replace("put=01", "put=02"), "score") == second.attribute
    versions.delete("score")
    assert versions.of_job(SOURCE, "score") == first.attribute


def test_two_deliveries_at_once_get_one_version(put, versions, monkeypatch):
    first, second = put(version()), version(code=b"new")
    current = Versions.current

    def changed_meanwhile(self, name):
        found = current(self, name)
        monkeypatch.undo()
        put(second, b"new")
        assert self.of_job(SOURCE, name) == second.attribute
        return found

    monkeypatch.setattr(Versions, "current", changed_meanwhile)
    assert versions.of_job(SOURCE, "score") == second.attribute
    assert first != second


def test_a_folder_of_the_inbox_may_name_the_version(put, versions, store):
    first = put(version())
    put(version(code=b"new"), b"new")
    assert versions.of_job(SOURCE, first.attribute) == first.attribute
    assert list(store.keys(VERSIONS)) == []
    with pytest.raises(WorkflowError, match="this version was deleted"):
        versions.of_job(SOURCE, "score@0123456789abcdef")


@pytest.mark.parametrize("name", ["nothing", "A", "a b", "..", "score@", "score@xyz", "@0123456789abcdef", ""])
def test_an_object_that_is_no_workflow_is_refused_by_name(versions, name):
    with pytest.raises(WorkflowError):
        versions.of_job(SOURCE, name)


DAMAGES = {
    "no JSON": lambda _: b"{",
    "no object": lambda _: b"[]",
    "cut": lambda data: data[:-9],
    "another batch size": lambda data: data.replace(b'"run": "cat"', b'"batch_size": 1, "run": "cat"'),
    "another digest": lambda data: data.replace(bundle_of(CODE).digest.encode(), b"0" * 64),
    "no digest": lambda data: data.replace(bundle_of(CODE).digest.encode(), b"../../secret"),
    "one lock less": lambda data: data.replace(b'  ""\n', b'""\n').replace(b',\n""', b""),
    "unknown key": lambda data: data.replace(b'"python"', b'"pyton"'),
    "mistakes in steps": lambda data: data.replace(b'"run": "cat"', b'"ran": "cat"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_version_that_was_changed_is_refused_with_a_reason(put, versions, store, damage):
    one = put(version())
    key = f"workflows/score/{one.id}.json"
    data = DAMAGES[damage](store.read(key))
    assert data != store.read(key)
    store.put(key, data)
    with pytest.raises(WorkflowError, match=f"workflow 'score@{one.id}': .+"):
        versions.read(one.attribute)


def test_a_damaged_name_of_the_current_version_is_refused(put, versions, store):
    put(version())
    for data in (b"", b"[]", b'{"version": 3}', json.dumps({"version": "../x"}).encode()):
        store.put(CURRENT, data)
        with pytest.raises(WorkflowError, match=r"its current\.json does not name a version"):
            versions.current("score")


def test_workflows_are_listed_with_all_their_versions(put, versions):
    first = put(version())
    second = put(version(code=b"new"), b"new")
    other = put(version("other"))
    listed = versions.all()
    assert [(one.name, one.current) for one in listed] == [("other", other.id), ("score", second.id)]
    assert {name for name, _ in listed[1].versions} == {first.id, second.id}


def test_deleting_a_workflow_leaves_what_others_use(put, versions, store):
    put(version())
    put(version(code=b"new"), b"new")
    other = put(version("other"))
    assert versions.delete("score") == 2
    assert [one.name for one in versions.all()] == ["other"]
    assert versions.lacks(other) == []
    assert store.stat(bundle_key(bundle_of(b"new"))) is None
    with pytest.raises(WorkflowError, match="there is no workflow of that name"):
        versions.delete("score")
    with pytest.raises(WorkflowError, match="there is no workflow of that name"):
        versions.current("score")
