"""Copies the content of a pipe to a file in the state folder, because a pipe cannot be read twice.

The file's name is derived from its content and the pipe's name. So if a command is repeated and gets the same bytes
from the pipe, the new command finds the job of the first command.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Final

from parcelq.errors import ParcelqError
from parcelq.limits import MIB
from parcelq.local.files import FileState, LocalFile

_BLOCK_BYTES: Final = MIB
_DIGEST_BYTES: Final = 16


def spooled(pipe: IO[bytes], name: str, folder: Path, command: str) -> LocalFile:
    """Copy a pipe's content to a file in a folder; return the copy, named `name`. Raises ParcelqError if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{command}.part"
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    try:
        with part.open("wb") as file:
            while block := pipe.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        digest.update(b"\0" + os.fsencode(name))
        target = folder / digest.hexdigest()
        if target.exists():  # a stopped job already uses the same copy
            part.unlink()
        else:
            part.replace(target)
    except OSError as error:
        raise ParcelqError(f"{name!r} cannot be stored in {str(folder)!r}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return LocalFile(name, FileState.of(target), digest.hexdigest())
