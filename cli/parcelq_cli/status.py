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
    from parcelq.collect.status import Status

_BAR: Final = 40
_INPUT_TOPIC: Final = "parcelq-step"
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
        output.result(one.document(), _shown(one))
    if not found:
        output.note("every source that was collected is whole")


@with_output
def repair(
    output: Output,
    source: Annotated[str, typer.Argument(help="The source's name, as in inbox/NAME.", show_default=False)],
    bucket: Bucket,
    topic: OutputTopic = "parcelq-output",
    input_topic: Annotated[
        str, typer.Option(help="Name of the topic that its lines go to; the one that it was uploaded to, if not given.")
    ] = "",
    parcel_size: ParcelSize = 1000,
) -> None:
    """Publish again, from the source, what is missing of it, and only that.

    What is missing may also be still on its way: do this when nothing is being processed any more. Of a file that was
    put several times it is the latest put that is repaired.
    """
    from parcelq.collect.status import object_of
    from parcelq.collect.status import repair as publish_again
    from parcelq.lineage.source import Source
    from parcelq.store.bucket import BucketStore
    from parcelq.upload.objects import Object, ObjectUploader

    latest: dict[str, Status] = {}
    for one in sorted(_statuses(bucket, topic, source), key=lambda one: Source.parse(one.source).order):
        if one.is_called(source):
            latest[Source.parse(one.source).uri] = one
    if not latest:
        raise ParcelqError(f"source is {source!r}, but must be one that is not whole; see parcelq status")
    store = BucketStore(clients.s3(), bucket)
    uploader = ObjectUploader(store, store, parcel_size)
    published = 0
    for one in latest.values():
        put = Object(object_of(one), one.total or 0)
        published += publish_again(
            uploader, one, clients.topic(input_topic or one.topic or put.topic(_INPUT_TOPIC), bucket)
        )
        if one.total is None:
            output.note(f"the size of {one.name} is not known, so whatever is missing at its end was not published")
    output.result({"messages": published}, f"published {amount(published, 'message')} again")


def _statuses(bucket: str, topic: str, name: str) -> list[Status]:
    from parcelq.collect.status import statuses
    from parcelq.store.bucket import BucketStore

    return [one for one in statuses(BucketStore(clients.s3(), bucket), topic) if one.has_in_name(name)]


def _shown(one: Status) -> Text:
    """A bar, and below it what is covered, dead and missing; where a size is not known there is no bar."""
    text = Text.assemble((one.name, "bold"))
    if one.topic:
        text.append(f"  uploaded to {one.topic}", "dim")
    known = one.total is not None
    size = f"{one.total:,} bytes, {_entries(one.entries_read)}" if known else "its size is not known yet"
    text.append("\n  ").append_text(_bar(one)).append("  " * known + size)
    for name, share in (("covered", one.covered), ("dead", one.dead), ("missing", one.missing)):
        percent = "      ?  " if share.percent is None else f"{share.percent:6.1f} % "
        count = "unknown" if share.bytes is None else f"{share.bytes:,}"
        text.append(f"\n  {name:<8}{percent} {count} bytes, {_entries(share.entries)}")
    if one.holes:
        text.append(f", {amount(len(one.holes), 'hole')}")
    return text


def _entries(count: int | None) -> str:
    return "unknown entries" if count is None else amount(count, "entry")


def _bar(one: Status) -> Text:
    """What is covered, dead and missing, side by side; the least that is there of them shows."""
    if one.total is None:
        return Text()
    dead = min(_BAR, max(bool(one.dead.bytes), round(_BAR * (one.dead.percent or 0) / 100)))
    covered = min(_BAR - dead, int(_BAR * (one.covered.percent or 0) / 100))
    missing = _BAR - covered - dead
    if missing and one.total and not one.missing.bytes:  # which rounding made
        covered, missing = covered + missing, 0
    return Text.assemble(("█" * covered, "green"), ("▒" * dead, "red"), ("░" * missing, "dim"))
