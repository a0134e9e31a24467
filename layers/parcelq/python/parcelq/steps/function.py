r"""Turns a Python function into a step.

    from parcelq.step import step

    @step(each=True)
    def upper(entry):
        return entry.upper()

    if __name__ == "__main__":
        upper.main()

A file with this code is an executable step and a filter, and Parcelq keeps the step's process between runs. Every such
step imports this module when it starts, so this module imports only a few modules of the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, TypeVar, cast, overload

from parcelq.steps.entries import (
    FORMAT_SUFFIX,
    Rejects,
    Write,
    print_rejects,
    reject,
    rejects_text,
    run_function,
)
from parcelq.steps.fault import explain

if TYPE_CHECKING:
    import argparse

__all__ = ["StepFunction", "reject", "step"]

Given = TypeVar("Given")
More = ParamSpec("More")
Made = TypeVar("Made")
_BLOCK_BYTES: Final = 1 << 20


class StepFunction(Generic[Given, More, Made]):
    """A Python function that is used as a step. Calling a `StepFunction` calls the Python function.

    The function gets and returns entries, or if it is `raw` bytes; or if `each`, it is called with one entry.
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
        """Run the function as the command line says: over a file, as a filter, or in a warm process.

        If the function raises an exception, the process exits with 1 and prints the traceback on stderr. If entries are
        rejected and `--rejects` is not given, the process also exits with 1 and prints the rejects on stderr. The
        output of the other entries is written nevertheless.
        """
        options = _options(self.__doc__)
        try:
            more = _wanted(self._function, options)
            if options.warm is None:
                rejects = self._filter(options, more())
                if rejects and options.rejects:
                    with open(options.rejects, "w", encoding="utf-8") as file:
                        file.write(rejects_text(rejects))
                elif rejects:
                    print_rejects(rejects)
                    sys.exit(1)
            else:
                self._serve(options.warm, more)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - printed for the parent process
            code = explain(error)
            if options.warm is not None:
                os._exit(code)  # exits at once, even if the function has started threads
            sys.exit(code)

    def _filter(self, options: argparse.Namespace, more: dict[str, Any]) -> Rejects:
        """Run the function over a file or stdin, and write the output to a file or stdout."""
        source = options.input or _taken(0, os.open(os.devnull, os.O_RDONLY))
        target = options.output or _taken(1, 2)
        about: dict[str, Any] = {}
        if options.input:
            with contextlib.suppress(FileNotFoundError), open(options.input + FORMAT_SUFFIX, encoding="utf-8") as file:
                about = json.load(file)
        with open(source, "rb") as file:
            data = file.read()
        with open(target, "wb") as out:
            return self._run(data, about, out.write, more)

    def _serve(self, control: int, more: Callable[[], dict[str, Any]]) -> None:
        """Run the function over one input after another, until the socket is closed.

        When the process is ready for a run, the process writes `free` and two numbers to the socket: the offsets at
        which its output and its rejects end in their files. Then Parcelq writes a line of JSON that describes the next
        run, or closes the socket.
        """
        os.set_inheritable(control, False)
        me, work, environment = os.getpid(), os.getcwd(), dict(os.environ)
        home = os.path.dirname(work)
        at = named = 0
        with open(control, "rb") as requests:
            while True:
                os.write(control, b"free %d %d\n" % (at, named))
                if not (line := requests.readline()):
                    return
                request = json.loads(line)
                if request["first"]:
                    at = named = 0
                _begin(request["folder"] + "/work", {**environment, "TMPDIR": request["tmpdir"]})
                data = _read(home + "/input", request["start"], request["end"])
                with contextlib.closing(FileWriter(home + "/output", at)) as out:
                    rejects = self._run(data, request["about"] or {}, out.write, more())
                with contextlib.closing(FileWriter(home + "/rejects", named)) as bad:
                    bad.write(rejects_text(rejects).encode())
                if os.getpid() != me:
                    os._exit(0)  # a fork that the function did not end must not answer too
                at, named = out.end, bad.end
                _end(work)

    def _run(self, data: bytes, about: dict[str, Any], write: Write, more: dict[str, Any]) -> Rejects:
        function = cast("Callable[..., Any]", self._function)
        if not self._raw:
            return run_function(function, data, about, write, more, each=self._each)
        made = function(data, **more)
        if not isinstance(made, bytes | bytearray | memoryview):
            raise TypeError(f"{function.__name__} must return bytes, not {type(made).__name__}")
        write(made)
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

    `@step` marks a function that turns entries into entries: the function takes an iterator of lines, each a str
    without its `\n`, and returns or yields lines without `\n`. If records are not lines, each str is a whole record,
    which may contain line ends. The header is not passed to the function, and is copied to the output. Bytes that are
    not UTF-8 become surrogate escapes, which are written as the same bytes.

    `@step(each=True)` marks a function that is called with one entry: the function returns a str if there is one output
    entry, None if there is none, or an iterable of str. If the function raises an exception, only this entry is
    rejected, with the exception as the reason.

    `@step(raw=True)` marks a function that takes the whole input as bytes and returns the whole output as bytes.

    Each of these functions may have two more parameters with these names: `settings`, the value of the key `step` in
    the settings file, or None; and `workflow_id`, a str, which may be empty.
    """
    if raw and each:
        raise TypeError("step() takes raw=True or each=True, not both")
    return StepFunction(function) if function else lambda marked: StepFunction(marked, raw=raw, each=each)


class FileWriter:
    """Writes into a file from the offset `start`; `end` is the offset after the written bytes. Later bytes stay
    unchanged.

    If the process is forked, the fork writes at the same offset as the process, not after the bytes of the process.
    """

    def __init__(self, path: str, start: int) -> None:
        self.end = start
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`."""
        left = memoryview(data).cast("B") if len(data) else b""
        while left:
            written = os.pwrite(self._file, left[:_BLOCK_BYTES], self.end)
            self.end, left = self.end + written, left[written:]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _options(description: str | None) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", metavar="FILE", help="one entry a line; stdin if not given")
    parser.add_argument("--output", metavar="FILE", help="stdout if not given")
    parser.add_argument("--rejects", metavar="FILE", help="file for rejected entries, as lines of JSON")
    parser.add_argument("--workflow-id", default="", metavar="ID")
    parser.add_argument("--settings", metavar="FILE")
    parser.add_argument("--warm", type=int, help=argparse.SUPPRESS)  # the descriptor on which Parcelq requests runs
    return parser.parse_args()


def _wanted(function: Callable[..., Any], options: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """Return a function that creates the step's further arguments for each run, because a run may change them."""
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
    """Replace a standard stream, so that the user's function cannot use it, and return a copy of the original."""
    copy = os.dup(stream)
    os.dup2(instead, stream)
    return copy


def _read(path: str, start: int, end: int) -> bytes:
    """Read bytes `[start, end)` of a file."""
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        data = file.read(end - start) or b""
        while len(data) < end - start:  # one call reads at most 2 GiB
            block = file.read(end - start - len(data))
            if not block:
                raise EOFError(f"the input ends after {len(data)} of {end - start} bytes")
            data += block
    return data


def _begin(folder: str, environment: dict[str, str]) -> None:
    """Prepare the process for a run: set the run's working directory, environment variables and `TMPDIR`."""
    os.chdir(folder)
    found = dict(os.environ)
    if found != environment:
        for name in found.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None  # the module remembers an earlier TMPDIR


def _end(folder: str) -> None:
    """Clean up after a run: flush what it printed, leave its folder, and reap child processes that have ended."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the function closed the stream, which is allowed
            stream.flush()
    os.chdir(folder)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
