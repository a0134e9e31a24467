"""What every store does, whichever adapter is behind it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from memory_store import Objects
from parcelq.errors import AwsError, ConflictError, InvalidValueError, NotFoundError, StoreError
from parcelq.limits import MIB
from parcelq.store.bucket import BucketStore
from parcelq.store.folder import FolderStore
from parcelq.store.store import Store


@pytest.fixture(params=["bucket", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "folder")
    return BucketStore(request.getfixturevalue("s3"), request.getfixturevalue("bucket"))


def test_an_object_is_read_whole_or_in_part(store: Store) -> None:
    store.put("a/b", b"replaced")
    store.put("a/b", b"01234", b"", b"56789")
    assert store.read("a/b") == b"0123456789"
    assert store.read("a/b", 2, 3) == b"234"
    assert store.read("a/b", 8, 99) == b"89"
    assert store.read("a/b", 8) == b"89"
    assert store.read("a/b", 3, 0) == b""


@pytest.mark.parametrize("length", [None, 5])
def test_reading_at_or_after_the_end_gives_nothing(store: Store, length: int | None) -> None:
    store.put("a", b"0123456789")
    store.put("empty")
    assert store.read("a", 10, length) == store.read("a", 99, length) == b""
    assert store.read("empty", 0, length) == b""


def test_an_object_that_does_not_exist_is_not_found(store: Store) -> None:
    for read in (store.read, lambda key: store.read(key, 1, 2), lambda key: store.stream(key).__enter__()):
        with pytest.raises(NotFoundError, match="a/none"):
            read("a/none")
    assert store.stat("a/none") is None


def test_a_store_says_how_large_an_object_is_and_what_its_metadata_are(store: Store) -> None:
    etag = store.put("a/b", b"body", metadata={"parcelq-state": "whole"})
    found = store.stat("a/b")
    assert found
    assert (found.key, found.etag, found.size, dict(found.metadata)) == ("a/b", etag, 4, {"parcelq-state": "whole"})
    assert abs(found.modified - time.time()) < 60


def test_an_object_that_is_replaced_loses_its_metadata(store: Store) -> None:
    store.put("a", b"one", metadata={"name": "value"})
    store.put("a", b"two")
    found = store.stat("a")
    assert found
    assert dict(found.metadata) == {}


def test_a_write_that_expects_no_object_finds_one(store: Store) -> None:
    store.put("a", b"one", if_absent=True)
    with pytest.raises(ConflictError, match="'a'"):
        store.put("a", b"two", if_absent=True)
    assert store.read("a") == b"one"


def test_a_write_that_expects_a_state_is_refused_in_another(store: Store) -> None:
    first = store.put("a", b"one")
    second = store.put("a", b"two", if_match=first)
    with pytest.raises(ConflictError):
        store.put("a", b"three", if_match=first)
    assert store.read("a") == b"two"
    store.delete(["a"])
    with pytest.raises(ConflictError):
        store.put("a", b"four", if_match=second)
    assert store.stat("a") is None


def test_only_one_of_many_conditional_writes_wins(store: Store) -> None:
    def write(number: int) -> bool:
        try:
            store.put("a", b"%d" % number, if_absent=True)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(24))) == 1


def test_keys_are_sorted_and_start_with_the_prefix(store: Store) -> None:
    assert list(store.keys("a/")) == []
    for key in ("a/c", "b/a", "a/b/x", "ab", "a/b-c", "a/ä"):
        store.put(key, b"x", metadata={"name": "value"})
    assert list(store.keys("a/")) == ["a/b-c", "a/b/x", "a/c", "a/ä"]
    assert list(store.keys("a/b")) == ["a/b-c", "a/b/x"]
    assert list(store.keys("")) == ["a/b-c", "a/b/x", "a/c", "a/ä", "ab", "b/a"]


def test_a_listing_gives_the_size_and_the_etag_of_every_object(store: Store) -> None:
    etag = store.put("a/b", b"body", metadata={"name": "value"})
    (found,) = store.listing("a/")
    assert (found.key, found.etag, found.size, dict(found.metadata)) == ("a/b", etag, 4, {})


def test_deleting_takes_many_keys_and_missing_ones(store: Store) -> None:
    store.put("a/b", b"one", metadata={"name": "value"})
    store.put("a/c", b"two")
    store.delete(["a/b", "a/none", *(f"a/{number}" for number in range(1500))])
    assert list(store.keys("")) == ["a/c"]
    store.delete([])


def test_a_stream_is_read_in_blocks(store: Store) -> None:
    store.put("a", b"0123456789")
    with store.stream("a") as stream:
        blocks = [stream.read(4), stream.read(4), stream.read(4), stream.read(4)]
    assert b"".join(blocks) == b"0123456789"


def bodies() -> Iterator[bytes]:
    return (bytes([number]) * 5 * MIB for number in range(3))


def test_an_object_of_several_parts_is_written_whole(store: Store) -> None:
    assert store.write("results/x", bodies(), {"parcelq-state": "whole"}, None) is True
    assert store.read("results/x") == b"".join(bodies())
    found = store.stat("results/x")
    assert found
    assert dict(found.metadata) == {"parcelq-state": "whole"}


@pytest.mark.parametrize("parts", [[], [b"one"]])
def test_an_object_of_one_part_or_none_is_written(store: Store, parts: list[bytes]) -> None:
    assert store.write("x", parts, {}, None) is True
    assert store.read("x") == b"".join(parts)


def test_an_object_that_changed_since_it_was_seen_is_not_overwritten(store: Store) -> None:
    assert store.write("x", [b"one"], {}, None) is True
    assert store.write("x", [b"two"], {}, None) is False
    seen = store.stat("x")
    assert store.write("x", [b"three"], {}, seen) is True
    assert store.write("x", [b"four"], {}, seen) is False
    store.delete(["x"])
    assert store.write("x", [b"five"], {}, seen) is False
    assert store.stat("x") is None


def test_a_write_that_fails_leaves_nothing_behind(store: Store) -> None:
    def broken() -> Iterator[bytes]:
        yield from bodies()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write("x", broken(), {}, None)
    assert list(store.keys("")) == []
    if isinstance(store, BucketStore):
        assert not store.s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads")
    elif isinstance(store, FolderStore):
        assert list((store.folder / ".store" / "unfinished").iterdir()) == []


class TestUploads:
    """What stores offer in which several invocations write one object together."""

    @pytest.fixture(params=["bucket", "memory"])
    def shared(self, request: pytest.FixtureRequest) -> Objects | BucketStore:
        if request.param == "memory":
            return Objects()  # which tests of large results use
        return BucketStore(request.getfixturevalue("s3"), request.getfixturevalue("bucket"))

    def test_parts_come_in_any_order_and_are_seen_until_the_object_is_there(
        self, shared: Objects | BucketStore
    ) -> None:
        upload = shared.begin_upload("results/x", {"parcelq-state": "whole"})
        for number in (3, 1, 2, 1):
            shared.put_part("results/x", upload, number, BytesIO(bytes([number]) * 5 * MIB))
        parts = shared.parts("results/x", upload)
        assert {number: part.size for number, part in parts.items()} == dict.fromkeys((1, 2, 3), 5 * MIB)
        assert shared.parts("results/x", upload, 2, 2) == {2: parts[2]}
        assert shared.stat("results/x") is None
        shared.complete_upload("results/x", upload, [parts[number].etag for number in (1, 2, 3)], None)
        assert shared.read("results/x") == b"".join(bytes([number]) * 5 * MIB for number in (1, 2, 3))
        found = shared.stat("results/x")
        assert found
        assert dict(found.metadata) == {"parcelq-state": "whole"}
        with pytest.raises(NotFoundError):
            shared.parts("results/x", upload)

    def test_an_upload_replaces_only_the_object_that_was_seen(self, shared: Objects | BucketStore) -> None:
        seen = shared.put("x", b"before")
        upload = shared.begin_upload("x", {})
        etag = shared.put_part("x", upload, 1, b"after")
        with pytest.raises(ConflictError):
            shared.complete_upload("x", upload, [etag], None)
        shared.complete_upload("x", upload, [etag], seen)
        assert shared.read("x") == b"after"

    def test_an_upload_may_be_aborted_twice_and_leaves_nothing(self, shared: Objects | BucketStore) -> None:
        upload = shared.begin_upload("x", {})
        shared.put_part("x", upload, 1, b"data")
        shared.abort_upload("x", upload)
        shared.abort_upload("x", upload)
        assert shared.stat("x") is None


class TestFolder:
    @pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../b", "a/.", "a\0b", ".store/lock", "a/"])
    def test_a_key_that_is_no_path_inside_the_folder_is_refused(self, tmp_path: Path, key: str) -> None:
        store = FolderStore(tmp_path / "folder")
        for use in (store.put, store.read, store.stat, lambda key: store.delete([key])):
            with pytest.raises(InvalidValueError, match="key is"):
                use(key)
        assert not (tmp_path / "a").exists()

    def test_a_key_that_extends_another_is_refused_with_its_name(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        store.put("a", b"one")
        with pytest.raises(StoreError, match=r"'a/b': .* of that name"):
            store.put("a/b", b"two")
        store.put("c/d", b"three")
        with pytest.raises(StoreError, match=r"'c': .* of that name"):
            store.put("c", b"four")
        assert store.stat("a/b") is None
        with pytest.raises(NotFoundError):
            store.read("c")

    def test_a_name_that_is_too_long_is_refused_with_its_reason(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="File name too long"):
            FolderStore(tmp_path).put("x" * 300, b"")

    def test_of_two_processes_that_write_under_one_condition_only_one_wins(self, tmp_path: Path) -> None:
        code = (
            "import sys\nfrom pathlib import Path\nfrom parcelq.store.folder import FolderStore\n"
            "from parcelq.errors import ConflictError\nstore = FolderStore(Path(sys.argv[1]))\n"
            "for _ in range(50):\n    while True:\n        found = store.stat('n')\n"
            "        try:\n            store.put('n', b'%d' % (int(store.read('n')) + 1), if_match=found.etag)\n"
            "        except ConflictError:\n            continue\n        break\n"
        )
        store = FolderStore(tmp_path)
        store.put("n", b"0")
        running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
        assert [process.wait(60) for process in running] == [0, 0]
        assert store.read("n") == b"100"

    def test_metadata_of_an_object_that_was_deleted_takes_no_room(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        for number in range(3):
            store.put("a", b"%d" % number, metadata={"name": "value"})
        store.delete(["a"])
        assert list((tmp_path / ".store" / "metadata").iterdir()) == []


class TestBucket:
    @pytest.fixture
    def bucket_store(self, s3: Any, bucket: str) -> BucketStore:
        return BucketStore(s3, bucket)

    def test_a_bucket_that_does_not_exist_is_an_error(self, s3: Any) -> None:
        store = BucketStore(s3, "no-such-bucket")
        for use in (store.put, store.read, lambda key: list(store.keys(key)), lambda key: store.delete([key])):
            with pytest.raises(AwsError, match="NoSuchBucket"):
                use("x")
