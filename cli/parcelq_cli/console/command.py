"""`parcelq console`: serves the console until it is interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from parcelq.errors import ParcelqError

from parcelq_cli.output import Output, with_output


@with_output
def console(
    out: Output,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="The folder of results that the jobs write to.")
    ] = Path("results"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 for any free port.")] = 0,
) -> None:
    """Show jobs in a browser, live, with buttons to run failed records again, to resume and to stop.

    Prints an address that only you know and that works only on this machine. Ends with Ctrl-C; jobs that were begun
    from it stop then, and can be resumed.
    """
    try:
        from parcelq_cli.console.web import Console
    except ModuleNotFoundError as error:
        raise ParcelqError(
            f"console needs more packages ({error.name}); install them with: pip install 'parcelq[console]'"
        ) from None
    from parcelq_cli.console.local import LocalConsole

    jobs = LocalConsole(output)
    try:
        served = Console(jobs, f"Results in {output.absolute()}", port)
    except OSError:
        raise ParcelqError(f"port {port} of 127.0.0.1 is taken; give another --port") from None
    out.result({"url": served.url}, served.url)
    out.note("open this address in a browser; Ctrl-C ends the console")
    try:
        with _ended_by_sigterm():
            served.serve()
    finally:
        jobs.close()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that steps that run end with the console."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
