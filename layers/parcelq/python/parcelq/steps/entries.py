"""Runs a step function over entries: reads an input as entries, calls the function, and writes the entries that the
function returns.

Every Python step imports this module when it starts, so this module imports few others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from operator import length_hint
from typing import Any, Final

from parcelq.steps.fault import print_error, reason_of_entry

FORMAT_SUFFIX: Final = ".format"
"""Suffix of the file beside an input that describes the input's records, if the records are not lines. The file is JSON
with `format`, `header` (the number of bytes of the header), `writes_header` and `one_line` (whether each output entry
is a line).
"""
_BLOCK: Final = 4096
"""How many output entries are written at a time."""
_LINES: Final = "utf-8", "surrogateescape"
"""The encoding of entries, and its error handler, which preserves bytes that are not UTF-8."""
_PRINTED: Final = 20
_STOPPED: Final = "StopIteration: next() found nothing; next(iterator, None) returns None instead"
"""The reason for an entry on which the function raised StopIteration, an exception that is lost in loops."""
_NO_ENTRIES: Final = (bytes, bytearray, dict, set, frozenset)
"""Iterables that a function returns only by mistake: a dict would write only its keys, and a set has no order."""

Rejects = list[tuple[int, int | None, str]]
"""For each reject: the entry's number, the number of output entries before the entry (None if unknown), the reason."""


Write = Callable[["bytes | bytearray | memoryview"], object]
"""A function that writes all bytes of its argument."""


class RejectedError(BaseException):
    """The exception that `reject` raises to end a Python function that is called with one entry. It is no `Exception`,
    so that `except Exception` in the function does not catch it.
    """


class _Entries:
    """A run in which a Python function is called once, with an iterator of all entries."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._given = iter(lines)
        self._made: list[Any] = []
        self._written = 0
        self._yields = False
        self._rejects: dict[int, tuple[int | None, str]] = {}

    def run(self, function: Callable[..., Any], more: dict[str, Any], write: Write) -> None:
        entries = function(self._given, **more)
        if not isinstance(entries, Iterable) or isinstance(entries, (str, *_NO_ENTRIES)):
            raise TypeError(f"{function.__name__} must return or yield entries, not {type(entries).__name__}")
        self._yields = isinstance(entries, Iterator)
        made = self._made
        if isinstance(entries, Iterator) and not isinstance(entries, Generator):
            entries = _stopped_only_by_itself(entries)
        for entry in entries:
            made.append(entry)
            if len(made) == _BLOCK:
                write(_text(made).encode(*_LINES))
                self._written += _BLOCK
                made.clear()
        if unread := length_hint(self._given):
            raise RuntimeError(
                f"{function.__name__} read {len(self._lines) - unread} of {len(self._lines)} entries, but must read all"
            )
        write(_text(made).encode(*_LINES))

    def reject(self, entry: str | int, reason: str) -> None:
        """Record that an entry is rejected. Of several equal entries, this is the one that the function read last."""
        last = len(self._lines) - length_hint(self._given) - 1
        number = entry if isinstance(entry, int) else self._number(entry, last)
        if not 0 <= number < len(self._lines):
            raise ValueError(f"reject: there is no entry {number}; the input has {len(self._lines)}, counted from 0")
        # The amount of output before an entry is known only if the entry was read last.
        after = self._written + len(self._made) if self._yields and number == last else None
        self._rejects[number] = (after, reason)

    def rejects(self) -> Rejects:
        """Return all rejects, sorted. If they were reported out of order, their places in the output are unknown."""
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
        raise ValueError(f"reject: {entry!r:.100} is not an entry of the input")


class _Each:
    """A run in which a Python function is called once for each entry."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._written = 0
        self._rejects: Rejects = []
        self._raised = self._caught = 0

    def run(self, function: Callable[..., Any], more: dict[str, Any], write: Write) -> None:
        from inspect import isgeneratorfunction

        call = partial(function, **more) if more else function
        if isgeneratorfunction(function):
            call = _listed(call)
        for start in range(0, len(self._lines), _BLOCK):
            write(self._block(call, self._lines[start : start + _BLOCK], start).encode(*_LINES))
            if self._caught != self._raised:
                raise RuntimeError(f"{function.__name__} must not catch the exception that reject() raises")

    def reject(self, _entry: str | int, reason: str) -> None:
        """End the function's call for the current entry, with the reason why the entry is rejected."""
        self._raised += 1
        raise RejectedError(reason)

    def rejects(self) -> Rejects:
        """Return all rejects, sorted."""
        return self._rejects

    def _block(self, call: Callable[..., Any], lines: list[str], start: int) -> str:
        made: list[Any] = []
        bad: dict[int, str] = {}
        results = map(call, lines)
        # `extend` keeps the results before an exception, and `map` continues after the exception. So a good entry
        # takes no time besides the call of the function.
        while len(made) + len(bad) < len(lines):
            try:
                made.extend(results)
                if len(made) + len(bad) < len(lines):  # to `extend`, a StopIteration means the end of all entries
                    bad[len(made) + len(bad)] = _STOPPED
            except MemoryError:
                raise
            except (Exception, RejectedError) as error:  # noqa: BLE001 - the exception rejects only this entry
                bad[len(made) + len(bad)] = self._reason(error)
        try:
            text = "\n".join(made)
        except TypeError:  # the function did not return a str for every entry
            return self._unpacked(made, bad, len(lines), start)
        if _one_line and text.count("\n") != max(0, len(made) - 1):
            return self._unpacked(made, bad, len(lines), start)
        for number, (entry, reason) in enumerate(bad.items()):
            self._rejects.append((start + entry, self._written + entry - number, reason))
        self._written += len(made)
        return text + "\n" if made else ""

    def _unpacked(self, made: list[Any], bad: dict[int, str], count: int, start: int) -> str:
        """Return the output as text, and count the output entries, if not every entry has exactly one."""
        results = iter(made)
        out: list[str] = []
        for entry in range(count):
            reason = bad.get(entry)
            if reason is None:
                try:
                    out += _lines_of(next(results))
                    continue
                except (Exception, RejectedError) as error:  # noqa: BLE001 - the exception rejects only this entry
                    reason = self._reason(error)
            self._rejects.append((start + entry, self._written + len(out), reason))
        self._written += len(out)
        return "".join(out)

    def _reason(self, error: BaseException) -> str:
        self._caught += isinstance(error, RejectedError) or isinstance(error.__context__, RejectedError)
        return str(error) if isinstance(error, RejectedError) else reason_of_entry(error)


