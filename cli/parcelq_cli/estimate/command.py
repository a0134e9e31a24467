"""`parcelq estimate`: predicts what a file costs and how long it takes on AWS."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from parcelq_cli.options import ParcelSize, WrongUsageError
from parcelq_cli.output import Output, with_output


@with_output
def estimate(
    out: Output,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of lines.", show_default=False)],
    step: Annotated[
        str, typer.Option(help="The step: a path, or the name of a program on the PATH.", show_default=False)
    ],
    settings: Annotated[str, typer.Option(metavar="FILE", help="The step's settings file.", show_default="none")] = "",
    workflow_id: Annotated[str, typer.Option(help="What the step is told as --workflow-id.", show_default="none")] = "",
    sample: Annotated[int, typer.Option(min=1, help="About how many lines the step is run over.")] = 1000,
    parcel_size: ParcelSize = 1000,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="How many entries the step should get at a time.", show_default="as the parcel size"),
    ] = None,
    memory: Annotated[int, typer.Option(min=128, max=10_240, help="ProcessorMemory, in MB.")] = 1769,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Processors at a time: Concurrency, or what the account has where that is less.")
    ] = 100,
    timeout: Annotated[int, typer.Option(min=1, max=900, help="ProcessorTimeout, in seconds.")] = 300,
    slowdown: Annotated[
        float, typer.Option(help="How many times as long a vCPU of Lambda takes as a processor of this machine.")
    ] = 1.0,
    template: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The template of your stack.", show_default="this version's"),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Other prices, YAML.", show_default="those of us-east-1")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw cost and duration over parcel size and memory, as a web page."),
    ] = None,
) -> None:
    """Run a step over a sample of a file on this machine, and predict what the whole file will cost and take on AWS.

    Nothing is asked of AWS. The lines are taken all over the file, and not all of it is read.
    """
    from parcelq.steps.find import local_step
    from parcelq.steps.run import Runner

    from parcelq_cli.estimate import report
    from parcelq_cli.estimate.measure import measure
    from parcelq_cli.estimate.model import Job, Setup
    from parcelq_cli.estimate.options import jobs
    from parcelq_cli.estimate.prices import load_prices
    from parcelq_cli.estimate.sample import read_sample
    from parcelq_cli.estimate.stack import Stack

    if not 0 < slowdown < math.inf:
        raise WrongUsageError(f"--slowdown is {slowdown}, but must be a number above 0")
    table, stack = load_prices(prices), Stack.read(template) if template else Stack()
    found = local_step(step, settings, workflow_id)
    lines = read_sample(file, sample)
    with out.progress("measuring") as tell:
        tell(f"the step over {len(lines.lines):,} lines")
        with closing(Runner(found)) as runs:
            known = measure(file.name, lines, runs)
    setup = Setup(parcel_size, batch_size or parcel_size, memory, concurrency, timeout)
    every = jobs(Job(known, setup, table, stack, slowdown), batches_follow=batch_size is None)
    if html:
        from parcelq_cli.estimate.html import write_page

        write_page(html, every, batches_follow=batch_size is None)
    out.result(report.document(every), report.text(every))
