"""Folders of runs: each is used by one run at a time, and reused if that run leaves nothing in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from parcelq.steps.folder import locked_folder

_KEPT: Final = ("tmp", "work")
"""The folders in a run's folder, sorted by name: its `TMPDIR`, and its working directory."""


class RunFolder:
    """A folder for runs, with two empty folders in it, `work` and `tmp`.

    Attributes:
        path: its path.

    Raises:
        OSError: there is not enough space for it.
    """

    def __init__(self) -> None:
        with ExitStack() as opened:
            self.path = opened.enter_context(locked_folder())
            self._kept = {name: os.fspath(self.path / name) for name in _KEPT}
            for path in self._kept.values():
                os.mkdir(path)
            self._made = self._identities()
            self._opened = opened.pop_all()

    def is_clean(self) -> bool:
        """Delete the files of a run, and return whether the folder is then unchanged."""
        try:
            for name in os.listdir(self.path):
                if name not in self._kept:
                    os.unlink(self.path / name)
            return self._identities() == self._made and not any(os.listdir(path) for path in self._kept.values())
        except OSError:  # a run replaced a file by a folder, or removed a permission
            return False

    def remove(self) -> None:
        """Delete it with its content."""
        self._opened.close()

    def _identities(self) -> list[tuple[int, int, int]]:
        """The identity of a folder: it differs if a run replaced the folder or changed its permissions."""
        found = [os.lstat(path) for path in (os.fspath(self.path), *self._kept.values())]
        return [(one.st_ino, one.st_mode, one.st_uid) for one in found]


class RunFolders:
    """The folders of one runner. Any thread may call its methods."""

    def __init__(self) -> None:
        self._idle: list[RunFolder] = []
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Path]:
        """Return a folder that contains only the empty folders `work` and `tmp`.

        Raises:
            OSError: there is not enough space for it.
        """
        folder = self._taken() or RunFolder()
        try:
            yield folder.path
        finally:
            # guard[True]: a run finds nothing in its folder that another run left there
            if folder.is_clean() and not self._closed:
                self._idle.append(folder)
            else:
                folder.remove()

    def close(self) -> None:
        """Delete the unused folders; those in use are deleted when their runs end."""
        self._closed = True
        while folder := self._taken():
            folder.remove()

    def _taken(self) -> RunFolder | None:
        with contextlib.suppress(IndexError):  # other threads take them too
            return self._idle.pop()
        return None
