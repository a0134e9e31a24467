"""A store in a folder on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Final

from parcelq.aws.batching import batches
from parcelq.errors import ConflictError, InvalidValueError, NotFoundError, StoreError
from parcelq.limits import MIB
from parcelq.readable import Readable
from parcelq.store.store import NO_METADATA, Stored

_DELETED_TOGETHER: Final = 100
"""How many objects are deleted while the lock is held once."""
_AHEAD_BYTES: Final = 8 * MIB
"""After each such number of bytes, Linux begins to write these bytes to disk, while the process writes the next bytes.
For 50 MB, this takes 0.62 of the time that one flush at the end would take.
"""


@dataclass(frozen=True, slots=True)
class FolderStore:
    """A `Store` that keeps objects as files of a folder. The folder is created with the first object.

    A lock on a file makes conditional writes safe between threads and processes. An etag is made from the file's inode,
    modification time and size, so if another program edits a file, the object gets another etag.

    Attributes:
        own: the path of a folder below this folder for files that are not objects: the lock, unfinished objects,
            metadata. No key may begin with the first part of the path `own`.
        durable: whether an object is on disk when a method returns. If False, a crash of the machine soon after may
            leave an empty object.
    """

    folder: Path
    own: str = ".store"
    durable: bool = True

    @property
    def _first(self) -> str:
        return self.own.partition("/")[0]

    def put(
        self,
        key: str,
        *parts: bytes,
        metadata: Mapping[str, str] = NO_METADATA,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        return self._put(key, parts, metadata, if_match, absent=if_absent)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._open(key, start) as file:
            return file.read() if length is None else file.read(length)

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        with self._open(key, 0) as file:
            return file.read(), _etag(os.fstat(file.fileno()))

    def stat(self, key: str) -> Stored | None:
        found = self._stored(key, self._path(key))
        if found is None:
            return None
        try:
            metadata = json.loads(self._metadata(key, found.etag).read_bytes())
        except FileNotFoundError:
            metadata = {}
        return Stored(key, found.etag, found.size, metadata, found.modified)

    def keys(self, prefix: str) -> Iterator[str]:
        parent, _, start = prefix.rpartition("/")
        root = self.folder / parent
        found = []
        for folder, folders, files in os.walk(root):
            here = Path(folder).relative_to(self.folder).as_posix()
            if here == ".":
                folders[:] = [name for name in folders if name != self._first]
            if Path(folder) == root:
                folders[:] = [name for name in folders if name.startswith(start)]
            found += [name if here == "." else f"{here}/{name}" for name in files]
        return iter(sorted((key for key in found if key.startswith(prefix)), key=os.fsencode))

    def listing(self, prefix: str) -> Iterator[Stored]:
        found = (self._stored(key, self.folder / key) for key in self.keys(prefix))
        return (one for one in found if one is not None)

    def delete(self, keys: Iterable[str]) -> None:
        for some in batches(keys, _DELETED_TOGETHER):
            with self._naming(some[0]), self._locked():
                for key in some:
                    path = self._path(key)
                    if found := self._stored(key, path):
                        path.unlink()
                        self._metadata(key, found.etag).unlink(missing_ok=True)

    @contextmanager
    def stream(self, key: str) -> Iterator[Readable]:
        with self._open(key, 0) as file:
            yield file

    def part_bytes(self, size: int) -> int:
        """Return a size that fits into the CPU cache during copying."""
        return max(1, min(size, MIB))

    def write(self, key: str, parts: Iterable[bytes], metadata: Mapping[str, str], seen: Stored | None) -> bool:
        rest = iter(parts)
        head = list(islice(rest, 1))  # read before writing, because the parts may come from the object itself
        try:
            self._put(key, chain(head, rest), metadata, seen.etag if seen else None, absent=seen is None)
        except ConflictError:
            return False
        return True

    def _path(self, key: str) -> Path:
        names = key.split("/")
        if names[0] == self._first or any(name in {"", ".", ".."} or "\0" in name for name in names):
            wanted = f"names separated by slashes, none of them '.' or '..', and not {self._first!r} first"
            raise InvalidValueError("key", key, wanted)
        return self.folder / key

    def _metadata(self, key: str, etag: str) -> Path:
        return self.folder / self.own / "metadata" / f"{key}.{etag}"

    def _stored(self, key: str, path: Path) -> Stored | None:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(key, _etag(found), found.st_size, NO_METADATA, found.st_mtime) if path.is_file() else None

    @contextmanager
    def _open(self, key: str, start: int) -> Iterator[IO[bytes]]:
        try:
            file = self._path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError(key) from None
        with file:
            file.seek(start)
            yield file

    def _put(
        self, key: str, parts: Iterable[bytes], metadata: Mapping[str, str], etag: str | None, *, absent: bool
    ) -> str:
        """Write an object if the condition holds (see `Store.put`), and return the new etag."""
        path, unfinished = self._path(key), self.folder / self.own / "unfinished" / uuid.uuid4().hex
        try:
            with self._naming(key), _opened(unfinished) as file:
                self._fill(file, parts)
                return self._publish(key, path, file, metadata, etag, absent=absent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _publish(
        self, key: str, path: Path, file: IO[bytes], metadata: Mapping[str, str], wanted: str | None, *, absent: bool
    ) -> str:
        """If the condition holds, rename an unfinished file to the object's file. Return the object's etag."""
        self._flush(file)
        etag = _etag(os.fstat(file.fileno()))
        note = self._metadata(key, etag)
        if metadata:
            # The name of the metadata's file contains the etag. So after a crash before the rename, the old object
            # still has its old metadata.
            with _opened(note) as unfinished:
                unfinished.write(json.dumps(dict(metadata)).encode())
                self._flush(unfinished)
        # The file was flushed before locking, so that writers need not wait for each other's flush.
        with self._locked():
            before = self._stored(key, path)
            is_another = wanted is not None and (before is None or before.etag != wanted)
            # guard[False]: a conditional write to a folder is refused where the condition does not hold
            if is_another or (absent and before is not None):
                note.unlink(missing_ok=True)
                raise ConflictError(key)
            _rename(file.name, path)
            if before is not None:
                self._metadata(key, before.etag).unlink(missing_ok=True)
        if self.durable:
            _sync_folder(path.parent)
        return etag

    def _fill(self, file: IO[bytes], parts: Iterable[bytes]) -> None:
        sent = size = 0
        for part in parts:
            file.write(part)
            size += len(part)
            if self.durable and size - sent >= _AHEAD_BYTES and hasattr(os, "posix_fadvise"):
                file.flush()
                # POSIX_FADV_DONTNEED makes Linux begin to write these bytes, without waiting for the end.
                os.posix_fadvise(file.fileno(), sent, size - sent, os.POSIX_FADV_DONTNEED)
                sent = size

    def _flush(self, file: IO[bytes]) -> None:
        file.flush()
        if self.durable:
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _opened(self.folder / self.own / "lock") as file:  # closing the file releases the lock
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        """Convert an OSError to a StoreError that says which object cannot be written, and why."""
        try:
            yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            reason = f"{str(self.folder)!r} has a folder or file of that name"
            raise StoreError(key, reason) from None
        except OSError as error:
            raise StoreError(key, f"it cannot be written to {str(self.folder)!r}: {error.strerror}") from error


def _etag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def _opened(path: Path) -> IO[bytes]:
    """Open a file for writing; create the file's folder if the folder is missing."""
    with suppress(FileNotFoundError):
        return path.open("wb")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _rename(name: str, path: Path) -> None:
    """Rename a file; create the folder of the new name if the folder is missing."""
    try:
        os.replace(name, path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(name, path)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power failure. Some systems do not support this."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
