"""The command `parcelq emulate`: the deployed pipeline on this machine, from files to their results."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.errors import InvalidValueError, ParcelqError
from parcelq_cli.dead import body_of, shown
from parcelq_cli.options import ParcelSize, WrongUsageError
from parcelq_cli.output import Output, Report, amount, with_output

from parcelq_emulator.function import Runtime

if TYPE_CHECKING:
    from parcelq.topics.message import Pulled
    from parcelq.topics.overflow import Overflow

    from parcelq_emulator.pipeline import Pipeline

_DEAD_SHOWN: Final = 20
_QUIET_SECONDS: Final = 0.2
"""How long nothing comes before collecting stops, and results are written."""
_LONG_QUIET_SECONDS: Final = 1.0
"""The same, before what has not come counts as lost."""
_LOOK_SECONDS: Final = 0.1
_REPAIRS: Final = 5
"""How often what is missing is published again, before it counts as lost."""
_FAILURES: Final = 5
"""How often in a row collecting may fail, before that counts as what it always does."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a file, as it lies on this machine, and its report."""

    path: Path
    report: dict[str, Any]


@with_output
def emulate(
    output: Output,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="Files of lines.")
    ],
    step: Annotated[
        list[str],
        typer.Option("--step", metavar="STEP", help="A program: a path, or a name on the PATH. Several run in a row."),
    ],
    settings: Annotated[
        list[Path] | None,
        typer.Option("--settings", metavar="FILE", help="Settings of the step; with several steps, of each in turn."),
    ] = None,
    workflow_id: Annotated[str, typer.Option(help="Told to the steps.")] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="How many entries a step should get at a time.")] = 1000,
    parcel_size: ParcelSize = 1000,
    range_bytes: Annotated[int, typer.Option(min=1, help="Files larger than this are uploaded in ranges.")] = 2**28,
    output_folder: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where results go.")] = Path("results"),
    chaos: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="For tests: deliver messages twice, in any order, and kill functions."),
    ] = None,
    runtime: Annotated[
        Runtime, typer.Option(help="What runs the functions: this Python, or AWS's runtime emulator, on Linux.")
    ] = Runtime.EMBEDDED,
    keep: Annotated[bool, typer.Option(help="Go on running when the results are there, until Ctrl-C.")] = False,
) -> None:
    """Run the deployed pipeline on this machine, over files, with nothing but Python.

    The resources are made from the template itself, on a server on the loopback interface, and the functions are the
    deployed ones, each in a process of its own. Exits with 0 only if every entry is in a result.
    """
    from parcelq.steps.find import local_step
    from parcelq.topics.overflow import Overflow

    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise WrongUsageError("two of the files have the same name, but each result needs a name of its own")
    if chaos is not None and runtime is not Runtime.EMBEDDED:
        raise WrongUsageError(f"--chaos kills functions only under --runtime {Runtime.EMBEDDED}")
    given = [str(path) for path in settings or []]
    if len(given) > len(step):
        raise WrongUsageError(f"--settings is given {len(given)} times, but there are only {len(step)} steps")
    given += [""] * (len(step) - len(given))
    steps = [local_step(path, file, workflow_id) for path, file in zip(step, given, strict=True)]

    from parcelq_emulator.pipeline import Options, running

    options = Options(steps, batch_size, parcel_size, range_bytes, chaos=chaos, runtime=runtime)
    logs = output_folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end, it ends as cleanly as by Ctrl-C
    with output.progress("running") as tell, running(options, logs) as pipeline:
        for file in files:
            pipeline.put(file, file.name)
        collected, missing = _collect(pipeline, {file.name: file.stat().st_size for file in files}, tell)
        results = [Result(*pipeline.fetch(name, output_folder)) for name in names if name not in missing]
        letters = pipeline.dead_letters()
        overflow = Overflow(pipeline.s3, pipeline.stack.bucket)
        _summarise(output, results, letters, overflow, missing, collected, time.monotonic() - began)
        if chaos is not None:
            output.note(str(pipeline.chaos()))
        if keep:
            output.note(f"still running; AWS_ENDPOINT_URL={pipeline.url} AWS_DEFAULT_REGION=us-east-1; Ctrl-C ends it")
            _go_on(output, pipeline, output_folder)
    dead = sum(one["entries"] for result in results for one in result.report["dead"])
    if missing or dead:
        lost = ", ".join(sorted(missing))
        problem = f"no whole result of {lost}" if missing else f"{amount(dead, 'entry')} failed for good"
        raise ParcelqError(f"{problem}; the functions' logs are in {logs}")


