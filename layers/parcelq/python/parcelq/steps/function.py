r"""Writing a step as a Python function.

    from parcelq.step import step

    @step(each=True)
    def upper(entry):
        return entry.upper()

    if __name__ == "__main__":
        upper.main()

Such a file is an executable step and a filter, and Parcelq keeps its process from one run to the next. Only the
standard library is imported here, and little of it: it is part of every start.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial, update_wrapper
from operator import length_hint
from typing import IO, TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, TypeVar, cast, overload

if TYPE_CHECKING:
    import argparse

FREE: Final = b"free\n"
"""What a kept process says whenever it can be given a run; the answer is a line of JSON, or the end."""
FORMAT_SUFFIX: Final = ".format"
"""What the name of the file ends with that says what the records of an input are, where they are not lines: JSON with
`format`, `header` (its bytes), `writes_header` and `one_line` (whether entries of output are lines)."""
_MESSAGE_BYTES: Final = 2000
_REASON_BYTES: Final = 3500
"""How much of an exception's message and of a whole reason is printed; less than Parcelq keeps of stderr."""
_FRAMES: Final = 5
_BLOCK: Final = 4096
"""So many entries of output are written at a time."""
_LINES: Final[Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
"""How entries are read and written: any bytes come back as they were, and only `\\n` ends a line."""

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
        """As the function itself."""
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
                    _write_rejects(options.rejects, rejects)
                elif rejects:
                    _print_rejects(rejects)
                    sys.exit(1)
            else:
                self._serve(options.warm, more)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - printed for whoever started this
            code = _tell(error)
            if options.warm is not None:
                os._exit(code)  # at once, whatever threads the function has started
            sys.exit(code)

    def _serve(self, control: int, more: Callable[[], dict[str, Any]]) -> None:
        """Run the function over one file after another, until there is nobody who asks for it."""
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
                _write_rejects(request["rejects"], rejects)
                if os.getpid() != me:
                    os._exit(0)  # a fork that the function did not end must not answer too
                _begin(home, environment)

    def _run(self, source: str | int, target: str | int, more: dict[str, Any]) -> Rejects:
        global _current, _one_line  # noqa: PLW0603 - what `reject` is about: one run at a time in a process
        function = cast("Callable[..., Any]", self._function)
        if self._raw:
            with open(source, "rb") as file:
                data = function(file.read(), **more)
            if not isinstance(data, bytes | bytearray | memoryview):
                raise TypeError(f"{function.__name__} must return bytes, not {type(data).__name__}")
            with open(target, "wb") as file:
                file.write(data)
            return []
        entries, header, _one_line = _entries_of(source)
        _current = run = _Each(entries) if self._each else _Entries(entries)
        try:
            with open(target, "w", **_LINES) as out:
                out.write(header)
                run.run(function, more, out)
        finally:
            _current = None
        return run.rejects()


def _entries_of(source: str | int) -> tuple[list[str], str, bool]:
    """Read an input: its entries without their last line ends, the header to write, and whether entries are lines."""
    about: dict[str, Any] = {}
    if isinstance(source, str):
        with contextlib.suppress(FileNotFoundError), open(source + FORMAT_SUFFIX, encoding="utf-8") as file:
            about = json.load(file)
    if not about:
        with open(source, **_LINES) as file:
            lines: list[str] = file.read().split("\n")
        if not lines[-1]:
            del lines[-1]
        return lines, "", True
    from parcelq.records import parse

    with open(source, "rb") as file:
        header, body = file.read(about["header"]), file.read()
    parts = parse(about["format"]).parts(body, 1)
    entries = [body[part.start : part.end].removesuffix(b"\n").decode("utf-8", "surrogateescape") for part in parts]
    written = header.decode("utf-8", "surrogateescape") if about["writes_header"] else ""
    return entries, written, about["one_line"]


class RejectedError(Exception):
    """Raised by `reject` in a function of one entry, where it ends the function."""


Rejects = list[tuple[int, int | None, str]]
"""Number of the entry, how many entries of output came before it if that is known, and the reason."""


class _Entries:
    """A run of a function from entries to entries."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._given = iter(lines)
        self._made: list[Any] = []
        self._written = 0
        self._yields = False
        self._rejects: dict[int, tuple[int | None, str]] = {}

    def run(self, function: Callable[..., Any], more: dict[str, Any], out: IO[str]) -> None:
        entries = function(self._given, **more)
        if not isinstance(entries, Iterable) or isinstance(entries, str | bytes):
            raise TypeError(f"{function.__name__} must return or yield entries, not {type(entries).__name__}")
        self._yields = isinstance(entries, Iterator)
        made = self._made
        for entry in entries:
            made.append(entry)
            if len(made) == _BLOCK:
                out.write(_text(made))
                self._written += _BLOCK
                made.clear()
        out.write(_text(made))

    def reject(self, entry: str | int, reason: str) -> None:
        """Note an entry that is bad; of several that are equal, the one that the function took last."""
        last = len(self._lines) - length_hint(self._given) - 1
        number = entry if isinstance(entry, int) else self._number(entry, last)
        if not 0 <= number < len(self._lines):
            raise ValueError(f"reject: there is no entry {number}; the input has {len(self._lines)}, counted from 0")
        # How much came before it is known only of the entry that was taken last.
        after = self._written + len(self._made) if self._yields and number == last else None
        self._rejects[number] = (after, reason)

    def rejects(self) -> Rejects:
        """All of them, sorted; those that came out of order do not say how much came before them."""
        most, found = 0, []
        for number in sorted(self._rejects):
            after, reason = self._rejects[number]
            after = None if after is None or after < most else after
            most = max(most, after or 0)
            found.append((number, after, reason))
        return found

    def _number(self, entry: str, last: int) -> int:
        for number in range(last, -1, -1):
            if self._lines[number] == entry and number not in self._rejects:
                return number
        raise ValueError(f"reject: {entry!r:.100} is no entry that was taken from the input")


class _Each:
    """A run of a function of one entry, over all of them."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._written = 0
        self._rejects: Rejects = []

    def run(self, function: Callable[..., Any], more: dict[str, Any], out: IO[str]) -> None:
        from inspect import isgeneratorfunction

        call = partial(function, **more) if more else function
        if isgeneratorfunction(function):
            call = _listed(call)
        for start in range(0, len(self._lines), _BLOCK):
            out.write(self._block(call, self._lines[start : start + _BLOCK], start))

    def reject(self, _entry: str | int, reason: str) -> None:
        """End the function, which has one entry only."""
        raise RejectedError(reason)

    def rejects(self) -> Rejects:
        """All of them, sorted."""
        return self._rejects

    def _block(self, call: Callable[..., Any], lines: list[str], start: int) -> str:
        made: list[Any] = []
        bad: dict[int, str] = {}
        results = map(call, lines)
        # `extend` keeps what came before an exception, and `map` goes on after it: a good entry costs the call alone.
        while True:
            try:
                made.extend(results)
                break
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - it rejects this entry alone
                bad[len(made) + len(bad)] = _reason(error)
        try:
            text = "\n".join(made)
        except TypeError:  # not every entry gave a str
            return self._unpacked(made, bad, len(lines), start)
        if _one_line and text.count("\n") != max(0, len(made) - 1):
            return self._unpacked(made, bad, len(lines), start)
        for number, (entry, reason) in enumerate(bad.items()):
            self._rejects.append((start + entry, self._written + entry - number, reason))
        self._written += len(made)
        return text + "\n" if made else ""

    def _unpacked(self, made: list[Any], bad: dict[int, str], count: int, start: int) -> str:
        """Count what each entry gave, where that is not one entry of output for each."""
        results = iter(made)
        out: list[str] = []
        for entry in range(count):
            reason = bad.get(entry)
            if reason is None:
                try:
                    out += _lines_of(next(results))
                    continue
                except Exception as error:  # noqa: BLE001 - it rejects this entry alone
                    reason = _reason(error)
            self._rejects.append((start + entry, self._written + len(out), reason))
        self._written += len(out)
        return "".join(out)


_current: _Entries | _Each | None = None
_one_line = True
"""Whether an entry of output is a line; otherwise it may have line ends in it."""


def reject(entry: str | int, reason: str) -> None:
    """Reject an entry: it becomes a dead letter with this reason, and the others count.

    In a function of one entry (`@step(each=True)`) it does not return. In one of all entries it returns, and the
    function must not yield anything for that entry.

    Args:
        entry: the entry as the function got it, or its number in the input, from 0.
        reason: what is wrong with it.

    Raises:
        ValueError: there is no such entry, or no reason.
        RuntimeError: no step is running.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"reject: the reason is {reason!r:.100}, but must be a text that says what is wrong")
    if _current is None:
        raise RuntimeError("reject() works only in a function that runs as a step of entries")
    _current.reject(entry, reason)


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
    returns or yields str without `\n`. Of an input that is not lines, each is a whole record, which may have line ends
    in it; the header is not among them, and goes to the output as it is. Bytes that are no UTF-8 come as surrogate
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
    found = dict(os.environ)
    for name in found.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if found.get(name) != value:
            os.environ[name] = value
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None  # where it found TMPDIR to be
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _text(entries: list[Any]) -> str:
    """Entries as the lines of a file."""
    try:
        text = "\n".join(entries)
        if entries and (not _one_line or text.count("\n") == len(entries) - 1):
            return text + "\n"
    except TypeError:  # one is no str, which the next line finds
        pass
    return "".join(map(_line, entries))


def _lines_of(made: object) -> list[str]:
    """The lines of what a function made of one entry: a str, None, or an iterable of str."""
    if isinstance(made, str):
        return [_line(made)]
    if made is None:
        return []
    if not isinstance(made, Iterable) or isinstance(made, bytes | bytearray):
        raise TypeError(f"a function of one entry must return a str, None or an iterable of str, not {made!r:.100}")
    return [_line(one) for one in made]


def _line(entry: object) -> str:
    if not isinstance(entry, str):
        raise TypeError(f"an entry must be a str, but {entry!r:.100} is a {type(entry).__name__}")
    if _one_line and "\n" in entry:
        raise ValueError(f"an entry is one line without its line end, but {entry!r:.100} has one")
    return entry + "\n"


def _listed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A generator function as one that has ended when it returns, so that it raises where it is called."""
    return lambda *args: list(function(*args))


def _write_rejects(path: str, rejects: Rejects) -> None:
    if rejects:
        with open(path, "w", encoding="utf-8") as file:
            for entry, after, reason in rejects:
                file.write(json.dumps({"entry": entry, "after": after, "reason": reason}) + "\n")


def _print_rejects(rejects: Rejects) -> None:
    """Print the first rejects on stderr, where nobody asks for their file."""
    for entry, _, reason in rejects[:20]:
        _print(f"entry {entry}: {reason}")
    if len(rejects) > 20:
        _print(f"and {len(rejects) - 20} more")


def _reason(error: Exception) -> str:
    """Why an entry is bad: the exception, then the place in the user's code that raised it."""
    if isinstance(error, RejectedError):
        return str(error)
    text = _message(error)
    place, trace = "", error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        if code.co_filename != __file__:
            place = f"\n  {os.path.basename(code.co_filename)}, line {trace.tb_lineno}, in {code.co_name}"
        trace = trace.tb_next
    return text + place


def _message(error: BaseException) -> str:
    """The exception as the last line of its traceback; the middle of a long message is left out."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - its own text fails, and it must not take the run down
        message = "<no text>"
    name = type(error).__qualname__
    if type(error).__module__ not in {"builtins", "__main__"}:
        name = f"{type(error).__module__}.{name}"
    if len(message) > _MESSAGE_BYTES:
        message = f"{message[: _MESSAGE_BYTES // 2]} … {message[-_MESSAGE_BYTES // 2 :]}"
    return f"{name}: {message}" if message else name


def _tell(error: BaseException) -> int:
    """Print on stderr what ended the function, and return the code to exit with, which is never 0."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, int) and error.code:
            return error.code
        text = str(error.code) if error.code else "sys.exit() was called before the step was done"
    else:
        text = _traceback(error)
    _print(text)
    return 1


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        os.write(2, text.strip().encode("utf-8", "backslashreplace") + b"\n")


def _traceback(error: BaseException) -> str:
    """The traceback through the user's code, and the exception; of what is too long, the first frames are left out."""
    from traceback import StackSummary, TracebackException

    ours = os.path.dirname(__file__) + os.sep
    whole = TracebackException.from_exception(error)
    part: TracebackException | None = whole
    while part:
        frames = [frame for frame in part.stack if not frame.filename.startswith(ours)]
        part.stack = StackSummary.from_list(frames[-_FRAMES:])
        part = part.__cause__ or part.__context__
    lines = list(whole.format()) if whole.stack else []
    last = _message(error) if not isinstance(error, SyntaxError) else "".join(whole.format_exception_only())
    frames_text = "".join(lines[: -len(list(whole.format_exception_only())) or None])
    room = _REASON_BYTES - len(last.encode("utf-8", "backslashreplace"))
    data = frames_text.encode("utf-8", "backslashreplace")
    if len(data) > room:
        kept = data[-max(0, room) :].decode("utf-8", "ignore").partition("\n")[2] if room > 0 else ""
        frames_text = f"Traceback (most recent call last):\n  …\n{kept}"
    return frames_text + last
