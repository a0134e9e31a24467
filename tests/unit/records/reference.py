"""Splitting bytes into entries one by one, as simply as can be: what the library's results are compared with."""

from __future__ import annotations

from io import BytesIO

from parcelq.records import Format, RangeReader, flips
from parcelq.records.delimited import Delimited
from parcelq.records.ends import Ends
from parcelq.records.fastq import Fastq
from parcelq.records.lines import Lines
from parcelq.records.starts import Starts


class Dribble:
    """A stream that gives fewer bytes than asked for, as sockets and decompressors do."""

    def __init__(self, data: bytes, most: int) -> None:
        self.rest = BytesIO(data)
        self.most = most

    def read(self, size: int, /) -> bytes:
        return self.rest.read(min(size, self.most))


def lines_of(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def entries_of(data: bytes, fmt: Format) -> list[bytes]:
    """The entries of bytes, the last one whether it has an end or not."""
    made: list[list[bytes]] = []
    ended = True
    for line in lines_of(data):
        if isinstance(fmt, Starts):
            ended = line.startswith(fmt.text)
        if ended or not made:
            made.append([])
        made[-1].append(line)
        if isinstance(fmt, Starts):
            continue
        if isinstance(fmt, Ends):
            ended = line.startswith(fmt.text) and line.endswith(b"\n")
        elif isinstance(fmt, Delimited):
            ended = b"".join(made[-1]).count(b'"') % 2 == 0
        else:
            size = 4 if isinstance(fmt, Fastq) else fmt.size if isinstance(fmt, Lines) else 1
            ended = len(made[-1]) == size and line.endswith(b"\n")
    many = isinstance(fmt, Ends | Fastq) or (isinstance(fmt, Lines) and fmt.size > 1)
    if many and len(made) > 1 and not ended and not b"".join(made[-1]).strip():
        blank = made.pop()
        made[-1] += blank
    return [b"".join(lines) for lines in made]


def ranges_of(data: bytes, fmt: Format, sizes: list[int], origin: int = 0) -> list[tuple[RangeReader, bytes]]:
    """Read a source range by range."""
    made, start, inside, number = [], 0, False, 0
    while start < len(data):
        end = min(len(data), start + sizes[number % len(sizes)])
        reader = RangeReader(
            Dribble(data[max(0, start - 1) :], 1 + sizes[0] % 7), fmt, start, end, origin=origin, inside=inside
        )
        content = b""
        while block := reader.read(5):
            content += block
        made.append((reader, content))
        inside ^= flips(BytesIO(data[start:end]), fmt)
        start, number = end, number + 1
    return made
