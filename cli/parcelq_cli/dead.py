"""`parcelq dead` and `parcelq topics redrive`: what failed for good, why, and another try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from parcelq_cli import clients
from parcelq_cli.options import Topic
from parcelq_cli.output import Output, amount, with_output

if TYPE_CHECKING:
    from parcelq.message import Pulled


@with_output
def dead(output: Output, topic: Topic) -> None:
    """List the dead letters of a topic: source, line, entry, and why it failed."""
    from parcelq.names import dead_letter
    from parcelq.redrive import peek

    topics = clients.topics()
    letters = peek(topics.sqs, topics.url(dead_letter(topic)))
    lines = _line_numbers(letters)
    for letter in letters:
        document = _document(letter, lines.get(letter.message_id))
        where = f"{document['source'] or 'no source'}, line {document['line'] or 'unknown'}"
        text = Text.assemble((where, "bold"), f": {document['entry'][:80]!r}: {document['reason']}")
        output.result(document, text)
    output.note(amount(len(letters), "dead letter"))


@with_output
def redrive(
    output: Output,
    topic: Topic,
    only: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only this message; may be given several times.")
    ] = None,
) -> None:
    """Send dead letters back to their topic, to be tried again: all of them, or a chosen few."""
    from parcelq.names import dead_letter
    from parcelq.redrive import redrive as send_back

    topics = clients.topics()
    moved = send_back(topics.sqs, topics.url(dead_letter(topic)), topics.url(topic), frozenset(only) if only else None)
    output.result({"redriven": moved}, f"sent {amount(moved, 'message')} back to {topic}")


def _document(letter: Pulled, line: int | None) -> dict[str, Any]:
    from parcelq.dead import FAILED_AT, REASON, STEP
    from parcelq.message import ENTRIES, LINEAGE, SOURCE, UNTOLD

    attributes = letter.attributes
    return {
        "message_id": letter.message_id,
        "source": attributes.get(SOURCE, "").partition("?")[0],
        "line": line,
        "lineage": attributes.get(LINEAGE, ""),
        "entries": attributes.get(ENTRIES, ""),
        "entry": next(iter(letter.wire.text.splitlines()), ""),
        "reason": attributes.get(REASON, UNTOLD),
        "step": attributes.get(STEP, ""),
        "failed_at": attributes.get(FAILED_AT, ""),
    }


def _line_numbers(letters: list[Pulled]) -> dict[str, int]:
    """The line of its source that a letter starts at, by the letter's id, where the source can still be read."""
    from collections import defaultdict
    from pathlib import Path

    from parcelq.errors import AwsError
    from parcelq.lineage import Span
    from parcelq.message import Message
    from parcelq.names import Source
    from parcelq.plan import Work
    from parcelq.status import line_numbers
    from parcelq.store import BucketStore, FolderStore, Store

    starts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for letter in letters:
        work = Work.of(letter, Message(b"", {**letter.attributes, "Dead": "yes"}))
        if work.lineage and isinstance(work.lineage.root, Span):
            starts[work.source][letter.message_id] = work.lineage.root.start
    numbers: dict[str, int] = {}
    for text, by_id in starts.items():
        source = Source.parse(text)
        store: Store = BucketStore(clients.s3(), source.bucket) if source.bucket else FolderStore(Path("/"))
        try:
            found = {} if source.is_gzip else line_numbers(store, source.key.removeprefix("/"), by_id.values())
        except (AwsError, OSError):
            continue  # it is gone; the lineage still tells the bytes
        numbers.update({one: found[start] for one, start in by_id.items() if start in found})
    return numbers
