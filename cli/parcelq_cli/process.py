"""`parcelq process`: runs a step over the messages of a topic, on any machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer
from parcelq.amounts import amount
from parcelq.limits import MAX_DELAY_SECONDS

from parcelq_cli import clients
from parcelq_cli.options import Bucket, OneStep, ParcelSize, StepSettings, WorkflowId, WrongUsageError
from parcelq_cli.output import Output, fields, with_output

if TYPE_CHECKING:
    from parcelq.process.processor import Processor
    from parcelq.process.rules import Rules
    from parcelq.process.worker import RoundProgress
    from parcelq.steps.find import Step

    from parcelq_cli.stopping import Stopper


@with_output
def process(
    out: Output,
    input_topic: Annotated[
        str, typer.Argument(metavar="INPUT_TOPIC", help="Name or URL of the topic to pull from.", show_default=False)
    ],
    output_topic: Annotated[
        str, typer.Argument(metavar="OUTPUT_TOPIC", help="Name or URL of the topic to publish to.", show_default=False)
    ],
    step: OneStep,
    settings: StepSettings = "",
    workflow_id: WorkflowId = "",
    batch_size: Annotated[int, typer.Option(min=1, help="How many entries each run of the step should get.")] = 1000,
    parcel_size: ParcelSize = 1000,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="After how many seconds without a message the command ends.",
            show_default="none: until stopped",
        ),
    ] = None,
    bucket: Bucket = None,
    halving: Annotated[
        bool,
        typer.Option(
            "--halving/--no-halving",
            help="Split a message that failed too often into halves, so that only its bad entries are dead-lettered.",
        ),
    ] = True,
    back_off_seconds: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_DELAY_SECONDS,
            help="After how many seconds a failed message is delivered again; each further failure doubles the time.",
        ),
    ] = 5,
) -> None:
    """Run a step over a topic's messages and publish its output.

    Messages that fail too often go to the dead-letter topic of INPUT_TOPIC. OUTPUT_TOPIC gets a tombstone for each of
    these messages. Ctrl-C and SIGTERM end the command after it has processed its current messages. A second Ctrl-C ends
    it at once, and its current messages are delivered again.
    """
    from contextlib import closing

    from parcelq.process.rules import Rules
    from parcelq.process.worker import RoundProgress
    from parcelq.process.worker import process as work
    from parcelq.steps.find import local_step

    from parcelq_cli.stopping import Stopped, Stopper

    found = local_step(step, settings, workflow_id)
    rules = Rules(batch_size, parcel_size, halving=halving, back_off_seconds=back_off_seconds)
    total = RoundProgress()
    stopper = Stopper(
        lambda: out.note("stopping after the messages that are being processed; press again to stop at once")
    )
    processor, deadline = _processor(input_topic, output_topic, bucket, found, rules, stopper)
    try:
        with closing(processor), stopper.listening(), out.progress("processing") as report:

            def tell(_round: RoundProgress, so_far: RoundProgress) -> None:
                nonlocal total
                total = so_far
                report(_text(so_far))
                stopper.begin_waiting()

            out.note(f"processing the messages of {processor.route.input.name}; Ctrl-C stops")
            stopper.begin_waiting()
            seconds = math.inf if timeout is None else timeout
            work(processor, receive_message_timeout=seconds, deadline=deadline, on_progress=tell)
    except Stopped:
        out.note("stopped")
    summary = total._asdict()
    out.result(summary, fields({name.replace("_", " "): f"{value:,}" for name, value in summary.items()}))


def _processor(
    input_topic: str, output_topic: str, bucket: str | None, step: Step, rules: Rules, stopper: Stopper
) -> tuple[Processor, int]:
    """Return the processor of a topic's messages, and the topic's acknowledgement deadline in seconds."""
    from parcelq.process.apply import Route
    from parcelq.topics.sqs import SqsTopic

    from parcelq_cli.stopping import StoppableProcessor

    topics, overflow = clients.topics(), clients.overflow(bucket or "")
    urls = topics.url(input_topic), topics.url(output_topic), topics.dead_letters_of(input_topic)
    if urls[1] in {urls[0], urls[2]}:
        raise WrongUsageError(f"OUTPUT_TOPIC is {output_topic!r}, but must not be INPUT_TOPIC or its dead-letter topic")
    source, output, dead_letters = (SqsTopic(topics.sqs, url, overflow) for url in urls)
    processor = StoppableProcessor(Route(source, output, dead_letters, output), step, rules, stopper=stopper)
    return processor, int(topics.attributes(source.url)["VisibilityTimeout"])


def _text(total: RoundProgress) -> str:
    return (
        f"{amount(total.messages_processed, 'message')} with {amount(total.entries_processed, 'entry')} processed, "
        f"{total.messages_published:,} published, {total.failed:,} failed, {total.dead:,} dead"
    )
