"""`parcelq publish` and `parcelq pull`: publish and pull single messages."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from parcelq.amounts import amount
from parcelq.aws.text import legal_text
from parcelq.errors import MessageError, ParcelqError
from parcelq.limits import MAX_LONG_POLL_SECONDS, MAX_REQUEST_MESSAGES
from parcelq.local_files import check_readable
from parcelq.topics.message import Message, Pulled

from parcelq_cli import clients
from parcelq_cli.options import Attributes, Bucket, Topic, WrongUsageError, attributes_of
from parcelq_cli.output import Output, with_output

if TYPE_CHECKING:
    from parcelq.topics.sqs import SqsTopic

_STDIN: Final = "-"


@with_output
def publish(
    out: Output,
    topic: Topic,
    body: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BODY",
            help="The body of a message; a single - makes a message of each line of stdin.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file; each of its lines becomes a message.", show_default=False),
    ] = None,
    attribute: Attributes = None,
    bucket: Bucket = None,
) -> None:
    """Publish messages, one message for each BODY or line.

    To publish the lines of a file as parcels, use upload.
    """
    attributes = attributes_of(attribute)
    bodies = body or []
    if bool(bodies) == bool(file):
        raise WrongUsageError("give either a BODY, or - for stdin, or --file")
    if "" in bodies or (_STDIN in bodies and len(bodies) > 1):
        raise WrongUsageError("no BODY may be empty, and - must be the only argument")
    with _opened(bodies, file) as data:
        target = clients.topic(topic, bucket or "")
        messages = (Message(one, attributes) for one in data)
        if len(bodies) == 1 and bodies != [_STDIN]:
            _publish_one(out, target, next(messages))
        else:
            _publish_many(out, target, messages)


def _publish_one(out: Output, topic: SqsTopic, message: Message) -> None:
    message_id = topic.publish_one(message)
    out.result({"published": 1, "failed": [], "message_id": message_id}, f"published {message_id}")


def _publish_many(out: Output, topic: SqsTopic, messages: Iterable[Message]) -> None:
    with out.progress("publishing") as report:
        published, failed = topic.publish(_counted(messages, report))
    out.result(
        {"published": published, "failed": [{"code": one.code, "reason": one.reason} for one in failed]},
        f"published {amount(published, 'message')}",
    )
    if failed:
        raise ParcelqError(f"not published: {amount(len(failed), 'message')}; reason of the first: {failed[0].reason}")


@with_output
def pull(
    out: Output,
    topic: Topic,
    least: Annotated[int, typer.Option("--min", min=1, help="Return as soon as this many messages have arrived.")] = 1,
    most: Annotated[
        int | None,
        typer.Option(
            "--max", min=1, help="The most messages to pull.", show_default=f"{MAX_REQUEST_MESSAGES}, or --min"
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(min=0, help="How many seconds to wait for --min messages; then the messages so far are printed."),
    ] = MAX_LONG_POLL_SECONDS,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Acknowledge the messages after printing them.")
    ] = False,
) -> None:
    """Pull messages and print their bodies.

    Bodies that are text are printed unchanged, all other bodies as base64. Without --acknowledge the messages are
    delivered again after the topic's acknowledgement deadline. With --json each line is an object: message_id,
    receive_count, attributes, and body or body_base64. On a terminal, control characters are escaped.
    """
    most = max(least, MAX_REQUEST_MESSAGES) if most is None else most
    if most < least:
        raise WrongUsageError(f"--max is {most}, but must be at least --min ({least})")
    source = clients.topic(topic)
    with out.progress("pulling"):
        pulled = source.pull(least, most, timeout)
    if not pulled:
        out.note(f"no message arrived within {timeout:g} seconds")
    printed = [one for one in pulled if _print(out, source, one)]
    lost = source.acknowledge(printed) if acknowledge else []
    if lost:
        raise ParcelqError(
            f"not acknowledged: {len(lost)} of {amount(len(printed), 'message')}; they will be delivered again"
        )
    if len(printed) < len(pulled):
        raise ParcelqError(f"not readable: {len(pulled) - len(printed)} of {amount(len(pulled), 'message')}")


def _print(out: Output, topic: SqsTopic, pulled: Pulled) -> bool:
    """Print a message, and return whether the message was readable."""
    try:
        message = topic.read(pulled)
    except MessageError as error:
        out.note(f"message {pulled.message_id} cannot be read: {error}")
        return False
    text = legal_text(message.body)
    encoded = base64.b64encode(message.body)
    body = {"body_base64": encoded.decode("ascii")} if text is None else {"body": text}
    about = {"message_id": pulled.message_id, "receive_count": pulled.receive_count}
    shown = encoded if text is None else message.body
    ended = shown if not shown or shown.endswith(b"\n") else shown + b"\n"
    out.result({**about, "attributes": dict(message.attributes), **body}, ended)
    return True


@contextmanager
def _opened(bodies: list[str], file: Path | None) -> Iterator[Iterator[bytes]]:
    """Yield the arguments, or the lines of a file with their line ends, so that an empty line is an entry too."""
    if file is None and bodies != [_STDIN]:
        yield map(os.fsencode, bodies)
    elif file is None:
        if sys.stdin is None:
            raise ParcelqError("stdin is closed, so no lines can be read from it")
        yield iter(sys.stdin.buffer)
    else:
        check_readable(file)
        with file.open("rb") as lines:
            yield iter(lines)


def _counted(messages: Iterable[Message], report: Callable[[str], None]) -> Iterator[Message]:
    for number, message in enumerate(messages, 1):
        report(amount(number, "message"))
        yield message
