"""`parcelq emulate`: runs the deployed functions over files on this machine, and downloads the results."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.amounts import amount
from parcelq.errors import ParcelqError, SettingsError
from parcelq.result_names import STATE, result_names
from parcelq_cli.dead import body_of, shown
from parcelq_cli.options import ParcelSize, RecordFormat, WrongUsageError
from parcelq_cli.output import Output, with_output
from parcelq_cli.running import counts_of

from parcelq_emulator.collecting import collect
from parcelq_emulator.function import Runtime

if TYPE_CHECKING:
    from parcelq.steps.find import Step
    from parcelq.topics.message import Pulled
    from parcelq.topics.overflow import Overflow

    from parcelq_emulator.options import Options
    from parcelq_emulator.pipeline import Pipeline

LOGS: Final = f"{STATE}/logs"
"""The folder of the functions' logs, in the folder of results."""
_DEAD_SHOWN: Final = 20
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """The downloaded result of a file, and the report about the result."""

    path: Path
    report: dict[str, Any]


@with_output
def emulate(
    output: Output,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="The files; may be omitted with --keep.", show_default=False),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            metavar="STEP",
            help="A program: a path, or a command such as 'tr a-z A-Z'. Several programs run one after another.",
            show_default="the stack's built-in step",
        ),
    ] = None,
    settings: Annotated[
        list[Path] | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            help="The step's settings file; repeat the option for several steps, in their order.",
        ),
    ] = None,
    workflow_id: Annotated[str, typer.Option(help="Passed to the steps as --workflow-id.")] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="How many entries each run of a step should get.")] = 1000,
    parcel_size: ParcelSize = 1000,
    record_format: RecordFormat = "",
    range_bytes: Annotated[int, typer.Option(min=1, help="Files larger than this are uploaded in ranges.")] = 2**28,
    output_folder: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where results go.")] = Path("results"),
    chaos: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="For tests: deliver messages twice, in any order, and kill functions."),
    ] = None,
    runtime: Annotated[
        Runtime,
        typer.Option(help="The program that runs the functions: this Python, or, on Linux, AWS's runtime emulator."),
    ] = Runtime.EMBEDDED,
    keep: Annotated[
        bool, typer.Option(help="Keep the stack running after the results are written, until Ctrl-C.")
    ] = False,
) -> None:
    """Run the deployed functions on this machine over files, on an emulated AWS.

    The resources are created from the deployed template, on a server on the loopback interface. The functions have the
    deployed code, and each runs in a separate process. Exits with 0 only if every entry is in a result.
    """
    from parcelq.local_files import check_folder, check_readable, check_targets
    from parcelq.result_names import check_distinct

    from parcelq_emulator.scratch import scratch_folder

    files, step = files or [], step or []
    if not (files and step) and not keep:
        raise WrongUsageError("give a file and a --step; only --keep works without them")
    if chaos is not None and runtime is not Runtime.EMBEDDED:
        raise WrongUsageError(f"--chaos works only with --runtime {Runtime.EMBEDDED}")
    given = [str(path) for path in settings or []]
    if len(given) > len(step):
        raise WrongUsageError(f"--settings is given {len(given)} times, but there are only {len(step)} steps")
    given += [""] * (len(step) - len(given))
    for file in files:
        check_readable(file)
    check_folder(output_folder, "--output")
    check_distinct(str(file) for file in files)
    check_targets(files, [output_folder / name for file in files for name in result_names(file.name)])
    for number in (signal.SIGTERM, signal.SIGHUP):  # these signals end the command as cleanly as Ctrl-C does
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, for example, ignores SIGHUP
            signal.signal(number, signal.default_int_handler)
    with scratch_folder() as scratch:
        inputs = {file.name: _regular(file, scratch / f"input-{number}") for number, file in enumerate(files)}
        steps = _steps(step, given, workflow_id, scratch)
        from parcelq.records import parse

        from parcelq_emulator.options import Options

        if record_format:
            parse(record_format)
        options = Options(steps, batch_size, parcel_size, record_format, range_bytes, chaos=chaos, runtime=runtime)
        _run(output, inputs, options, output_folder, scratch, keep)


def _regular(path: Path, copy: Path) -> Path:
    """Return a path that can be read more than once: `path` itself, or `copy` with the content if `path` is a pipe."""
    if path.is_file():
        return path
    with path.open("rb") as stream, copy.open("wb") as target:
        shutil.copyfileobj(stream, target)
    return copy


def _steps(names: Sequence[str], settings: Sequence[str], workflow_id: str, scratch: Path) -> list[Step]:
    from parcelq.steps.environments import dependencies_of
    from parcelq.steps.find import local_program

    steps = []
    for number, (name, file) in enumerate(zip(names, settings, strict=True)):
        path = Path(os.path.expanduser(file))
        is_pipe = file and path.exists() and not path.is_file()
        readable = str(_regular(path, scratch / f"settings-{number}.yaml")) if is_pipe else file
        step = local_program(name, readable, workflow_id)
        if step.path.suffix == ".py" and dependencies_of(step.path):
            problem = "it depends on packages, which the emulated functions do not have; parcelq run installs them"
            raise SettingsError(f"step {name}", [problem])
        steps.append(step)
    return steps


