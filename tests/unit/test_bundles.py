"""Bundles: the same files make the same archive, and only what was expected is unpacked, below its folder."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from parcelq.errors import BundleError
from parcelq.steps.bundle_cache import BundleCache
from parcelq.steps.bundles import Bundle, unpack, write_bundle


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "package").mkdir(parents=True)
    (folder / "step.py").write_text("import package\nprint(package.X)\n")
    (folder / "package/__init__.py").write_text("X = 'imported'\n")
    (folder / "program.sh").write_text("#!/bin/sh\n")
    (folder / "program.sh").chmod(0o700)
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def made(files, tmp_path):
    archive = tmp_path / "bundle.zip"
    return archive, write_bundle(files, archive)


def archive_of(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes], compress: int = zipfile.ZIP_STORED) -> Bundle:
    """An archive that somebody else made, and a description that fits it."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    data = path.read_bytes()
    return Bundle(hashlib.sha256(data).hexdigest(), len(data), sum(len(one) for _, one in entries), 0, len(entries))


def test_the_same_files_make_the_same_archive_whatever_their_times_and_order(files, tmp_path):
    one = write_bundle(files, tmp_path / "one.zip")
    for path in files.values():
        os.utime(path, (1, 1))
    other = write_bundle(dict(reversed(files.items())), tmp_path / "other.zip")
    assert one == other
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    assert one.digest == hashlib.sha256((tmp_path / "one.zip").read_bytes()).hexdigest()


