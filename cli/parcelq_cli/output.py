"""What commands print: results on stdout, as text or JSON; everything else on stderr."""

from __future__ import annotations

import inspect
import json as json_format
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Annotated, Any, Concatenate, Final, ParamSpec, Protocol

import typer
from parcelq.errors import ParcelqError
from rich.console import Console
from rich.text import Text

from parcelq_cli.options import WrongUsageError

Arguments = ParamSpec("Arguments")
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON: one document, or one a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors alone.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log in detail, faults of the program included.")]

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES: Final = 1.0


class Report(Protocol):
    """Tells how far a command is: in words, and what share of the work is done where that is known."""

    def __call__(self, text: str, share: float | None = None, /) -> None:
        """Tell it."""


def to_stderr() -> Console:
    """Return what prints on stderr, in colour on a terminal."""
    return Console(stderr=True, soft_wrap=True, markup=False, highlight=False, emoji=False)


@dataclass(frozen=True, slots=True)
class Output:
    """Prints what a command says.

    Attributes:
        json: whether results are JSON.
        quiet: whether only results and errors are printed.
        verbose: whether what is done is logged.
        clock: tells a time in seconds.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    clock: Callable[[], float] = time.monotonic
    _stderr: Console = field(default_factory=to_stderr)

    def result(self, document: Mapping[str, Any], text: str | Text | bytes) -> None:
        """Print a result: `document` on a line with `--json`, else `text`, which if it is bytes is printed as it is."""
        if self.json:
            line = json_format.dumps(document, ensure_ascii=False)
        elif isinstance(text, bytes):
            return self._write(text)
        else:
            console = Console(soft_wrap=True, markup=False, highlight=False, emoji=False)
            with console.capture() as rendered:
                console.print(text, end="")
            line = rendered.get()
        # A file's name need not be text; in JSON and in a terminal alike it shows as an escape then.
        return self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def note(self, text: str) -> None:
        """Say on stderr what a user may want to know, but a script does not."""
        if not self.quiet:
            self._stderr.print(text)

    def confirm(self, doomed: Mapping[str, int], yes: bool) -> None:
        """Show the topics that will be deleted, and ask.

        Args:
            doomed: names, and the approximate number of messages of each.
            yes: whether the answer was given already.

        Raises:
            ParcelqError: the answer is no, or there is nobody to ask.
        """
        if yes or not doomed:
            return
        listed = ", ".join(f"{name} (about {amount(count, 'message')})" for name, count in doomed.items())
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ParcelqError(f"this deletes {listed}, and there is no terminal to ask on; give --yes if it is meant")
        from rich.prompt import Confirm
        from rich.table import Table

        table = Table("topic", "messages, about")
        for name, count in doomed.items():
            table.add_row(name, f"{count:,}")
        self._stderr.print("These will be deleted, with all their messages:")
        self._stderr.print(table, soft_wrap=False)
        try:
            agreed = Confirm.ask("Delete them? There is no way back", console=self._stderr, default=False)
        except EOFError:
            agreed = False
        if not agreed:
            raise ParcelqError("nothing was deleted")

    @contextmanager
    def progress(self, doing: str) -> Iterator[Report]:
        """Give what tells how far a command is: a live line with a bar on a terminal, else a line now and then."""
        if self.quiet:
            yield lambda _text, _share=None: None
        elif self._stderr.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
            with Progress(*columns, console=self._stderr, transient=True) as live:
                task = live.add_task(doing, total=None)

                def show(text: str, share: float | None = None) -> None:
                    live.update(task, description=f"{doing}: {text}", total=share and 1, completed=share or 0)

                yield show
        else:
            yield self._lines(doing)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Send the log to stderr as long as the context lasts."""
        level = logging.INFO if self.verbose else logging.ERROR if self.quiet else logging.WARNING
        handler = _Handler(self._stderr, level)
        logger = logging.getLogger()
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(level)
        try:
            yield
        except (ParcelqError, typer.TyperException, typer.Exit, typer.Abort, OSError):
            raise
        except Exception:
            _log.info("this should not happen, and is a fault of the program", exc_info=True)
            raise
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)

    def _lines(self, doing: str) -> Report:
        due = self.clock()

        def report(text: str, share: float | None = None) -> None:
            nonlocal due
            if self.clock() >= due:
                due = self.clock() + _SECONDS_BETWEEN_LINES
                self._stderr.print(f"{doing}: {text}" + (f", {share:.0%}" if share is not None else ""))

        return report

    def _write(self, data: bytes) -> None:
        # Flushed at once, so that nothing is acknowledged that a closed pipe never took.
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class _Handler(logging.Handler):
    """Prints records through the console that progress is on, so that they do not tear it."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        about = " ".join(filter(None, (getattr(record, name, "") for name in ("source", "lineage"))))
        text = f"{record.levelname.lower()}: {self.format(record)}"
        self._console.print(f"{text} ({about})" if about else text)


def with_output(command: Callable[Concatenate[Output, Arguments], None]) -> Callable[Arguments, None]:
    """Give a command `--json`, `--quiet` and `--verbose`, and for its first argument what they make."""

    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        json, quiet, verbose = (bool(kwargs.pop(name)) for name in ("json", "quiet", "verbose"))
        if quiet and verbose:
            raise WrongUsageError("give --quiet or --verbose, not both")
        output = Output(json, quiet, verbose)
        with output.logging():
            command(output, *args, **kwargs)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in {"json": Json, "quiet": Quiet, "verbose": Verbose}.items()
    ]
    run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
    return run


def amount(count: int, noun: str) -> str:
    """Return `1 message`, `2,000 messages`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} " + (f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s")


def fields(values: Mapping[str, object]) -> Text:
    """Return names and values as lines of two columns."""
    width = max(map(len, values), default=0)
    lines = (Text.assemble((f"{name:<{width}}", "bold"), f"  {value}") for name, value in values.items())
    return Text("\n").join(lines)
