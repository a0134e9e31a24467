"""`parcelq dead` and `parcelq topics redrive`: list dead entries with their reasons, and send dead letters back."""

from __future__ import annotations

import base64
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple

import typer
from parcelq.amounts import amount
from parcelq.errors import AwsError, ParcelqError
from parcelq.escaping import one_line
from rich.text import Text

from parcelq_cli import clients
from parcelq_cli.jobs import SHOWN, jobs_in, list_dead
from parcelq_cli.options import RESULTS, AnyStack, ResultsFolder, Topic, WrongUsageError
from parcelq_cli.output import Output, with_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from parcelq.lineage.lineage import Lineage
    from parcelq.lineage.source import Source
    from parcelq.readable import Readable
    from parcelq.topics.message import Pulled
    from parcelq.topics.overflow import Overflow


@with_output
def dead(
    output: Output,
    job: Annotated[
        str, typer.Argument(metavar="JOB|TOPIC", help="Id of a job, or name or URL of a topic.", show_default=False)
    ] = "",
    topic: Annotated[
        str, typer.Option(metavar="TOPIC", help="A topic, even if its name looks like a job's id.", show_default=False)
    ] = "",
    results: ResultsFolder = RESULTS,
    stack: AnyStack = "",
) -> None:
    """List dead entries, which failed for good: those of a job, or the dead letters of a topic.

    Shows for each dead entry its file or source, its record or line, its content, and why it failed. With --json each
    line is an object with the whole entry. For a topic, the member "encoding" says whether the entry is text or, if it
    is not UTF-8, base64.
    """
    from parcelq.lineage.source import Source, is_job_id

    if bool(job) == bool(topic):
        raise WrongUsageError("give either the id of a job or a topic")
    if stack:
        from parcelq.stack.lookup import look_up

        if topic:
            raise WrongUsageError("--stack is for the id of a job; for a topic give only its name")
        jobs = look_up(stack).jobs
        record = jobs.find(job)
        list_dead(output, record.id, Source.parse(record.source).name, jobs.dead(record.id))
    elif job and is_job_id(job):
        here = jobs_in(results)
        kept = here.find(job)
        list_dead(output, kept.id, kept.paths, here.dead(kept.id))
    else:
        try:
            _list_dead_letters(output, topic or job)
        except AwsError:
            if job:
                output.note(f"{job!r} is not the id of a job (6 to 24 hexadecimal digits), so it is taken for a topic")
            raise


def _list_dead_letters(output: Output, topic: str) -> None:
    from parcelq.process.redrive import peek
    from parcelq.topics.sqs import SqsTopic

    topics = clients.topics()
    found = [(one, _Place.of(one)) for one in peek(SqsTopic(topics.sqs, topics.dead_letters_of(topic)))]
    lines = _line_numbers(place for _, place in found if place)
    overflow = clients.overflow("")
    for message, place in found:
        body, problem = body_of(message, overflow)
        line = lines.get(place) if place and place.is_right(body) else None
        document = _document(message, place, line, body, problem)
        where, reason = f"{document['source'] or 'no source'}, line {line or 'unknown'}", document["reason"]
        output.result(document, Text.assemble((one_line(where), "bold"), f": {shown(body, problem)}: {reason}"))
    output.note(amount(len(found), "dead letter"))


@with_output
def redrive(
    output: Output,
    topic: Topic,
    only: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="Send back only this message; the option may be repeated."),
    ] = None,
) -> None:
    """Send dead letters back to their topic, to be processed again.

    Without --id, all dead letters of the topic are sent back.
    """
    from parcelq.process.redrive import redrive as send_back
    from parcelq.topics.sqs import SqsTopic

    topics = clients.topics()
    chosen = frozenset(only) if only else None
    dead_letters, source = (SqsTopic(topics.sqs, url, clients.overflow("")) for url in topics.redrive_urls(topic))
    moved = send_back(dead_letters, source, chosen, looks=clients.looks(source))
    output.result({"redriven": moved}, f"sent {amount(moved, 'message')} back to {topic}")
    if chosen and moved < len(chosen):
        raise ParcelqError(f"not sent back: {len(chosen) - moved} of {len(chosen)} chosen; see parcelq dead {topic}")


