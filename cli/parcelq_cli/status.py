"""`parcelq status` and `parcelq repair`: show the progress of sources, and publish missing records again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.amounts import amount
from parcelq.errors import AwsError, ParcelqError
from parcelq.escaping import one_line
from rich.text import Text

from parcelq_cli import clients
from parcelq_cli.options import ParcelSize, WrongUsageError, bucket_name
from parcelq_cli.output import Output, with_output
from parcelq_cli.source_map import map_line

if TYPE_CHECKING:
    from parcelq.collect.status import Status

_BAR: Final = 40
_INPUT_TOPIC: Final = "parcelq-step"
Bucket = Annotated[str, typer.Option(callback=bucket_name, help="The stack's bucket.", show_default=False)]
AnyBucket = Annotated[
    str | None,
    typer.Option("--bucket", callback=bucket_name, help="The stack's bucket.", show_default="that of --stack"),
]
OutputTopic = Annotated[
    str, typer.Option("--topic", help="The name of the topic with the outputs, from which results are put together.")
]


@with_output
def status(
    output: Output,
    source: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Shows only sources whose names contain this text.", show_default="all"),
    ] = "",
    bucket: AnyBucket = None,
    topic: OutputTopic = "parcelq-output",
    stack: Annotated[str, typer.Option("--stack", metavar="NAME", help="A stack: shows its jobs.")] = "",
) -> None:
    """Show the progress of sources that have no complete result yet.

    With --stack, the progress comes from the job records. With --bucket, it comes from the collected messages, and
    every hole is shown. Either shows the state at the last collection. With NAME, finished sources of exactly that name
    are shown too. The exit code is 1 if no source of that name is known.
    """
    if bool(stack) == bool(bucket):
        raise WrongUsageError("give either --stack or --bucket")
    if not bucket:
        from parcelq_cli.jobs import list_stack_jobs

        list_stack_jobs(output, stack, every=bool(source), name=source)
        return
    found = _statuses(bucket, topic, source)
    for one in found:
        output.result(one.document(), _shown(one))
    if source and not any(one.name == source for one in found) and (report := _report(bucket, source)):
        output.result(report, _finished(source, report))
    elif source and not found:
        there = " It is in the inbox, but has not been uploaded yet." if _is_put(bucket, source) else ""
        raise ParcelqError(f"no source is known whose name contains {source!r}.{there}".rstrip("."))
    elif not found:
        output.note("there is no unfinished source")


@with_output
def repair(
    output: Output,
    source: Annotated[
        str, typer.Argument(metavar="NAME", help="The source's name, as in inbox/NAME.", show_default=False)
    ],
    bucket: Bucket,
    topic: OutputTopic = "parcelq-output",
    input_topic: Annotated[
        str,
        typer.Option(
            help="Name of the topic to publish the records on.", show_default="the topic that it was uploaded to"
        ),
    ] = "",
    parcel_size: ParcelSize = 1000,
) -> None:
    """Publish the missing records of a source again.

    The records are read from the source. Messages that seem to be missing may still be in a topic, so wait until no
    message is being processed. If a file was put several times, its latest put is repaired.
    """
    from parcelq.collect.status import object_of
    from parcelq.collect.status import repair as publish_again
    from parcelq.jobs.jobs import wake
    from parcelq.lineage.source import Source
    from parcelq.upload.objects import ObjectUploader
    from parcelq.upload.puts import Object

    latest: dict[str, Status] = {}
    for one in sorted(_statuses(bucket, topic, source), key=lambda one: Source.parse(one.source).order):
        if one.name == source:
            latest[Source.parse(one.source).uri] = one
    if not latest:
        raise ParcelqError(f"source is {source!r}, but must be an incomplete source; parcelq status lists them")
    store = clients.bucket(bucket)
    uploader = ObjectUploader(store, store, parcel_size)
    published = 0
    for one in latest.values():
        put = Object(object_of(one), one.total or 0)
        target = clients.topic(input_topic or one.topic or put.topic(_INPUT_TOPIC), bucket)
        if looks := clients.looks(target):
            wake(looks, [(one.source, "")])
        published += publish_again(uploader, one, target)
        if one.total is None:
            output.note(f"the size of {one.name} is unknown, so records missing at its end were not published")
    output.result({"messages": published}, f"published {amount(published, 'message')} again")


def _statuses(bucket: str, topic: str, name: str) -> list[Status]:
    from parcelq.collect.status import statuses

    try:
        return [one for one in statuses(clients.bucket(bucket), topic) if one.has_in_name(name)]
    except AwsError as error:
        raise ParcelqError(f"there is no bucket {bucket!r}") if error.code == "NoSuchBucket" else error from None


def _report(bucket: str, name: str) -> dict[str, Any] | None:
    """Return the report of the finished source with a name; None if there is no such report."""
    import json

    from parcelq.errors import NotFoundError
    from parcelq.names import RESULTS
    from parcelq.result_names import result_names

    key = result_names(name, RESULTS).report
    try:
        report = json.loads(clients.bucket(bucket).read(key))
    except NotFoundError:
        return None
    except ValueError:
        report = None
    if not isinstance(report, dict):
        raise ParcelqError(f"s3://{bucket}/{key} is not a report of Parcelq")
    return report


def _is_put(bucket: str, name: str) -> bool:
    from parcelq.names import INBOX

    return clients.bucket(bucket).stat(INBOX + name) is not None


def _finished(name: str, report: Mapping[str, Any]) -> Text:
    """Return a text that says, from a source's report, that the result is complete or lacks the dead entries."""
    entries = report.get("entries") or {}
    doubts = report.get("doubts")
    verdict = "whole" if report.get("complete") is True else "doubtful" if doubts else "not whole"
    text = Text.assemble((one_line(name), "bold"), f"  {verdict}")
    if chosen := report.get("format"):
        text.append(f"\n  format  {one_line(chosen)}")
    for count in ("read", "written", "dead", "missing"):
        if entries.get(count) is not None:
            text.append(f"\n  {count:<8}{_entries(entries[count])}")
    text.append(f"\n  result  {one_line(report.get('result'))}")
    return _with_warnings(text, report.get("warnings") or ())


