"""`parcelq estimate`: predicts the cost and duration of a job on AWS."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

import typer

from parcelq_cli.estimate.stack import Setup
from parcelq_cli.options import OneStep, ParcelSize, RecordFormat, StepSettings, WorkflowId, WrongUsageError
from parcelq_cli.output import Output, with_output

_DEFAULT: Final = Setup()


@with_output
def estimate(
    out: Output,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file, or s3://BUCKET/KEY.", show_default=False)],
    step: OneStep,
    settings: StepSettings = "",
    record_format: RecordFormat = "",
    workflow_id: WorkflowId = "",
    sample: Annotated[int, typer.Option(min=1, help="About how many records to run the step over.")] = 1000,
    parcel_size: ParcelSize = _DEFAULT.parcel_size,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many entries each run of the step should get.", show_default="as the parcel size"
        ),
    ] = None,
    memory: Annotated[int, typer.Option(min=128, max=10_240, help="ProcessorMemory, in MB.")] = _DEFAULT.memory,
    concurrency: Annotated[
        int,
        typer.Option(
            min=1,
            help="How many processors run at a time: the parameter Concurrency, or the account's limit if it is lower.",
        ),
    ] = _DEFAULT.concurrency,
    uploads: Annotated[
        int, typer.Option(min=1, help="How many uploaders read a large file: UploadConcurrency.")
    ] = _DEFAULT.uploads,
    collects: Annotated[
        int, typer.Option(min=1, help="How many downloaders run at a time: CollectConcurrency.")
    ] = _DEFAULT.collects,
    timeout: Annotated[int, typer.Option(min=1, max=900, help="ProcessorTimeout, in seconds.")] = _DEFAULT.timeout,
    slowdown: Annotated[
        float, typer.Option(help="How many times slower a vCPU of Lambda is than a processor of this machine.")
    ] = 1.0,
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A YAML file with other prices.", show_default="those of us-east-1"),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw cost and duration by parcel size and memory, as a web page."),
    ] = None,
) -> None:
    """Run a step over a sample of a file on this machine, and predict cost and duration of the whole file on AWS.

    Requests go to AWS only if FILE is an S3 object. The sample comes from all parts of the file; a large file is not
    read completely.
    """
    from parcelq.prices import load_prices
    from parcelq.records import parse
    from parcelq.steps.find import local_step
    from parcelq.steps.run import Runner

    from parcelq_cli.estimate import report
    from parcelq_cli.estimate.measure import measure
    from parcelq_cli.estimate.model import Estimate
    from parcelq_cli.estimate.sample import read_sample
    from parcelq_cli.estimate.setups import neighbours

    if not 0 < slowdown < math.inf:
        raise WrongUsageError(f"--slowdown is {slowdown}, but must be a number above 0")
    table, found = load_prices(prices), local_step(step, settings, workflow_id)
    records = read_sample(file, sample, parse(record_format) if record_format else None)
    with out.progress("measuring") as tell:
        tell(f"the step over {len(records.records):,} records")
        with closing(Runner(found)) as runs:
            known = measure(PurePosixPath(file).name, records, runs)
    setup = Setup(parcel_size, batch_size, memory, concurrency, timeout, uploads, collects)
    job = Estimate(known, setup, table, slowdown=slowdown)
    if html:
        from parcelq_cli.estimate.html import page

        html.write_bytes(page(job))
    every = neighbours(job)
    out.result(report.document(job, every), report.text(job, every))