class _Place(NamedTuple):
    """The origin of a dead letter: the source, and the bytes of the source that the message covers."""

    source: Source
    lineage: Lineage

    @classmethod
    def of(cls, message: Pulled) -> _Place | None:
        """Return the origin of a message; None if the message's attributes do not name the origin."""
        from parcelq.errors import InvalidValueError, LineageError
        from parcelq.lineage.lineage import Lineage
        from parcelq.lineage.source import Source
        from parcelq.topics.attributes import LINEAGE, SOURCE

        source, lineage = (message.attributes.get(name, "") for name in (SOURCE, LINEAGE))
        try:
            return cls(Source.parse(source), Lineage.parse(lineage))
        except (InvalidValueError, LineageError):
            return None

    def is_right(self, body: bytes | None) -> bool:
        """Return whether the source is unchanged since the message was made, as far as this can be checked.

        S3 checks objects itself. For a file, the size is checked, and the file's bytes are compared with the message's
        unless the message is the output of a step. A pipe cannot be read again.
        """
        if self.source.bucket:
            return True
        root = self.lineage.root
        with suppress(OSError, ValueError), _file(self.source) as file:
            file.seek(root.start)
            same = bool(self.lineage.outputs) or file.read(root.end - root.start) == body
            return same and root.total in {None, file.seek(0, 2)}
        return False


def body_of(message: Pulled, overflow: Overflow) -> tuple[bytes | None, str]:
    """Return the decoded body of a message, which may be in S3; or None and the reason if it cannot be read."""
    try:
        return overflow.load(message).message().body, ""
    except ParcelqError as error:
        return None, str(error)


def _document(
    message: Pulled, place: _Place | None, line: int | None, body: bytes | None, problem: str
) -> dict[str, Any]:
    from parcelq.process.dead import NO_REASON, failure_of
    from parcelq.records import LINES
    from parcelq.topics.attributes import ENTRIES, LINEAGE, REASON, SOURCE, WORKFLOW, parse_count

    attributes = message.attributes
    failure = failure_of(attributes)
    entry, encoding = _encoded(body)
    counted = None if body is None else LINES.count(body)
    count = parse_count(attributes.get(ENTRIES, ""))
    return {
        "message_id": message.message_id,
        "source": attributes.get(SOURCE, "").partition("?")[0],
        "version": (place.source.version or place.source.put) if place else "",
        "line": line,
        "start": place.lineage.root.start if place else None,
        "end": place.lineage.root.end if place else None,
        "lineage": attributes.get(LINEAGE, ""),
        "entries": counted if count is None else count,
        "entry": entry,
        "encoding": encoding,
        **({"problem": problem} if problem else {}),
        "reason": attributes.get(REASON, NO_REASON),
        "step": failure.get("step", ""),
        "workflow": attributes.get(WORKFLOW, ""),
        "failed_at": failure.get("when", ""),
        "runs": failure.get("runs"),
    }


def _encoded(body: bytes | None) -> tuple[str | None, str | None]:
    """Return bytes as text for JSON, and the name of the encoding of that text."""
    if body is None:
        return None, None
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode("ascii"), "base64"


def shown(body: bytes | None, problem: str) -> str:
    """Return the beginning of a message's first entry, quoted as Python does."""
    if body is None:
        return problem
    first, _, others = body.partition(b"\n")
    text: str | bytes = first
    with suppress(UnicodeDecodeError):
        text = first.decode()
    return repr(text[:SHOWN]) + " …" * (len(text) > SHOWN or bool(others))


def _file(source: Source) -> BinaryIO:
    if not os.path.isfile(source.key):
        raise FileNotFoundError(source.key)
    return open(source.key, "rb")


def _line_numbers(every: Iterable[_Place]) -> dict[_Place, int]:
    """Return the line number of each dead letter, except for unreadable and changed sources."""
    from parcelq.records import LINES, places

    by_source: dict[Source, list[_Place]] = {}
    for place in every:
        by_source.setdefault(place.source, []).append(place)
    numbers: dict[_Place, int] = {}
    for source, some in by_source.items():
        # If the source was deleted or cannot be read, the dead letters are listed without line numbers.
        with suppress(ParcelqError, OSError, ValueError), _opened(source) as stream:
            found = places(stream, LINES, [one.lineage.root.start for one in some]) if stream else {}
            numbers |= {one: at.line for one in some if (at := found.get(one.lineage.root.start))}
    return numbers


@contextmanager
def _opened(source: Source) -> Iterator[Readable | None]:
    from parcelq.records.compression import open_source
    from parcelq.upload.puts import opened

    if source.bucket:
        with opened(clients.bucket(source.bucket), source) as stream:
            yield stream
    else:
        with _file(source) as file:
            yield open_source(file, source.key).stream