def _collect(pipeline: Pipeline, sizes: Mapping[str, int], tell: Report) -> tuple[int, set[str]]:
    """Collect until every file has its result, or nothing more will come.

    Args:
        pipeline: the running stack.
        sizes: bytes of the files, by name.
        tell: told how far it is.

    Returns:
        How many messages were collected, and the names of the files without a result.

    Raises:
        InvocationError: collecting fails again and again, and not for dying.
    """
    from parcelq.lineage.source import Source

    from parcelq_emulator.function import DIED, InvocationError

    waiting = collected = repairs = failures = 0
    missing = set(sizes)
    share, quiet, has_begun = 0.0, _QUIET_SECONDS, False
    while missing:
        waiting, uncollected = pipeline.waiting(), pipeline.uncollected()
        tell(f"{amount(waiting, 'message')} waiting, {collected:,} collected", share)
        if has_begun and waiting and not uncollected:
            time.sleep(_LOOK_SECONDS)
            continue
        has_begun = True  # in any case once, so that the downloader is there when it is needed
        try:
            answer = pipeline.collect(quiet)
        except InvocationError as error:  # what it had not acknowledged comes again
            failures += error.kind != DIED
            if failures == _FAILURES:
                raise
            continue
        failures = 0
        drained = answer["drained"]["messages"]
        collected += drained
        for state in answer["finished"]:
            # A result without its dead entries may still be written again, as long as anything is under way.
            if state["source"] and not (state["dead"] and (waiting or uncollected)):
                missing.discard(Source.parse(state["source"]).name)
        covered = sum(state["covered"] for state in answer["waiting"])
        covered += sum(size for name, size in sizes.items() if name not in missing)
        share = min(1.0, covered / max(1, sum(sizes.values())))
        if waiting or uncollected or drained:
            quiet = _QUIET_SECONDS
        elif quiet < _LONG_QUIET_SECONDS:  # perhaps something was just on its way from one topic to another
            quiet = _LONG_QUIET_SECONDS
        elif missing:
            # All is quiet, so what is missing was lost on the way, or came only in pieces that do not fit together.
            repairs += 1
            if repairs > _REPAIRS or not pipeline.repair():
                break
    tell(f"{amount(waiting, 'message')} waiting, {collected:,} collected", share)
    return collected, missing


def _summarise(
    output: Output,
    results: Sequence[Result],
    letters: Sequence[Pulled],
    overflow: Overflow,
    missing: set[str],
    collected: int,
    seconds: float,
) -> None:
    """Say what came of it; the last line of the text says where the results are."""
    from parcelq.process.dead import REASON
    from parcelq.topics.message import UNTOLD

    for letter in letters[:_DEAD_SHOWN]:
        output.note(f"dead: {shown(*body_of(letter, overflow))}: {letter.attributes.get(REASON, UNTOLD)}")
    if len(letters) > _DEAD_SHOWN:
        output.note(f"dead: and {len(letters) - _DEAD_SHOWN:,} more")
    entries = [result.report["entries"] for result in results]
    counts = {name: sum(one[name] or 0 for one in entries) for name in ("read", "dead", "written")}
    output.note(
        f"{amount(counts['read'], 'entry')} in, {counts['written']:,} out, {counts['dead']:,} dead; "
        f"{amount(collected, 'message')} collected; {seconds:.1f} seconds"
        + (f"; no result of {', '.join(sorted(missing))}" if missing else "")
    )
    for result in results:
        output.result({"result": str(result.path), "seconds": round(seconds, 1), **result.report}, str(result.path))


def _go_on(output: Output, pipeline: Pipeline, folder: Path) -> None:
    """Collect until Ctrl-C, and bring every result that is new or has changed."""
    from parcelq.lineage.source import Source

    from parcelq_emulator.function import InvocationError

    known: dict[str, dict[str, Any]] = {}
    problem = ""
    while True:
        try:
            answer = pipeline.collect()
        except InvocationError as error:
            if str(error) != problem:
                problem = str(error)
                output.note(problem)
            continue
        for state in answer["finished"]:
            if state["source"] and known.get(state["source"]) != state:
                known[state["source"]] = state
                try:
                    path, report = pipeline.fetch(Source.parse(state["source"]).name, folder)
                except InvalidValueError as error:
                    output.note(str(error))
                else:
                    output.note(f"{path}: {report['entries']['written']:,} out, {report['entries']['dead']:,} dead")
