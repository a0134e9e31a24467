"""What a step put out, as messages with their lineage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from parcelq.lineage.lineage import Lineage, Span, new_digest
from parcelq.records.parcels import cut_for_messages
from parcelq.topics.message import ENTRIES, LINEAGE, SOURCE, WORKFLOW, Message
from parcelq.upload.files import ATTRIBUTE_ROOM, MAX_BODY_BYTES

_READ_BYTES: Final = 1 << 20


def output_messages(
    output: Path, lineage: Lineage | None, source: str, parcel_size: int, workflow_id: str
) -> Iterator[Message]:
    """Cut a step's output into messages.

    Args:
        output: the file that the step wrote.
        lineage: what the step's input stands for; None where that is not known.
        source: the source of that.
        parcel_size: most entries of a message.
        workflow_id: told as the attribute `Workflow`; empty for none.
    """
    total = output.stat().st_size
    named = {WORKFLOW: workflow_id} if workflow_id else {}
    if lineage is None:
        for _, _, data, entries in _pieces(output, parcel_size, MAX_BODY_BYTES):
            yield Message(data, {**named, ENTRIES: str(entries)})
        return
    named = {**named, SOURCE: source}
    # A long lineage, of many messages run together, takes its room from the body.
    room = MAX_BODY_BYTES - max(0, len(str(lineage)) + len(source) - ATTRIBUTE_ROOM // 2)
    digest = _digest(output)
    nothing = True
    for start, end, data, entries in _pieces(output, parcel_size, room):
        nothing = False
        child = lineage.child(Span(start, end, total), digest)
        yield Message(data, {**named, LINEAGE: str(child), ENTRIES: str(entries)})
    if nothing:  # so that the input counts as done
        yield Message(b"", {**named, LINEAGE: str(lineage.child(Span(0, 0, 0), digest)), ENTRIES: "0"})


def _pieces(output: Path, parcel_size: int, room: int) -> Iterator[tuple[int, int, bytes, int]]:
    with output.open("rb") as stream:
        for parcel in cut_for_messages(stream, parcel_size, room):
            yield parcel.start, parcel.end, parcel.data, parcel.entries


def _digest(output: Path) -> str:
    digest = new_digest()
    with output.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
