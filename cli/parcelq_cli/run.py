"""`parcelq run`: a program over every record of files, on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.errors import ParcelqError

from parcelq_cli.options import DEFAULT_SIZE, STEP, Env, Packages, Settings, WorkflowFolder
from parcelq_cli.output import Output, amount, with_output

if TYPE_CHECKING:
    from parcelq.local.run import FileResult, Options

_SHOWN: Final = 5
"""Dead entries that are printed for each file; the list beside the result has all."""


@with_output
def run(
    out: Output,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files.", show_default=False)],
    step: Annotated[list[str] | None, STEP] = None,
    workflow: WorkflowFolder = None,
    settings: Settings = None,
    record_format: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="What a record is, such as csv.", show_default="by name"),
    ] = "",
    packages: Packages = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path("results"),
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Most entries of one run of the step.", show_default="1000")
    ] = None,
    parcel_size: Annotated[
        int | None, typer.Option(min=1, help="Most entries of one message.", show_default="1000")
    ] = None,
    max_dead: Annotated[
        str, typer.Option(metavar="N|P%", help="Stop when more entries than this failed.", show_default="no limit")
    ] = "",
    keep_going: Annotated[bool, typer.Option(help="Go on even if the step fails on everything.")] = False,
    fresh: Annotated[bool, typer.Option(help="Start over, whatever an earlier run has done.")] = False,
    go_on: Annotated[bool, typer.Option("--continue", help="Continue with another version of the step.")] = False,
    workflow_id: Annotated[str, typer.Option(help="What the step gets as --workflow-id.", show_default="none")] = "",
    env: Env = None,
) -> None:
    """Run a program over every record of files, and write one result file for each.

    A run that was stopped goes on where it stopped when the same command is given again. Exits with 0 only if every
    record is in a result; records that failed are listed in DIR/NAME.dead.jsonl with the reason.
    """
    from parcelq.jobs.assembled import with_id
    from parcelq.local.run import BrokenStepError, Options, run_files
    from parcelq.local_files import check_folder, check_targets
    from parcelq.process.rules import Rules
    from parcelq.result_names import result_names

    from parcelq_cli.choice import chosen
    from parcelq_cli.live import shown

    assembled = chosen(
        workflow,
        step or [],
        settings or [],
        packages or [],
        record_format=record_format,
        batch_size=batch_size,
        parcel_size=parcel_size,
        max_dead=max_dead,
        env=env or [],
    )
    chosen_one = assembled.workflow
    sizes = [chosen_one.batch_size_of(one, DEFAULT_SIZE) for one in chosen_one.steps]
    check_folder(output, "--output")
    check_targets(files, [output / name for file in files for name in result_names(file.name).all])
    options = Options(
        with_id(assembled, workflow_id).with_environments(out.note),
        output,
        chosen_one.format,
        Rules(parcel_size=max(sizes[0], chosen_one.parcel_size or DEFAULT_SIZE), back_off_seconds=0),
        sizes,
        chosen_one.limits.max_seconds,
        chosen_one.limits.max_dead,
        chosen_one.limits.max_dead_share,
        keep_going=keep_going,
        fresh=fresh,
        go_on=go_on,
    )
    began = time.monotonic()
    try:
        with shown(out) as show:
            results = run_files(files, options, show)
    except BrokenStepError as error:
        raise ParcelqError(
            f"{error}; 'parcelq try' with the same file and --step shows what single records do"
        ) from None
    except KeyboardInterrupt:
        out.note("stopped; the same command goes on from here")
        raise
    _report(out, results, options, time.monotonic() - began)


def _report(out: Output, results: Sequence[FileResult], options: Options, seconds: float) -> None:
    for one in results:
        path = options.output / one.names.result
        document: dict[str, Any] = {
            "file": str(one.file),
            "result": str(path) if one.state.result else None,
            "complete": one.whole,
            "dead": one.state.dead,
            "healings": one.healings,
            "seconds": round(seconds, 3),
        }
        if one.problem:
            document["problem"] = one.problem
        if report := one.state.report:
            document |= {name: report[name] for name in ("format", "format_chosen_by", "entries", "warnings")}
            for warning in report["warnings"]:
                out.note(f"{one.file}: warning: {warning}")
        if (log := options.output / one.names.printed).exists():
            document["log"] = str(log)
            out.note(f"{one.file}: {log} has what the steps printed")
        if one.state.dead and one.state.result:
            document["dead_list"] = str(options.output / one.names.dead)
            _show_dead(out, options.output / one.names.dead, one)
        out.result(document, _sentence(one, path))
    failed = [one for one in results if not one.whole]
    if failed:
        raise ParcelqError(f"{amount(len(failed), 'file')} of {len(results)} did not come out whole")


def _sentence(one: FileResult, path: Path) -> str:
    if one.problem:
        return f"{one.file}: no result: {one.problem}"
    if one.state.dead:
        return f"{path} lacks {amount(one.state.dead, 'entry')} that failed"
    if one.state.report and one.state.report["doubts"]:
        return f"{path} may not be what the step writes for the whole file"
    return str(path)


def _show_dead(out: Output, listed: Path, one: FileResult) -> None:
    import json
    from itertools import islice

    with listed.open("rb") as lines:
        for line in islice(lines, _SHOWN):
            dead = json.loads(line)
            where = f"record {dead['record']}" if dead.get("record") else f"bytes {dead.get('start')}-{dead.get('end')}"
            out.note(f"{one.file}, {where}: {str(dead.get('reason', '')).splitlines()[0]}")
    if one.state.dead > _SHOWN:
        out.note(f"… and {one.state.dead - _SHOWN:,} more in {listed}")
