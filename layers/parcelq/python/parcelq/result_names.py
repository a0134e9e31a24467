"""Names of results and of the files beside them: worked out here and nowhere else, from the source's name alone.

Sources come one at a time and cannot see each other, so the rule must keep any two of them apart by itself. It is:

- A result is called like its source, and the files beside it have the endings `.report.json`, `.report.html`,
  `.dead.jsonl` and `.steps.log` after that.
- A name with one of `ENDINGS` gets `.result` behind it: the endings that Parcelq adds itself, those of compressed files
  (a result is not compressed), and `.result`. So the result of `x.gz` is `x.gz.result`, and never that of `x`.
- The folders of `FOLDERS` belong to Parcelq. A source below one of that name goes to `<name>.result/`.
- A part of a path that is too long, or is not UTF-8, keeps its beginning and gets `~<digest>.result` behind it. A whole
  path that is too long does too.

No two names lead to the same one: whatever ends in `.result` was changed, or had that ending and got another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_FILE_NAME_BYTES, MAX_KEY_BYTES

REPORT: Final = ".report.json"
PAGE: Final = ".report.html"
DEAD: Final = ".dead.jsonl"
PRINTED: Final = ".steps.log"
UNFINISHED: Final = ".part"
"""Ending of a file that is still being written."""
PIECES: Final = ".parts"
"""Ending of the folder beside a download in which its pieces are kept until it is whole."""
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")
"""Endings, in any case of letters, of sources that are read decompressed."""
ENDINGS: Final = (REPORT, PAGE, DEAD, PRINTED, UNFINISHED, PIECES, *COMPRESSED)

STATE: Final = ".parcelq"
"""Folder, in a folder of results, of what Parcelq keeps there for itself."""
LOGS: Final = f"{STATE}/logs"
WITHOUT_LINEAGE: Final = "without-lineage"
"""Folder of messages that can be part of no result."""
ELSEWHERE: Final = "elsewhere"
"""Folder of results whose sources are not in the inbox beside them; below it comes the source's whole address."""
_STORE: Final = ".store"
"""Folder of what `FolderStore` keeps for itself."""
FOLDERS: Final = frozenset({STATE, WITHOUT_LINEAGE, ELSEWHERE, _STORE})

_CHANGED: Final = ".result"
_ADDED: Final = 64
"""Bytes kept free behind a name, for `.report.json` and what a store adds while it writes: `FolderStore` up to 50."""
_DIGEST_BYTES: Final = 12


class ResultNames(NamedTuple):
    """Where the result of one source goes, and the files beside it.

    Attributes:
        result: path of the result below the folder of results; with its prefix, the key in a bucket.
    """

    result: str

    @property
    def report(self) -> str:
        """Path of the report, as JSON."""
        return self.result + REPORT

    @property
    def page(self) -> str:
        """Path of the report, as a page."""
        return self.result + PAGE

    @property
    def dead(self) -> str:
        """Path of the list of dead entries."""
        return self.result + DEAD

    @property
    def printed(self) -> str:
        """Path of the log of what the steps printed."""
        return self.result + PRINTED

    @property
    def all(self) -> tuple[str, ...]:
        """All five, the result first."""
        return self.result, self.report, self.page, self.dead, self.printed


def result_names(name: str, prefix: str = "") -> ResultNames:
    """Work out the names for one source.

    Args:
        name: the source's name: its key below the inbox, or the file's name. Bytes that are not UTF-8 are surrogates,
            as in Python's own file names.
        prefix: what every name starts with, such as `results/`; empty for a folder.

    Raises:
        InvalidValueError: the prefix leaves no room for names.
    """
    room = MAX_KEY_BYTES - _ADDED - len(prefix.encode())
    if room < MAX_FILE_NAME_BYTES:
        longest = MAX_KEY_BYTES - _ADDED - MAX_FILE_NAME_BYTES
        raise InvalidValueError("folder of results", prefix, f"a prefix of at most {longest} bytes")
    *folders, file = name.split("/")
    parts = [_part(part, (), reserved=number == 0) for number, part in enumerate(folders)]
    parts.append(_part(file, ENDINGS, reserved=not folders))
    whole = "/".join(parts)
    return ResultNames(prefix + (whole if len(whole.encode()) <= room else _shortened(name, whole, room)))


def check_distinct(given: Iterable[str], names: Iterable[str] | None = None) -> None:
    """Check that the results of sources in one command have different names.

    Args:
        given: what the user calls the sources, such as paths.
        names: what the result of each is called after; by default the last part of what the user calls it.

    Raises:
        InvalidValueError: two have the same result; the sentence names both.
    """
    given = list(given)
    found: dict[str, str] = {}
    for one, name in zip(given, names or [one.rpartition("/")[2] for one in given], strict=True):
        result = result_names(name).result
        if result in found:
            wanted = f"a file with another name than {found[result]!r}: both results would be called {result!r}"
            raise InvalidValueError("file", one, wanted)
        found[result] = one


def _part(part: str, endings: tuple[str, ...], *, reserved: bool) -> str:
    """One part of a path, changed where the rule says so."""
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
    """The beginning of a text, and a digest of the name that makes it unique; at most `longest` bytes."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES).hexdigest()
    ending = f"~{digest}{_CHANGED}"
    text = shown.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "_")
    return text.encode()[: longest - len(ending)].decode("utf-8", "ignore") + ending