def test_an_unpacked_bundle_has_the_files_that_were_packed_and_their_bytecode(made, files, tmp_path):
    archive, bundle = made
    unpack(archive, bundle, tmp_path / "out")
    for name, path in files.items():
        assert (tmp_path / "out" / name).read_bytes() == path.read_bytes()
    assert (tmp_path / "out/program.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/step.py").stat().st_mode & 0o777 == 0o644
    before = sorted((tmp_path / "out").rglob("*"))
    done = subprocess.run([sys.executable, tmp_path / "out/step.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "imported\n"
    assert sorted((tmp_path / "out").rglob("*")) == before, "Python compiled something again"


def test_a_file_that_is_not_python_of_this_version_is_still_unpacked(tmp_path):
    bundle = archive_of(tmp_path / "a.zip", ("old.py", b"print 'x'\n"))
    unpack(tmp_path / "a.zip", bundle, tmp_path / "out")
    assert (tmp_path / "out/old.py").read_bytes() == b"print 'x'\n"


@pytest.mark.parametrize(
    "name",
    ["../outside", "/outside", "a/../../outside", "a//b", "./a", "folder/", "..", "a\\..\\b", "a/./b"],
)
def test_a_path_that_leaves_the_bundle_is_refused(tmp_path, name):
    bundle = archive_of(tmp_path / "a.zip", (name, b"x"))
    with pytest.raises(BundleError, match=r"leaves the bundle|no archive"):
        unpack(tmp_path / "a.zip", bundle, tmp_path / "below" / "out")
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_anything_but_a_regular_file_is_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("link")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    bundle = archive_of(tmp_path / "a.zip", (entry, b"/etc/passwd"))
    with pytest.raises(BundleError, match="'link' in it is not a regular file"):
        unpack(tmp_path / "a.zip", bundle, tmp_path / "out")
    assert not os.path.lexists(tmp_path / "out/link")


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path):
    whole = archive_of(tmp_path / "a.zip", ("zeros", bytes(50_000_000)), compress=zipfile.ZIP_DEFLATED)
    assert whole.size < 100_000
    bundle = whole._replace(unpacked=1_000_000)
    with pytest.raises(BundleError, match="more bytes than the bundle may have"):
        unpack(tmp_path / "a.zip", bundle, tmp_path / "out")
    assert (tmp_path / "out/zeros").stat().st_size <= 2_000_000


def test_a_name_twice_or_a_file_that_is_a_folder_too_is_refused(tmp_path):
    for number, names in enumerate([("a", "a"), ("a", "a/b"), ("a/b", "a")]):
        with pytest.warns(UserWarning, match="Duplicate") if names == ("a", "a") else nullcontext():
            bundle = archive_of(tmp_path / f"{number}.zip", *[(name, b"x") for name in names])
        with pytest.raises(BundleError, match="twice"):
            unpack(tmp_path / f"{number}.zip", bundle, tmp_path / f"out{number}")


def test_an_archive_with_more_files_than_expected_is_refused(tmp_path):
    bundle = archive_of(tmp_path / "a.zip", ("a", b""), ("b", b""))
    with pytest.raises(BundleError, match="it has 2 files, but must have 1"):
        unpack(tmp_path / "a.zip", bundle._replace(files=1), tmp_path / "out")


@pytest.mark.parametrize("at", [0, 40, 200, -1])
def test_a_bundle_whose_archive_is_damaged_is_refused(made, tmp_path, at):
    archive, bundle = made
    data = bytearray(archive.read_bytes())
    data[at] ^= 1
    archive.write_bytes(data)
    with pytest.raises(BundleError, match="not the one in its name"):
        unpack(archive, bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_archive_is_refused_even_if_its_digest_is_right(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(BundleError, match="not a readable archive"):
        unpack(tmp_path / "a.zip", Bundle(hashlib.sha256(data).hexdigest(), len(data), 0, 0, 0), tmp_path / "out")


class TestCache:
    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    @pytest.fixture
    def bundles(self, tmp_path):
        """Five bundles with a file of 1,000 bytes each, and their archives by digest."""
        made = []
        for number in range(5):
            path = tmp_path / f"file{number}"
            path.write_bytes(bytes([number]) * 1000)
            made.append(write_bundle({"data": path}, tmp_path / f"{number}.zip"))
        return made, {one.digest: (tmp_path / f"{number}.zip").read_bytes() for number, one in enumerate(made)}

    @pytest.fixture
    def cache(self, bundles):
        fetched: list[str] = []

        def make(most: int) -> tuple[BundleCache, list[str]]:
            def opened(bundle: Bundle) -> io.BytesIO:
                fetched.append(bundle.digest)
                return io.BytesIO(bundles[1][bundle.digest])

            return BundleCache(most, opened), fetched

        return make

    def test_the_cache_fetches_a_bundle_once(self, cache, bundles):
        held, fetched = cache(1 << 20)
        assert held.folder(bundles[0][0]) == held.folder(bundles[0][0])
        assert fetched == [bundles[0][0].digest]

    def test_the_bundle_that_was_not_used_for_longest_goes_first(self, cache, bundles):
        held, fetched = cache(3500)
        first, second, third, fourth, _ = bundles[0]
        folders = [held.folder(one) for one in (first, second, third)]
        held.folder(first)
        held.folder(fourth)
        assert [one.exists() for one in folders] == [True, False, True]
        assert len(fetched) == 4

    def test_a_bundle_in_use_is_not_removed(self, cache, bundles):
        held, _ = cache(2500)
        first, second, third, *_ = bundles[0]
        kept = held.folder(first)
        held.folder(second)
        held.folder(third, in_use=[first.digest])
        assert kept.exists()

    def test_a_bundle_that_does_not_fit_says_what_would_help(self, cache, bundles):
        held, fetched = cache(500)
        with pytest.raises(BundleError, match="deploy the stack with more ProcessorStorage"):
            held.folder(bundles[0][0])
        assert fetched == []

    @pytest.mark.parametrize("change", ["write", "touch", "add", "remove", "replace"])
    def test_a_bundle_whose_files_were_changed_is_unpacked_again(self, cache, bundles, change):
        held, fetched = cache(1 << 20)
        bundle = bundles[0][0]
        folder = held.folder(bundle)
        assert held.check([bundle.digest]) == []
        changes: dict[str, Callable[[], object]] = {
            "write": lambda: (folder / "data").write_bytes(b"\1" * 1000),
            "touch": lambda: os.utime(folder / "data", (1, 1)),
            "add": lambda: (folder / "os.py").write_text(""),
            "remove": (folder / "data").unlink,
            "replace": lambda: (folder / "data").rename(folder / "other"),
        }
        about = (folder / "data").stat()
        changes[change]()
        if change == "write":  # a change of a file may put its times back
            os.utime(folder / "data", ns=(about.st_atime_ns, about.st_mtime_ns))
        assert held.check([bundle.digest]) == [bundle.digest]
        assert (held.folder(bundle) / "data").read_bytes() == bytes(1000)
        assert len(fetched) == 2

    def test_bundles_that_an_earlier_process_left_do_not_count(self, cache, bundles):
        bundle = bundles[0][0]
        left = Path(tempfile.gettempdir()) / "parcelq-bundles" / bundle.digest
        left.mkdir(parents=True)
        (left / "data").write_text("something else")
        held, _ = cache(1 << 20)
        assert (held.folder(bundle) / "data").read_bytes() == bytes(1000)

    def test_an_archive_that_goes_on_too_long_is_not_read_to_its_end(self, bundles, tmp_path):
        class Endless(io.BytesIO):
            read_so_far = 0

            def read(self, size: int | None = -1, /) -> bytes:
                assert self.read_so_far < 10 << 20
                self.read_so_far += size or 0
                return bytes(size or 0)

        with pytest.raises(BundleError, match="more than the"):
            BundleCache(1 << 20, lambda _bundle: Endless()).folder(bundles[0][0])
        assert not list(Path(tempfile.gettempdir()).rglob("*.zip"))
