"""Bundles: ZIP archives with the files of a step or of its packages. A bundle's name is the SHA-256 of its bytes.

The same files always give the same archive, because the order, times and modes of the files are fixed. An archive is
unpacked only if its digest is right. Only regular files below the target folder are unpacked.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, NamedTuple

from parcelq.checks import Check, Wrong, checked, whole
from parcelq.errors import BundleError

MAX_FILES: Final = 100_000
MAX_UNPACKED_BYTES: Final = 10 * 1024**3
"""The size of the largest disk that a function can have:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""
_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP archive can store."""
_LEVEL: Final = 6
_BLOCK: Final = 1 << 20
_TOO_MUCH: Final = "more bytes than the bundle may have, with {!r}"
_DIGEST: Final = re.compile("[0-9a-f]{64}")


class Bundle(NamedTuple):
    """The facts about a bundle. `digest` is the SHA-256 of the archive, as 64 hexadecimal characters. `code` is the
    number of bytes of Python files, whose compiled files take about as many additional bytes.
    """

    digest: str
    size: int
    unpacked: int
    code: int
    files: int

    @property
    def room(self) -> int:
        """How many bytes the bundle takes on disk after its files are unpacked and compiled."""
        return self.unpacked + self.code

    @classmethod
    def parse(cls, document: object) -> Bundle:
        """Read the JSON form of a bundle. Raise `Wrong` if the JSON form is invalid."""
        values, problems = checked(document, _CHECKS, tuple(_CHECKS)) if isinstance(document, dict) else ({}, [""])
        if problems:
            raise Wrong("a bundle with digest, size, unpacked, code and files")
        return cls(**values)


def write_bundle(files: Mapping[str, Path], target: Path) -> Bundle:
    """Write the ZIP archive of a bundle, and return the facts about the bundle. Raises BundleError if there are too
    many files for an archive, or OSError if a file cannot be read or written.
    """
    if len(files) > MAX_FILES:
        raise BundleError(target.name, f"it would have {len(files)} files, more than {MAX_FILES}")
    unpacked = code = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3  # Unix, because Unix modes are set below
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as file:
                size = copied(source, file, MAX_UNPACKED_BYTES, target.name, _TOO_MUCH.format(name))
            unpacked += size
            code += size if name.endswith(".py") else 0
    with target.open("rb") as made:
        digest = hashlib.file_digest(made, "sha256").hexdigest()
    return Bundle(digest, target.stat().st_size, unpacked, code, len(files))


def unpack(archive: Path, bundle: Bundle, target: Path) -> None:
    """Unpack an archive into a new folder `target`, and compile its Python files. After an error, the folder may be
    incomplete.

    Raises BundleError if the archive does not match the bundle, is damaged, or contains anything except regular files
    below the target.
    """
    with archive.open("rb") as file:
        # guard[False]: a bundle is unpacked only if its digest is the expected one
        if hashlib.file_digest(file, "sha256").hexdigest() != bundle.digest:
            raise BundleError(bundle.digest, "its digest is not the one in its name; put the workflow again")
    target.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, bundle, target)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, zlib.error) as error:
        raise BundleError(bundle.digest, f"it is not a readable archive: {error}") from None
    _compile(target)


def _unpack(archive: zipfile.ZipFile, bundle: Bundle, target: Path) -> None:
    entries = archive.infolist()
    # guard[False]: a bundle has no more files than its version says
    if len(entries) != bundle.files:
        raise BundleError(bundle.digest, f"it has {len(entries)} files, but must have {bundle.files}")
    left = min(bundle.unpacked, MAX_UNPACKED_BYTES)
    for entry in entries:
        _check_entry(entry, bundle)
        name = entry.filename[:200]
        path = target / entry.filename
        mode = 0o755 if entry.external_attr >> 16 & 0o100 else 0o644
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise BundleError(bundle.digest, f"it has {name!r} twice") from None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise BundleError(bundle.digest, f"it has a name that is too long, {entry.filename[:40]!r} …") from None
        with os.fdopen(descriptor, "wb") as file, archive.open(entry) as source:
            # guard[left = 1 << 62]: a bundle unpacks to no more bytes than its version says
            left -= copied(source, file, left, bundle.digest, _TOO_MUCH.format(name))


def _check_entry(entry: zipfile.ZipInfo, bundle: Bundle) -> None:
    """Raise BundleError if an entry of an archive is not a regular file or would be outside the target."""
    name, kind = entry.filename, entry.external_attr >> 16
    parts = name.split("/")
    # guard[False]: a bundle writes nothing outside of its folder
    if any(part in {"", ".", ".."} for part in parts) or "\\" in name or "\0" in entry.orig_filename:
        raise BundleError(bundle.digest, f"it has a file {name[:200]!r}, whose path leaves the bundle")
    # guard[False]: a bundle has no links
    if stat.S_IFMT(kind) not in {0, stat.S_IFREG}:
        raise BundleError(bundle.digest, f"{name[:200]!r} in it is not a regular file")


def copied(source: IO[bytes], target: IO[bytes], most: int, bundle: str, what: str) -> int:
    """Copy a file, and return its size. If it has more than `most` bytes, raise BundleError with the text `what`."""
    size = 0
    while block := source.read(_BLOCK):
        size += len(block)
        if size > most:
            raise BundleError(bundle, f"it has {what}")
        target.write(block)
    return size


def _compile(folder: Path) -> None:
    """Compile the Python files that may be imported, so that no process compiles them later. Files of another version
    of Python stay unchanged.
    """
    import compileall
    import py_compile

    compileall.compile_dir(
        folder,
        maxlevels=100,
        quiet=2,
        rx=re.compile(f"{re.escape(str(folder))}.*/tests?/"),  # nobody imports the tests of packages
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise Wrong("a SHA-256 in 64 hexadecimal characters")
    return value


_CHECKS: Final[dict[str, Check]] = {
    "digest": _sha256,
    "size": whole(0, MAX_UNPACKED_BYTES),
    "unpacked": whole(0, MAX_UNPACKED_BYTES),
    "code": whole(0, MAX_UNPACKED_BYTES),
    "files": whole(0, MAX_FILES),
}
