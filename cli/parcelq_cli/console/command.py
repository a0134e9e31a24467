"""`parcelq console`: serves the console until Ctrl-C."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer
from parcelq.errors import ParcelqError

from parcelq_cli.interrupts import interrupted_by
from parcelq_cli.options import RESULTS, AnyStack, ResultsFolder
from parcelq_cli.output import Output, with_output

if TYPE_CHECKING:
    from parcelq_cli.console.view import ShownJobs


@with_output
def console(
    out: Output,
    output: ResultsFolder = RESULTS,
    stack: AnyStack = "",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port of the console; 0 for any free port.")] = 0,
) -> None:
    """Show jobs in a browser, live, with buttons to run failed records again, to resume and to stop.

    Prints a secret address that works only on this machine. Ctrl-C ends the console. Jobs of this machine that the
    console started stop with it, and can be resumed. Jobs of a stack continue.
    """
    try:
        from parcelq_cli.console.web import Console
    except ModuleNotFoundError as error:
        raise ParcelqError(
            f"console needs more packages ({error.name}); install them with: pip install 'parcelq[console]'"
        ) from None
    jobs: ShownJobs
    if stack:
        from parcelq.stack.lookup import look_up

        from parcelq_cli.console.remote import StackConsole

        jobs, place = StackConsole(look_up(stack).jobs), f"Stack {stack}"
    else:
        from parcelq_cli.console.local import LocalConsole

        jobs, place = LocalConsole(output), f"Results in {output.absolute()}"
    try:
        served = Console(jobs, place, port)
    except OSError:
        raise ParcelqError(f"port {port} of 127.0.0.1 is taken; give another --port") from None
    out.result({"url": served.url}, served.url)
    out.note("open this address in a browser; Ctrl-C ends the console")
    try:
        with interrupted_by(signal.SIGTERM):  # so that running steps end with the console
            served.serve()
    finally:
        jobs.close()