_current: _Entries | _Each | None = None
"""The run to which `reject` belongs; a process has one run at a time."""
_one_line = True
"""Whether each output entry is a line; if not, output entries may contain line ends."""


def run_function(
    function: Callable[..., Any], data: bytes, about: dict[str, Any], write: Write, more: dict[str, Any], *, each: bool
) -> Rejects:
    """Run a Python function over the entries of an input, and write the function's output.

    Args:
        about: the description of the input's records; empty if the records are lines. See `FORMAT_SUFFIX`.
        each: whether the function is called once for each entry, instead of once with all entries.
    """
    global _current, _one_line  # noqa: PLW0603 - both belong to the run; a process has one at a time
    entries, header, _one_line = _entries(data, about)
    del data
    _current = run = _Each(entries) if each else _Entries(entries)
    try:
        write(header)
        run.run(function, more, write)
    finally:
        _current = None
    return run.rejects()


def reject(entry: str | int, reason: str) -> None:
    """Reject an entry: the entry becomes a dead letter with this reason, and the results of the other entries are kept.

    In a function that is called with one entry (`@step(each=True)`), `reject` does not return. In a function that is
    called with all entries, `reject` returns, and the function must not yield anything that belongs to the rejected
    entry.

    Args:
        entry: the entry as the function got it, or the number of the entry in the input, counted from 0.
        reason: what is wrong with the entry.

    Raises:
        ValueError: the input does not contain the entry, or the reason is empty.
        RuntimeError: `reject` was called outside of a step, or in a step with `raw=True`.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"reject: the reason is {reason!r:.100}, but must be a text that says what is wrong")
    if _current is None:
        raise RuntimeError("reject() works only in a function that runs as a step of entries")
    _current.reject(entry, reason)


def rejects_text(rejects: Rejects) -> str:
    """Return rejects as the lines of JSON that the file of `--rejects` contains."""
    lines = ({"entry": entry, "after": after, "reason": reason} for entry, after, reason in rejects)
    return "".join([json.dumps(line) + "\n" for line in lines]) if rejects else ""


def print_rejects(rejects: Rejects) -> None:
    """Print the first rejects on stderr. This function is called only if the option `--rejects` was not given."""
    for entry, _, reason in rejects[:_PRINTED]:
        print_error(f"entry {entry}: {reason}")
    if len(rejects) > _PRINTED:
        print_error(f"and {len(rejects) - _PRINTED} more")


def _entries(data: bytes, about: dict[str, Any]) -> tuple[list[str], bytes, bool]:
    """Return an input's entries without their line ends, the header to write, and whether output entries are lines."""
    if not about:
        lines = data.decode(*_LINES).split("\n")
        if not lines[-1]:
            del lines[-1]
        return lines, b"", True
    from parcelq.records import parse

    header, body = data[: about["header"]], data[about["header"] :]
    entries = [one.removesuffix(b"\n").decode(*_LINES) for one in parse(about["format"]).split(body)]
    return entries, header if about["writes_header"] else b"", about["one_line"]


def _text(entries: list[Any]) -> str:
    """Return entries as the text of a file in which each entry is a line."""
    try:
        text = "\n".join(entries)
        if entries and (not _one_line or text.count("\n") == len(entries) - 1):
            return text + "\n"
    except TypeError:  # an entry is not a str; the next line finds this entry
        pass
    return "".join(map(_line, entries))


def _lines_of(made: object) -> list[str]:
    """Return the lines of the result for one entry, which may be a str, None, or an iterable of str."""
    if isinstance(made, str):
        return [_line(made)]
    if made is None:
        return []
    if not isinstance(made, Iterable) or isinstance(made, _NO_ENTRIES):
        hint = "; json.dumps makes a str of a dict" if isinstance(made, dict) else ""
        raise TypeError(
            f"a function of one entry must return a str, None or an iterable of str, not {made!r:.100}{hint}"
        )
    return [_line(one) for one in made]


def _line(entry: object) -> str:
    if not isinstance(entry, str):
        raise TypeError(f"an entry must be a str, but {entry!r:.100} is a {type(entry).__name__}")
    if _one_line and "\n" in entry:
        raise ValueError(f"an entry is one line without its line end, but {entry!r:.100} has one")
    return entry + "\n"


def _stopped_only_by_itself(entries: Iterator[Any]) -> Iterator[Any]:
    """Yield the entries of an iterator such as `map`. Raise RuntimeError if the iterator ended because a function that
    it called raised StopIteration.
    """
    while True:
        try:
            entry = next(entries)
        except StopIteration as error:
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            if trace and trace.tb_frame.f_code.co_name not in {"__next__", "_stopped_only_by_itself"}:
                raise RuntimeError(_STOPPED) from error
            return
        yield entry


def _listed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs a generator function to its end, so that exceptions are raised during the call."""
    return lambda *args: list(function(*args))
