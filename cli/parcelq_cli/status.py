"""`parcelq status` and `parcelq repair`: how far sources are, and publishing again what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from parcelq.errors import ParcelqError
from rich.text import Text

from parcelq_cli import clients
from parcelq_cli.options import ParcelSize
from parcelq_cli.output import Output, amount, with_output

if TYPE_CHECKING:
    from parcelq.status import Status

_BAR: Final = 20
Bucket = Annotated[str, typer.Option(help="The stack's bucket.", show_default=False)]
OutputTopic = Annotated[str, typer.Option("--topic", help="Name of the topic that results are collected from.")]


@with_output
def status(
    output: Output,
    bucket: Bucket,
    source: Annotated[str, typer.Argument(help="Only sources whose name has this in it.")] = "",
    topic: OutputTopic = "parcelq-output",
) -> None:
    """Tell how far the sources are that have no whole result yet, as of the last time results were collected."""
    found = _statuses(bucket, topic, source)
    for one in found:
        bar = "█" * int(one.percent * _BAR / 100)
        counts = f"{one.covered:,} of {one.total or 0:,} bytes, {amount(len(one.holes), 'hole')}"
        failed = f", {amount(sum(dead.entries for dead in one.dead), 'entry')} dead" if one.dead else ""
        document = {
            "source": one.source,
            "percent": round(one.percent, 1),
            "covered": one.covered,
            "total": one.total,
            "entries_read": one.entries_read,
            "entries_written": one.entries_written,
            "dead": sum(dead.entries for dead in one.dead),
            "holes": list(one.holes),
        }
        text = Text.assemble(f"{bar:░<{_BAR}} {one.percent:5.1f} %  ", (_name(one), "bold"), f"  {counts}{failed}")
        output.result(document, text)
    if not found:
        output.note("every source that was collected is whole")


@with_output
def repair(
    output: Output,
    source: Annotated[str, typer.Argument(help="The source's name, as in inbox/NAME.", show_default=False)],
    bucket: Bucket,
    topic: OutputTopic = "parcelq-output",
    input_topic: Annotated[str, typer.Option(help="Name of the topic that its lines go to.")] = "parcelq-step",
    parcel_size: ParcelSize = 1000,
) -> None:
    """Publish again, from the source, what is missing of it, and only that.

    What is missing may also be still on its way: do this when nothing is being processed any more.
    """
    from parcelq.objects import ObjectUploader
    from parcelq.status import repair as publish_again
    from parcelq.store import BucketStore

    found = [one for one in _statuses(bucket, topic, source) if _name(one) == source]
    if not found:
        raise ParcelqError(f"source is {source!r}, but must be one that is not whole; see parcelq status")
    topics = clients.topics()
    uploader = ObjectUploader(
        topics.sqs, clients.s3(), BucketStore(clients.s3(), bucket), parcel_size, clients.overflow(bucket)
    )
    url = topics.url(input_topic)
    published = sum(publish_again(uploader, one, url) for one in found)
    output.result({"messages": published}, f"published {amount(published, 'message')} again")


def _statuses(bucket: str, topic: str, name: str) -> list[Status]:
    from parcelq.status import statuses
    from parcelq.store import BucketStore

    return [one for one in statuses(BucketStore(clients.s3(), bucket), topic) if name in _name(one)]


def _name(one: Status) -> str:
    from parcelq.names import Source

    return Source.parse(one.source).name
