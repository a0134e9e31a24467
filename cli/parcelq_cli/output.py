"""Prints results on stdout as text or JSON, and prints everything else on stderr.

All output passes through this module, which escapes text of unknown origin. Only if a value must not contain line
breaks, the caller escapes the value with `one_line`.
"""

from __future__ import annotations

import errno
import inspect
import io
import json as json_format
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec, Protocol

import typer
from parcelq.errors import ParcelqError
from parcelq.escaping import HARMFUL, escaped, escaped_bytes, escaped_json, one_line

from parcelq_cli.options import WrongUsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Arguments = ParamSpec("Arguments")
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON, one document per line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log in detail, with tracebacks of bugs.")]

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES: Final = 1.0


class StatusLine(Protocol):
    """Shows the progress of a command in words, and as a percentage if it is known."""

    def __call__(self, text: str, share: float | None = None, /) -> None:
        """Show the progress."""


def _console(**options: Any) -> Console:
    from rich.console import Console  # the import takes time, and a command that prints nothing does not need it

    return Console(soft_wrap=True, markup=False, highlight=False, emoji=False, **options)


def to_stderr() -> Console:
    """Return a console that prints on stderr, in colour on a terminal. Its text must already be escaped."""
    return _console(stderr=True)


@dataclass
class Output:
    """Prints the results and messages of a command, as its options `--json`, `--quiet` and `--verbose` say."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @cached_property
    def stderr(self) -> Console:
        """The console that prints everything except results."""
        return to_stderr()

    def result(self, document: Mapping[str, Any], text: str | Text | bytes) -> None:
        """Print a result on stdout: `document` on one line with `--json`, otherwise `text`.

        Bytes are data, such as the body of a message. Bytes are written unchanged to a file or a pipe, but escaped on a
        terminal. Raises ParcelqError if stdout is closed or cannot be written.
        """
        if self.json:
            line = escaped_json(json_format.dumps(document, ensure_ascii=False))
        elif isinstance(text, bytes):
            return _write(escaped_bytes(text) if sys.stdout is not None and sys.stdout.isatty() else text)
        elif isinstance(text, str):
            line = escaped(text)
        else:
            rendered = io.StringIO()
            is_terminal = sys.stdout is not None and sys.stdout.isatty()
            _console(file=rendered, force_terminal=is_terminal or None).print(escaped_text(text), end="")
            line = rendered.getvalue()
        return _write(line.encode() + b"\n")

    def note(self, text: str) -> None:
        """Print information for people on stderr, unless `quiet` is set."""
        if not self.quiet:
            self.stderr.print(escaped(text))

    def confirm(self, doomed: Mapping[str, str], yes: bool) -> None:
        """Show what will be deleted, and ask the user to confirm unless `yes` is true. Raises ParcelqError if the
        answer is no, or if there is no terminal.
        """
        if yes or not doomed:
            return
        if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
            listed = ", ".join(f"{name} ({content})" for name, content in doomed.items())
            raise ParcelqError(f"this deletes {listed}, and there is no terminal for asking you; add --yes to confirm")
        from rich.prompt import Confirm

        self.stderr.print("These will be deleted, with all that is in them:")
        self.stderr.print(fields(doomed))
        try:
            agreed = Confirm.ask("Delete them? This cannot be undone", console=self.stderr, default=False)
        except EOFError:
            agreed = False
        if not agreed:
            raise ParcelqError("nothing was deleted")

    @contextmanager
    def progress(self, doing: str) -> Iterator[StatusLine]:
        """Yield a function that shows progress: as a live bar on a terminal, otherwise as at most a line a second."""
        if self.quiet:
            yield lambda _text, _share=None: None
        elif self.stderr.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
            with Progress(*columns, console=self.stderr, transient=True) as live:
                task = live.add_task(one_line(doing), total=None)

                def show(text: str, share: float | None = None) -> None:
                    live.update(task, description=one_line(f"{doing}: {text}"), total=share and 1, completed=share or 0)

                yield show
        else:
            yield self._lines(doing)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Print log messages on stderr while the context lasts."""
        level = logging.INFO if self.verbose else logging.ERROR if self.quiet else logging.WARNING
        handler = _LogHandler(self, level)
        logger = logging.getLogger()
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(level)
        try:
            yield
        except Exception as error:
            if not isinstance(error, ParcelqError | typer.TyperException | typer.Exit | typer.Abort | OSError):
                _log.info("bug in parcelq", exc_info=True)
            raise
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)

    def _lines(self, doing: str) -> StatusLine:
        due = time.monotonic()

        def report(text: str, share: float | None = None) -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + _SECONDS_BETWEEN_LINES
                self.note(f"{doing}: {one_line(text)}" + (f", {share:.0%}" if share is not None else ""))

        return report


def escaped_text(text: Text) -> Text:
    """Escape terminal control characters in styled text, and keep the styles."""
    places = [found.start() for found in HARMFUL.finditer(text.plain)]
    if not places:
        return text
    pieces = text.divide(sorted({at for place in places for at in (place, place + 1)} - {0, len(text.plain)}))
    for piece in pieces:
        piece.plain = escaped(piece.plain)
    return type(text)().join(pieces)


def _write(data: bytes) -> None:
    """Write to stdout and flush, so that a message is acknowledged only after its text was written."""
    if sys.stdout is None:
        raise ParcelqError("stdout is closed, so results cannot be printed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        forget_stdout()
        if error.errno == errno.EPIPE:
            raise
        raise ParcelqError(f"cannot write to stdout: {error.strerror}") from None


def forget_stdout() -> None:
    """Drop the text that could not be written to stdout, so that Python does not write it again at exit."""
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 1)


class _LogHandler(logging.Handler):
    """Prints log messages through the console that shows progress, so that they do not break the live progress line."""

    def __init__(self, output: Output, level: int) -> None:
        super().__init__(level)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        about = " ".join(filter(None, (getattr(record, name, "") for name in ("source", "lineage"))))
        text = f"{record.levelname.lower()}: {self.format(record)}"
        self._output.stderr.print(escaped(f"{text} ({about})" if about else text))


def with_output(command: Callable[Concatenate[Output, Arguments], None]) -> Callable[Arguments, None]:
    """Give a command the options `--json`, `--quiet` and `--verbose`, and an `Output` as its first argument."""

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


def fields(values: Mapping[str, object]) -> Text:
    """Return names and values as lines of two columns."""
    shown = {one_line(name): one_line(value) for name, value in values.items()}
    width = max(map(len, shown), default=0)
    from rich.text import Text

    lines = (Text.assemble((f"{name:<{width}}", "bold"), f"  {value}") for name, value in shown.items())
    return Text("\n").join(lines)