def _run(output: Output, inputs: Mapping[str, Path], options: Options, folder: Path, scratch: Path, keep: bool) -> None:
    from parcelq.topics.overflow import Overflow

    from parcelq_emulator.pipeline import running

    logs = folder / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with output.progress("running") as tell, running(options, logs, scratch) as pipeline:
        pipeline.put_all(inputs)
        sizes = {name: file.stat().st_size for name, file in inputs.items()}
        missing = collect(pipeline, sizes, tell) if inputs else frozenset()
        names = [result_names(name).result for name in inputs if name not in missing]
        results = [Result(*one) for one in pipeline.results.fetch_all(names, folder)]
        letters = pipeline.dead_letters()
        overflow = Overflow(pipeline.s3, pipeline.stack.bucket)
        if inputs:
            _summarise(output, results, letters, overflow, missing, time.monotonic() - began)
        for name, reason in pipeline.given_up().items():
            output.note(f"not uploaded: {name}: {reason}")
        if options.chaos is not None:
            output.note(str(pipeline.chaos()))
        if keep:
            _show_how_to_connect(output, pipeline)
            _go_on(output, pipeline, folder)
    dead = sum(one["entries"] for result in results for one in result.report["dead"])
    doubtful = ", ".join(result.path.name for result in results if result.report["doubts"])
    if missing or dead or doubtful:
        lost = ", ".join(sorted(missing))
        problem = f"{doubtful} may differ from what the step would write for the whole file" if doubtful else ""
        problem = f"{amount(dead, 'entry')} failed for good" if dead else problem
        problem = f"no complete result of {lost}" if lost else problem
        raise ParcelqError(f"{problem}; the functions' logs are in {logs}")


def _summarise(
    output: Output,
    results: Sequence[Result],
    letters: Sequence[Pulled],
    overflow: Overflow,
    missing: Collection[str],
    seconds: float,
) -> None:
    """Print a summary; the last line says where the results are."""
    from parcelq.process.dead import NO_REASON
    from parcelq.topics.attributes import REASON

    for letter in letters[:_DEAD_SHOWN]:
        output.note(f"dead: {shown(*body_of(letter, overflow))}: {letter.attributes.get(REASON, NO_REASON)}")
    if len(letters) > _DEAD_SHOWN:
        output.note(f"dead: and {len(letters) - _DEAD_SHOWN:,} more")
    entries = [result.report["entries"] for result in results]
    healings = sum(result.report["healings"] for result in results)
    counts = {name: sum(one[name] or 0 for one in entries) for name in ("read", "dead", "written")}
    output.note(
        f"{amount(counts['read'], 'entry')} in, {counts['written']:,} out, {counts['dead']:,} dead; "
        f"{seconds:.1f} seconds"
        + (f"; no result of {', '.join(sorted(missing))}" if missing else "")
        + (f"; what was missing was published again {amount(healings, 'time')}" if healings else "")
    )
    for result in results:
        output.note(f"{result.path.name}: {counts_of(result.report)}")
        for warning in result.report["warnings"]:
            output.note(f"{result.path.name}: warning: {warning}")
        output.result({"result": str(result.path), "seconds": round(seconds, 1), **result.report}, str(result.path))


def _show_how_to_connect(output: Output, pipeline: Pipeline) -> None:
    """Print the environment variables that make `parcelq`, the AWS CLI and boto3 use the stack."""
    from parcelq_emulator.pipeline import SPOKEN, STACK

    variables = {"AWS_ENDPOINT_URL": pipeline.url, **SPOKEN}
    lines = "\n".join(f"export {name}={value}" for name, value in variables.items())
    output.result({"stack": STACK, "environment": variables}, lines)
    spoken = " ".join(f"{name}={variables[name]}" for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"))
    output.note(f"stack {STACK!r} is still running; {spoken}; Ctrl-C ends it")


def _go_on(output: Output, pipeline: Pipeline, folder: Path) -> None:
    """Until Ctrl-C, download every result that is new or changed."""
    known: dict[str, dict[str, Any]] = {}
    shown: set[str] = set()

    def note(text: str) -> None:
        if text not in shown:
            shown.add(text)
            output.note(text)

    while True:
        time.sleep(_LOOK_SECONDS)
        pipeline.pump.check()
        for name, reason in pipeline.given_up().items():
            note(f"not uploaded: {name}: {reason}")
        for name, report in pipeline.results.reports().items():
            if known.get(name) != report:
                known[name] = report
                try:
                    path, _ = pipeline.results.fetch(name, folder)
                except ParcelqError as error:  # an error about this result must not stop the others
                    note(str(error))
                else:
                    output.note(f"{path}: {report['entries']['written']:,} out, {report['entries']['dead']:,} dead")
