r"""Writing a step as a Python function.

    from parcelq.steps.function import step

    @step
    def upper(entries):
        for entry in entries:
            yield entry.upper()

    if __name__ == "__main__":
        upper.main()

Such a file is an executable step and a filter, and with `warm: true` in its settings Parcelq keeps its process from one
run to the next. Only the standard library is imported here, and little of it: it is part of every start.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, TypeVar, cast, overload

if TYPE_CHECKING:
    import argparse

FREE: Final = b"free\n"
"""What a kept process says whenever it can be given a run; the answer is a line of JSON, or the end."""
_HEAD_BYTES: Final = 2500
_END_BYTES: Final = 1000
"""How much is told of a long exception; both together are less than Parcelq keeps of stderr."""
_FRAMES: Final = 5
_LINES: Final[Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
"""How entries are read and written: any bytes come back as they were, and only `\\n` ends a line."""

Given = TypeVar("Given")
More = ParamSpec("More")
Made = TypeVar("Made")


class StepFunction(Generic[Given, More, Made]):
    """A function that is a step; called, it is that function.

    Args:
        function: what to run.
        raw: whether it is given the input and returns the output as bytes, and not as entries.
    """

    def __init__(self, function: Callable[Concatenate[Given, More], Made], *, raw: bool) -> None:
        self._function = function
        self._raw = raw
        update_wrapper(self, function)

    def __call__(self, given: Given, /, *args: More.args, **kwargs: More.kwargs) -> Made:
        """As the function itself."""
        return self._function(given, *args, **kwargs)

    def main(self) -> None:
        """Run the function as the command line says: over a file, as a filter, or again and again.

        Exits with 1 and the exception's traceback on stderr if the function raises.
        """
        options = _options(self.__doc__)
        try:
            more = _wanted(self._function, options)
            if options.warm is None:
                source = options.input or _taken(0, os.open(os.devnull, os.O_RDONLY))
                self._run(source, options.output or _taken(1, 2), more())
            else:
                self._serve(options.warm, more)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told to whoever started this, as any end of a step
            code = _tell(error)
            if options.warm is not None:
                os._exit(code)  # at once, whatever threads the function has started
            sys.exit(code)

    def _serve(self, control: int, more: Callable[[], dict[str, Any]]) -> None:
        """Run the function over one file after another, as told, until there is nobody to tell."""
        os.set_inheritable(control, False)
        me, home, environment = os.getpid(), os.getcwd(), dict(os.environ)
        with open(control, "rb") as requests:
            while True:
                os.write(control, FREE)
                if not (line := requests.readline()):
                    return
                request = json.loads(line)
                _begin(request["work"], {**environment, "TMPDIR": request["tmpdir"]})
                self._run(request["input"], request["output"], more())
                if os.getpid() != me:
                    os._exit(0)  # a fork that the function did not end must not answer too
                _begin(home, environment)

    def _run(self, source: str | int, target: str | int, more: dict[str, Any]) -> None:
        function = cast("Callable[..., Any]", self._function)
        if self._raw:
            with open(source, "rb") as file:
                data = function(file.read(), **more)
            if not isinstance(data, bytes | bytearray | memoryview):
                raise TypeError(f"{function.__name__} must return bytes, not {type(data).__name__}")
            with open(target, "wb") as file:
                file.write(data)
            return
        with open(source, **_LINES) as lines, open(target, "w", **_LINES) as out:
            entries = function((line.removesuffix("\n") for line in lines), **more)
            if not isinstance(entries, Iterable) or isinstance(entries, str | bytes):
                raise TypeError(f"{function.__name__} must return or yield entries, not {type(entries).__name__}")
            out.writelines(map(_line, entries))


EntriesStep = Callable[Concatenate[Iterator[str], More], Iterable[str]]
BytesStep = Callable[Concatenate[bytes, More], bytes]


@overload
def step(function: EntriesStep[More], /) -> StepFunction[Iterable[str], More, Iterable[str]]: ...


@overload
def step(*, raw: Literal[True]) -> Callable[[BytesStep[More]], StepFunction[bytes, More, bytes]]: ...


def step(function: Callable[..., Any] | None = None, /, *, raw: bool = False) -> Any:
    r"""Mark a function as a step.

    `@step` is for one from entries to entries: it is given an iterator of str, each a line without its `\n`, and
    returns or yields str without `\n`. Bytes that are no UTF-8 come as surrogate escapes and go back to the same bytes.
    `@step(raw=True)` is for one from bytes to bytes: the whole input, and the whole output.

    It may take, by these names, `settings`: what the settings file says under `step`, None if nothing; and
    `workflow_id`: a str, which may be empty.
    """
    return StepFunction(function, raw=raw) if function else lambda marked: StepFunction(marked, raw=raw)


def _options(description: str | None) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", metavar="FILE", help="one entry a line; stdin if not given")
    parser.add_argument("--output", metavar="FILE", help="stdout if not given")
    parser.add_argument("--workflow-id", default="", metavar="ID")
    parser.add_argument("--settings", metavar="FILE")
    parser.add_argument("--warm", type=int, help=argparse.SUPPRESS)  # the descriptor on which Parcelq is to be asked
    return parser.parse_args()


def _wanted(function: Callable[..., Any], options: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """What makes the arguments that a function takes beside its input, anew for every run: it may change them."""
    from copy import deepcopy
    from inspect import signature

    names = list(signature(function).parameters)[1:]
    more = {"workflow_id": options.workflow_id} if "workflow_id" in names else {}
    if "settings" in names:
        from pathlib import Path

        from parcelq.steps.settings import read_settings

        more["settings"] = read_settings(Path(options.settings)).step if options.settings else None
    return lambda: deepcopy(more)


def _taken(stream: int, instead: int) -> int:
    """A copy of a standard stream whose place another takes: what the function reads and prints is not in its way."""
    copy = os.dup(stream)
    os.dup2(instead, stream)
    return copy


def _begin(folder: str, environment: dict[str, str]) -> None:
    """Leave nothing of an earlier run around: its folder, its variables, its children that ended, what it printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it was closed, which is no fault
            stream.flush()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None  # where it found TMPDIR to be
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _line(entry: object) -> str:
    if not isinstance(entry, str):
        raise TypeError(f"an entry must be a str, but {entry!r:.100} is a {type(entry).__name__}")
    if "\n" in entry:
        raise ValueError(f"an entry is one line without its line end, but {entry!r:.100} has one")
    return entry + "\n"


def _tell(error: BaseException) -> int:
    """Say on stderr what ended the function, and return the code to exit with, which is never 0."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, int) and error.code:
            return error.code
        text = str(error.code) if error.code else "sys.exit() was called before the step was done"
    else:
        text = _traceback(error)
    data = text.strip().encode("utf-8", "backslashreplace")
    if len(data) > _HEAD_BYTES + _END_BYTES:
        data = data[:_HEAD_BYTES] + " … ".encode() + data[-_END_BYTES:]
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        os.write(2, data + b"\n")
    return 1


def _traceback(error: BaseException) -> str:
    """The exception and where the user's code raised it."""
    from traceback import StackSummary, TracebackException

    ours = os.path.dirname(__file__) + os.sep
    whole = TracebackException.from_exception(error)
    told: TracebackException | None = whole
    while told:
        frames = [frame for frame in told.stack if not frame.filename.startswith(ours)]
        told.stack = StackSummary.from_list(frames[-_FRAMES:])
        told = told.__cause__ or told.__context__
    return "".join(whole.format() if whole.stack else whole.format_exception_only())
