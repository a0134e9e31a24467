"""Creates folders for temporary files. If a process dies without deleting its folder, the next start deletes the
folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "parcelq-"
_LOCK: Final = ".owner"
"""The name of a file in the folder, which the folder's owner locks. The kernel releases the lock when the owner ends.
"""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a folder for temporary files, and delete it when the context ends. First delete the folders of ended
    processes.
    """
    clear_abandoned()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name, _locked(Path(name)):
        yield Path(name)


def clear_abandoned() -> list[Path]:
    """Delete the folders of processes that have ended, and return the paths of these folders.

    A folder without a lock file is not deleted, because it is not Parcelq's, or its owner is just creating it.
    """
    deleted = []
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError):  # deleted by another process, or owned by another user
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
                deleted.append(lock.parent)
            finally:
                os.close(descriptor)
    return deleted


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    unlocked = folder / f"{_LOCK}.new"
    descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unlocked.rename(folder / _LOCK)  # other processes find the lock file only now, when it is locked
        yield
    finally:
        os.close(descriptor)
