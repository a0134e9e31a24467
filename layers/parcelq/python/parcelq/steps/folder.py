"""Creates the folders of runs, locks each folder while a run uses the folder, and removes each folder with everything
that a step has put into the folder.

Each folder is used by one run at a time, and is used again if a run leaves nothing in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from parcelq.steps.processes import state_of

PREFIX: Final = "parcelq-run-"
_TRIES: Final = 20
_KEPT: Final = ("tmp", "work")
"""The two folders in a run's folder, sorted by name: the folder for `TMPDIR`, and the working directory."""


@contextmanager
def locked_folder() -> Iterator[Path]:
    """Yield a temporary folder that is removed at the end. The first call removes folders of killed processes too.
    Raises OSError if there is not enough space on the disk.
    """
    remove_abandoned(tempfile.gettempdir())
    folder, lock = _locked()
    try:
        yield folder
    finally:
        try:
            # guard[pass]: the folder of a run is removed however the run ends
            remove(folder)
        finally:
            os.close(lock)


@cache
def remove_abandoned(parent: str) -> None:
    """Remove the folders below `parent` that killed processes of this user left. Only the first call does so."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                        lock = _lock(Path(entry.path))
                        try:
                            remove(Path(entry.path))
                        finally:
                            os.close(lock)


def _locked() -> tuple[Path, int]:
    """Create a new folder and its lock. Before that, another process may mistake the folder for an abandoned one."""
    for _ in range(_TRIES - 1):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).absolute()
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            lock = _lock(folder)
            if os.fstat(lock).st_nlink and folder.is_dir():
                return folder, lock
            os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).absolute()
    return folder, _lock(folder)


def _lock(folder: Path) -> int:
    """Lock a folder, and return the descriptor that holds the lock; BlockingIOError if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: Path) -> int:
    """Open a file that a step wrote. Raises OSError for links, folders, pipes and devices."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    # guard[False]: an output is a regular file
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def remove(folder: Path) -> None:
    """Remove a folder with everything in it, however deep, with bounded memory and without long paths.

    Every folder in it is first moved directly below the top, and then emptied. Files that cannot be removed stay.
    """
    top, moved, name = os.fspath(folder), 0, os.urandom(8).hex()  # a name that the step cannot have used
    pending = [top]
    while pending:
        path = pending.pop()
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)
                        continue
                    os.chmod(entry.path, 0o700)
                    target = entry.path
                    if path != top:
                        moved += 1
                        target = f"{top}/{name}-{moved}"
                        os.rename(entry.path, target)
                    pending.append(target)
        if path != top:
            with contextlib.suppress(OSError):
                os.rmdir(path)
    with contextlib.suppress(OSError):
        os.rmdir(top)


class RunFolder:
    """A folder for runs, which contains two empty folders, `work` and `tmp`. Raises OSError if there is not enough
    space on the disk.
    """

    def __init__(self) -> None:
        with ExitStack() as opened:
            self.path = opened.enter_context(locked_folder())
            for name in _KEPT:
                (self.path / name).mkdir()
            self._made = state_of(os.fspath(self.path))
            self._opened = opened.pop_all()

    def is_clean(self) -> bool:
        """Delete the files of a run. Return whether the folder is unchanged after that."""
        try:
            for name in os.listdir(self.path):
                if name not in _KEPT:
                    os.unlink(self.path / name)
            return state_of(os.fspath(self.path)) == self._made
        except OSError:  # a run replaced a file by a folder, or removed a permission
            return False

    def remove(self) -> None:
        """Delete the folder with its content."""
        self._opened.close()


class RunFolders:
    """The folders in which one `Runner` runs its step. Any thread may call the methods of this class."""

    def __init__(self) -> None:
        self._idle: list[RunFolder] = []
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Path]:
        """Yield a folder that contains only the empty folders `work` and `tmp`. Raises OSError if there is not enough
        space on the disk.
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
        """Delete the unused folders. The folders in use are deleted when their runs end."""
        self._closed = True
        while folder := self._taken():
            folder.remove()

    def _taken(self) -> RunFolder | None:
        with contextlib.suppress(IndexError):  # another thread may take the last folder
            return self._idle.pop()
        return None
