"""Derives the names of a result and of the files beside it. Only this module does so, from the source's name alone.

No result's name depends on another source, so the following rules must give different names to different sources:

- A result has the name of its source. The files beside the result have this name and the endings `.report.json`,
  `.report.html`, `.dead.jsonl` and `.steps.log`.
- A name that ends in `.result` or in one of `ENDINGS` gets `.result` added. `ENDINGS` has the endings that Parcelq adds
  and the endings of compressed files, because a result is not compressed. So the result of `x.gz` is `x.gz.result`, and
  never equals the result of `x`.
- The folders of `FOLDERS` belong to Parcelq. If a source's name begins with such a folder, the result is in
  `<folder>.result/`.
- If a part of a path is too long or not UTF-8, the part keeps its beginning and gets `~<digest>.result` added. A whole
  path that is too long is shortened in the same way.

So no two sources give the same name: a name that ends in `.result` was changed, and the name of a source that already
ended in `.result` got another `.result`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_FILE_NAME_BYTES, MAX_KEY_BYTES

REPORT: Final = ".report.json"
PAGE: Final = ".report.html"
DEAD: Final = ".dead.jsonl"
PRINTED: Final = ".steps.log"
UNFINISHED: Final = ".part"
"""The ending of a file that is still being written."""
PIECES: Final = ".parts"
"""The ending of the folder beside a download; the folder contains the download's segments until all are there."""
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")
"""The endings (case does not matter) of sources that are decompressed."""
ENDINGS: Final = (REPORT, PAGE, DEAD, PRINTED, UNFINISHED, PIECES, *COMPRESSED)

STATE: Final = ".parcelq"
"""The name of the folder with Parcelq's own state, in a folder of results."""
WITHOUT_LINEAGE: Final = "without-lineage"
"""The name of the folder with messages that cannot be part of a result."""
ELSEWHERE: Final = "elsewhere"
"""The folder for results of sources outside the inbox. The path below this folder is the source's whole address."""
_STORE: Final = ".store"
"""The name of the folder for the internal files of `FolderStore`."""
FOLDERS: Final = frozenset({STATE, WITHOUT_LINEAGE, ELSEWHERE, _STORE})

_CHANGED: Final = ".result"
_ADDED: Final = 64
"""How many bytes are reserved for `.report.json` and for what a store adds while it writes (at most 50)."""
_DIGEST_BYTES: Final = 12


class ResultNames(NamedTuple):
    """The names of the result of a source and of the files beside it: paths below a folder, or keys in a bucket."""

    result: str
    report: str
    page: str
    dead: str
    printed: str


def result_names(name: str, prefix: str = "") -> ResultNames:
    """Derive the names of the result of one source and of the files beside it.

    Args:
        name: the source's name: the object's key below the inbox, or the file's name. Bytes that are not UTF-8 are
            surrogates, as in Python's file names.
        prefix: the start of every name, such as `results/`; empty for a folder.

    Raises:
        InvalidValueError: if the prefix is so long that the names would be too long.
    """
    room = MAX_KEY_BYTES - _ADDED - len(prefix.encode())
    if room < MAX_FILE_NAME_BYTES:
        longest = MAX_KEY_BYTES - _ADDED - MAX_FILE_NAME_BYTES
        raise InvalidValueError("folder of results", prefix, f"a prefix of at most {longest} bytes")
    *folders, file = name.split("/")
    parts = [_part(part, (), reserved=number == 0) for number, part in enumerate(folders)]
    parts.append(_part(file, ENDINGS, reserved=not folders))
    whole = "/".join(parts)
    result = prefix + (whole if len(whole.encode()) <= room else _shortened(name, whole, room))
    return ResultNames(*(result + ending for ending in ("", REPORT, PAGE, DEAD, PRINTED)))


def check_distinct(given: Iterable[str], names: Iterable[str] | None = None) -> None:
    """Check that the results of sources in one command have different names.

    The results' names are derived from `names`, by default the last parts of the names that the user gave.

    Raises:
        InvalidValueError: if two results would have the same name, or if a file beside one result would have the name
            of a folder that another result needs; the error message names both sources.
    """
    given = list(given)
    results: dict[str, str] = {}
    files: dict[str, str] = {}
    for one, name in zip(given, names or [one.rpartition("/")[2] for one in given], strict=True):
        found = result_names(name)
        if found.result in results:
            both = f"both results would have the name {found.result!r}"
            other = f"a file with another name than {results[found.result]!r}: {both}"
            raise InvalidValueError("file", one, "given only once" if results[found.result] == one else other)
        results[found.result] = one
        files |= dict.fromkeys(found, one)
    for result, one in results.items():
        for folder in map(str, PurePosixPath(result).parents):
            if folder in files:
                wanted = f"in a folder with another name: the result of {files[folder]!r} needs a file {folder!r}"
                raise InvalidValueError("file", one, wanted)


def _part(part: str, endings: tuple[str, ...], *, reserved: bool) -> str:
    """Return one part of a path, after changing the part as the rules of this module require."""
    lowered = part.lower()
    taken = part.endswith(_CHANGED) or lowered.endswith(endings) or (reserved and part in FOLDERS)
    changed = part + _CHANGED if taken else part
    longest = MAX_FILE_NAME_BYTES - _ADDED
    try:
        fits = len(changed.encode()) <= longest
    except UnicodeEncodeError:  # some of its bytes are not UTF-8
        fits = False
    return changed if fits else _shortened(part, part, longest)


def _shortened(name: str, shown: str, longest: int) -> str:
    """Return at most `longest` bytes: the beginning of a text, and a digest of the name that makes the text unique."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES).hexdigest()
    ending = f"~{digest}{_CHANGED}"
    text = shown.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "_")
    return text.encode()[: longest - len(ending)].decode("utf-8", "ignore") + ending