def _with_warnings(text: Text, warnings: Iterable[object]) -> Text:
    for warning in warnings:
        text.append(f"\n  warning: {one_line(warning)}", "yellow")
    return text


def _shown(one: Status) -> Text:
    """Return a text about a source with the percentages done, dead and missing; and with a bar if the size is known."""
    text = Text.assemble((one_line(one.name), "bold"))
    if one.topic:
        text.append(f"  uploaded to {one_line(one.topic)}", "dim")
    known = one.total is not None
    size = f"{one.total:,} bytes, {_entries(one.report.entries.read)}" if known else "its size is not known yet"
    text.append("\n  ").append_text(_bar(one)).append("  " * known + size)
    for name, share in one.shares.items():
        percent = "      ?  " if share.percent is None else f"{share.percent:6.1f} % "
        count = "unknown" if share.bytes is None else f"{share.bytes:,}"
        text.append(f"\n  {name:<8}{percent} {count} bytes, {_entries(share.entries)}")
    if one.problem:
        text.append(f"\n  cannot be uploaded: {one_line(one.problem)}", "red")
    if one.report.holes:
        text.append(f", {amount(one.resolution.hole_count, 'hole')}")
    return _with_warnings(text, one.report.warnings)


def _entries(count: int | None) -> str:
    return "unknown entries" if count is None else amount(count, "entry")


def _bar(one: Status) -> Text:
    """Return a bar that shows how much of a source is done, dead and missing. Even the smallest share is visible."""
    if one.total is None:
        return Text()
    shares = one.shares
    dead = min(_BAR, max(bool(shares["dead"].bytes), round(_BAR * (shares["dead"].percent or 0) / 100)))
    covered = min(_BAR - dead, int(_BAR * (shares["covered"].percent or 0) / 100))
    missing = _BAR - covered - dead
    if missing and one.total and not shares["missing"].bytes:  # caused by rounding
        covered, missing = covered + missing, 0
    return map_line("=" * covered + "x" * dead + "." * missing)
