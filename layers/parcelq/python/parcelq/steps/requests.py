"""The supervisor's side of its socket: reads requests and sends replies. It imports nothing slow."""

from __future__ import annotations

import os

from parcelq.steps.stream import READ_BYTES


class Gone(Exception):  # noqa: N818 - the end of this process, not an error
    """The process that started this one has ended."""


def read_request(control: int) -> list[bytes]:
    """Read the fields of the next request, which arrives only after the reply to the one before. Raises Gone."""
    data = _received(control)
    while b"\n" not in data:
        data += _received(control)
    head, _, fields = data.partition(b"\n")
    while len(fields) < int(head):
        fields += _received(control)
    return fields.split(b"\0")[:-1]


def send_reply(control: int, replies: list[bytes]) -> None:
    """Send the reports of the runs of a request. Raises OSError if the other side is gone."""
    data = b"".join(replies)
    data = b"%d\n%b" % (len(data), data)
    while data:
        data = data[os.write(control, data) :]


def size_of(path: str) -> int:
    """Return the size of the output so far; 0 while there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0


def state_of(folder: str) -> list[object]:
    """Return the content and identity of a run's folder, which show whether the run left it unchanged."""
    found: list[object] = []
    try:
        for path in (folder, folder + "/work", folder + "/tmp"):  # nosec B108 # a folder of its own
            about = os.lstat(path)
            found += [about.st_ino, about.st_mode, about.st_uid, os.listdir(path)]
    except OSError as error:
        found.append(error.errno)
    return found


def files_of(home: str) -> list[tuple[int, int]]:
    """Return the identity of the files of a warm process's outputs; empty if one does not exist."""
    try:
        return [(one.st_dev, one.st_ino) for one in (os.lstat(home + "/output"), os.lstat(home + "/rejects"))]
    except OSError:
        return []


def _received(control: int) -> bytes:
    data = os.read(control, READ_BYTES)
    if not data:
        raise Gone
    return data
