"""Names of results and of the files beside them. They are derived only here, from the source's name alone.

Each source is named without knowing the others, so the rule alone must give different names to different sources:

- A result has the name of its source, and the files beside it add the endings `.report.json`, `.report.html`,
  `.dead.jsonl` and `.steps.log`.
- A name with one of `ENDINGS` gets `.result` added: the endings that Parcelq adds itself, those of compressed files (a
  result is not compressed), and `.result`. So the result of `x.gz` is `x.gz.result`, and never that of `x`.
- The folders of `FOLDERS` belong to Parcelq. A source below one of that name goes to `<name>.result/`.
- If a part of a path is too long or not UTF-8, it keeps its beginning and gets `~<digest>.result` added. The same holds
  for a whole path that is too long.

So no two names give the same result: a name that ends in `.result` was changed, or had that ending and got another one.
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
"""Ending of the folder beside a download that contains its segments until it is complete."""
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")
"""Endings (case does not matter) of sources that are decompressed."""
ENDINGS: Final = (REPORT, PAGE, DEAD, PRINTED, UNFINISHED, PIECES, *COMPRESSED)

STATE: Final = ".parcelq"
"""Folder, in a folder of results, for Parcelq's own state."""
LOGS: Final = f"{STATE}/logs"
WITHOUT_LINEAGE: Final = "without-lineage"
"""Folder of messages that cannot be part of a result."""
ELSEWHERE: Final = "elsewhere"
"""Folder of results whose sources are outside the inbox; below it comes the source's whole address."""
_STORE: Final = ".store"
"""Folder for the internal files of `FolderStore`."""
FOLDERS: Final = frozenset({STATE, WITHOUT_LINEAGE, ELSEWHERE, _STORE})

_CHANGED: Final = ".result"
_ADDED: Final = 64
"""Bytes reserved after a name, for `.report.json` and for what a store adds while it writes: `FolderStore` up to 50."""
_DIGEST_BYTES: Final = 12


class ResultNames(NamedTuple):
    """The names of the result of a source and of the files beside it.

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
        """Path of the log of the output that the steps printed."""
        return self.result + PRINTED

    @property
    def all(self) -> tuple[str, ...]:
        """All five, the result first."""
        return self.result, self.report, self.page, self.dead, self.printed


def result_names(name: str, prefix: str = "") -> ResultNames:
    """Derive the names for one source.

    Args:
        name: the source's name: its key below the inbox, or the file's name. Bytes that are not UTF-8 are surrogates,
            as in Python's file names.
        prefix: the start of every name, such as `results/`; empty for a folder.

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
        given: the user's names for the sources, such as paths.
        names: the base of the name of each result; by default the last part of the user's name.

    Raises:
        InvalidValueError: two would have the same result; the message names both.
    """
    given = list(given)
    found: dict[str, str] = {}
    for one, name in zip(given, names or [one.rpartition("/")[2] for one in given], strict=True):
        result = result_names(name).result
        if result in found:
            wanted = f"a file with another name than {found[result]!r}: both results would have the name {result!r}"
            raise InvalidValueError("file", one, wanted)
        found[result] = one


def _part(part: str, endings: tuple[str, ...], *, reserved: bool) -> str:
    """Return one part of a path, changed if the rule says so."""
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
