"""A cache of unpacked bundles on the disk of a Lambda function. If files of a bundle were changed, the bundle is
unpacked again.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeAlias

from parcelq.errors import BundleError
from parcelq.steps.bundles import Bundle, copied, unpack

_log = logging.getLogger(__name__)
_FOLDER: Final = "parcelq-bundles"

Marks: TypeAlias = dict[str, tuple[int, int, int, int]]
Open: TypeAlias = Callable[[Bundle], AbstractContextManager[IO[bytes]]]


class _Unpacked(NamedTuple):
    """A bundle on disk: its folder, its size, and the state of its files when they were unpacked."""

    folder: Path
    size: int
    marks: Marks


class BundleCache:
    """Unpacks bundles into a temporary folder, where they take at most `most_bytes`, with the archive that is being
    unpacked. If there is not enough space, the least recently used bundles are removed.

    The cache uses only bundles that this process unpacked, because files that other processes wrote cannot be trusted.
    """

    def __init__(
        self, most_bytes: int, open_archive: Open, on_remove: Callable[[str], None] = lambda _digest: None
    ) -> None:
        self._most = most_bytes
        self._open = open_archive
        self._on_remove = on_remove
        self._unpacked: OrderedDict[str, _Unpacked] = OrderedDict()
        self._root: Path | None = None

    def folder(self, bundle: Bundle, in_use: Collection[str] = ()) -> Path:
        """Return the folder of a bundle, fetched and unpacked if necessary. Bundles whose digests are `in_use` are not
        removed.

        Raises BundleError if the bundle is damaged, or there is not enough space for it beside those in use; and
        ParcelqError if the archive cannot be fetched now.
        """
        found = self._unpacked.get(bundle.digest)
        if found is None:
            self._make_room(bundle, in_use)
            found = self._fetch(bundle)
            self._unpacked[bundle.digest] = found
        self._unpacked.move_to_end(bundle.digest)
        return found.folder

    def check(self, digests: Collection[str]) -> list[str]:
        """Forget the bundles with files that were changed, added or removed after unpacking, and return their digests.

        The kernel records every change of a file in the file's ctime, which unprivileged programs cannot set.
        """
        changed = [one for one in digests if one in self._unpacked and _is_changed(self._unpacked[one])]
        for digest in changed:
            _log.warning("files of bundle %s were changed, so the bundle is unpacked again", digest[:12])
            self._remove(digest)
        return changed

    def _make_room(self, bundle: Bundle, in_use: Collection[str]) -> None:
        """Remove the least recently used bundles until there is enough space for another bundle."""
        free = self._most - bundle.room - bundle.size - sum(one.size for one in self._unpacked.values())
        doomed = []
        for digest, one in self._unpacked.items():
            if free >= 0:
                break
            if digest not in in_use:
                doomed.append(digest)
                free += one.size
        if free < 0:
            needed = bundle.room + bundle.size
            raise BundleError(
                bundle.digest,
                f"it needs {needed >> 20} MiB of disk, but all bundles together may take only {self._most >> 20} MiB; "
                "deploy the stack with more ProcessorStorage",
            )
        for digest in doomed:
            self._remove(digest)

    def _remove(self, digest: str) -> None:
        self._on_remove(digest)
        shutil.rmtree(self._unpacked.pop(digest).folder, ignore_errors=True)

    def _fetch(self, bundle: Bundle) -> _Unpacked:
        root = self._folder()
        folder = root / bundle.digest
        shutil.rmtree(folder, ignore_errors=True)
        archive = root / f"{bundle.digest}.zip"
        try:
            with self._open(bundle) as source, archive.open("wb") as file:
                copied(
                    source, file, bundle.size, bundle.digest, f"more than the {bundle.size} bytes that its version says"
                )
            unpack(archive, bundle, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            archive.unlink(missing_ok=True)
        marks = _marks_below(folder)
        return _Unpacked(folder, sum(mark[0] for mark in marks.values()), marks)

    def _folder(self) -> Path:
        """Return the folder of all bundles. Files that an earlier process left in this folder are removed."""
        if self._root is None:
            root = Path(tempfile.gettempdir()) / _FOLDER
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(mode=0o700)
            self._root = root
        return self._root


def _is_changed(unpacked: _Unpacked) -> bool:
    try:
        # guard[return False]: a bundle whose files were changed is unpacked again
        return _marks_below(unpacked.folder) != unpacked.marks
    except OSError:
        return True


def _marks_below(folder: Path) -> Marks:
    """Return the size, inode, mtime and ctime of each file and folder below a folder."""
    marks: Marks = {}
    left = [os.fspath(folder)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder:
                    left.append(entry.path)
                size = 0 if is_folder else about.st_size
                marks[entry.path] = (size, about.st_ino, about.st_mtime_ns, about.st_ctime_ns)
    return marks
