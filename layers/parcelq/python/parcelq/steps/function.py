r"""Writing a step as a Python function.

    from parcelq.step import step

    @step(each=True)
    def upper(entry):
        return entry.upper()

    if __name__ == "__main__":
        upper.main()

Such a file is an executable step and a filter, and Parcelq keeps its process from one run to the next. This module
imports only the standard library, and little of it, because every start of the step imports it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, TypeVar, cast, overload

from parcelq.steps.entries import Rejects, print_rejects, reject, run_function, write_rejects
from parcelq.steps.fault import explain

if TYPE_CHECKING:
    import argparse

__all__ = ["StepFunction", "reject", "step"]

FREE: Final = b"free\n"
"""A kept process writes this whenever it can take a run. The answer is a line of JSON, or end of file."""

Given = TypeVar("Given")
More = ParamSpec("More")
Made = TypeVar("Made")


class StepFunction(Generic[Given, More, Made]):
    """A function that is a step; called, it is that function.

    Args:
        function: what to run.
        raw: whether it takes the input and returns the output as bytes, and not as entries.
        each: whether it takes one entry, and not all of them.
    """

    def __init__(
        self, function: Callable[Concatenate[Given, More], Made], *, raw: bool = False, each: bool = False
    ) -> None:
        self._function = function
        self._raw = raw
        self._each = each
        update_wrapper(self, function)

    def __call__(self, given: Given, /, *args: More.args, **kwargs: More.kwargs) -> Made:
        """Call the function itself."""
        return self._function(given, *args, **kwargs)

    def main(self) -> None:
        """Run the function as the command line says: over a file, as a filter, or again and again.

        Exits with 1 and the exception's traceback on stderr if the function raises. Without `--rejects` it exits with 1
        as well if entries are rejected, and prints them on stderr; the output of the others is written.
        """
        options = _options(self.__doc__)
        try:
            more = _wanted(self._function, options)
            if options.warm is None:
                source = options.input or _taken(0, os.open(os.devnull, os.O_RDONLY))
                rejects = self._run(source, options.output or _taken(1, 2), more())
                if options.rejects:
                    write_rejects(options.rejects, rejects)
                elif rejects:
                    print_rejects(rejects)
                    sys.exit(1)
            else:
                self._serve(options.warm, more)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - printed for the parent process
            code = explain(error)
            if options.warm is not None:
                os._exit(code)  # at once, even if the function has started threads
            sys.exit(code)

    def _serve(self, control: int, more: Callable[[], dict[str, Any]]) -> None:
        """Run the function over one file after another, until the supervisor asks for no more."""
        os.set_inheritable(control, False)
        me, home, environment = os.getpid(), os.getcwd(), dict(os.environ)
        with open(control, "rb") as requests:
            while True:
                os.write(control, FREE)
                if not (line := requests.readline()):
                    return
                request = json.loads(line)
                _begin(request["work"], {**environment, "TMPDIR": request["tmpdir"]})
                rejects = self._run(request["input"], request["output"], more())
                write_rejects(request["rejects"], rejects)
                if os.getpid() != me:
                    os._exit(0)  # a fork that the function did not end must not answer too
                _begin(home, environment)

    def _run(self, source: str | int, target: str | int, more: dict[str, Any]) -> Rejects:
        function = cast("Callable[..., Any]", self._function)
        if not self._raw:
            return run_function(function, source, target, more, each=self._each)
        with open(source, "rb") as file:
            data = function(file.read(), **more)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"{function.__name__} must return bytes, not {type(data).__name__}")
        with open(target, "wb") as file:
            file.write(data)
        return []


EntriesStep = Callable[Concatenate[Iterator[str], More], Iterable[str]]
EachStep = Callable[Concatenate[str, More], Iterable[str] | None]
BytesStep = Callable[Concatenate[bytes, More], bytes]


@overload
def step(function: EntriesStep[More], /) -> StepFunction[Iterable[str], More, Iterable[str]]: ...


@overload
def step(*, raw: Literal[True]) -> Callable[[BytesStep[More]], StepFunction[bytes, More, bytes]]: ...


@overload
def step(*, each: Literal[True]) -> Callable[[EachStep[More]], StepFunction[str, More, Iterable[str] | None]]: ...


def step(function: Callable[..., Any] | None = None, /, *, raw: bool = False, each: bool = False) -> Any:
    r"""Mark a function as a step.

    `@step` is for a function from entries to entries: it takes an iterator of str, each a line without its `\n`, and
    returns or yields str without `\n`. If records are not lines, each str is a whole record, which may have line ends
    in it. The header is not among them, and goes to the output as it is. Bytes that are not UTF-8 come as surrogate
    escapes and go back to the same bytes.

    `@step(each=True)` is for a function of one entry: it returns a str, which is one entry of output, None for no
    output, or an iterable of str. If it raises, that entry alone is rejected, and the exception is the reason.

    `@step(raw=True)` is for a function from bytes to bytes: the whole input, and the whole output.

    Each may have two more parameters, with these names: `settings`, what the settings file says under `step`, None if
    nothing; and `workflow_id`, a str, which may be empty.
    """
    if raw and each:
        raise TypeError("step() takes raw=True or each=True, not both")
    return StepFunction(function) if function else lambda marked: StepFunction(marked, raw=raw, each=each)


def _options(description: str | None) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", metavar="FILE", help="one entry a line; stdin if not given")
    parser.add_argument("--output", metavar="FILE", help="stdout if not given")
    parser.add_argument("--rejects", metavar="FILE", help="where bad entries are named, as lines of JSON")
    parser.add_argument("--workflow-id", default="", metavar="ID")
    parser.add_argument("--settings", metavar="FILE")
    parser.add_argument("--warm", type=int, help=argparse.SUPPRESS)  # the descriptor on which Parcelq asks for runs
    return parser.parse_args()


def _wanted(function: Callable[..., Any], options: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the step's further arguments anew for every run, since the step may change them."""
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
    """Copy a standard stream and replace it, so that the function cannot read from it or print to it."""
    copy = os.dup(stream)
    os.dup2(instead, stream)
    return copy


def _begin(folder: str, environment: dict[str, str]) -> None:
    """Remove the traces of an earlier run: its folder, its variables, its children that ended, what it printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it was closed, which is no fault
            stream.flush()
    os.chdir(folder)
    found = dict(os.environ)
    for name in found.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if found.get(name) != value:
            os.environ[name] = value
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None  # it remembers an earlier TMPDIR
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
