"""Reads and checks the settings file of a step. The error about an invalid file names every mistake in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parcelq.checks import Check, Wrong, anything, checked, flag, shown
from parcelq.errors import InvalidValueError, SettingsError
from parcelq.limits import MAX_DEADLINE_SECONDS, MIB
from parcelq.records import Format, from_settings
from parcelq.steps.strict_yaml import read_yaml

_FIT: Final = "without NUL, lone surrogates, and numbers of thousands of digits"


@dataclass(frozen=True, slots=True)
class StepSettings:
    """The settings of a step.

    Attributes:
        filter: whether the step reads its input from stdin and writes its output to stdout.
        warm: whether the step's process is kept between runs. None means that the process is kept if the step is a
            Python function of `parcelq.step`.
        rejects: whether the step takes the option `--rejects FILE`, and reports bad entries in this file.
        arguments: arguments that follow the step's path in the command line.
        timeout: how many seconds a run may take, at most 12 hours; None means all the available time.
        environment: variables that are added to the environment of the step.
        aws_credentials: whether the step gets AWS credentials.
        output: the record format of the output; None if the output has the format of the input.
        output_header: whether the output begins with a header, if the format of the output has headers.
        max_output_bytes: how many bytes of output a run may write, at most. A run that writes more is killed.
        step: the step's own settings, which Parcelq passes on without checking them.
        path: the path of the settings file, which a step gets as `--settings`.
    """

    filter: bool = False
    warm: bool | None = None
    rejects: bool = False
    arguments: tuple[str, ...] = ()
    timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    aws_credentials: bool = False
    output: Format | None = None
    output_header: bool = True
    max_output_bytes: int = 256 * MIB
    step: Any = None
    path: Path | None = None

    def within(self, timeout: float | None) -> float | None:
        """Return the time limit of a run in seconds: the shorter of `timeout` and the step's; None for no limit."""
        return min((limit for limit in (timeout, self.timeout) if limit is not None), default=None)


def read_settings(path: Path) -> StepSettings:
    """Read a settings file. Raises SettingsError with all problems if the file cannot be read or is not valid."""
    where = f"settings file {path}"
    content = read_yaml(path, where, exact=frozenset({"arguments", "environment"}))
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise SettingsError(where, [f"it must be a mapping of keys to values, not {shown(content)}"])
    values, problems = checked(content, _CHECKS)
    if values.get("filter") and values.get("warm"):
        problems.append("filter and warm cannot both be true; a warm step is a function, which does not read stdin")
    if problems:
        raise SettingsError(where, problems)
    return StepSettings(**values, path=path.resolve())


def _arguments(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str | int | float) for one in value):
        raise Wrong("a list of texts and numbers")
    texts = tuple(text for text in map(_passable, value) if text is not None)
    if len(texts) < len(value):
        raise Wrong(f"a list of texts {_FIT}")
    return texts


def _timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise Wrong("a number of seconds above 0")
    if value > MAX_DEADLINE_SECONDS:
        raise Wrong(
            f"a number of seconds up to {MAX_DEADLINE_SECONDS}, the longest time for which SQS keeps a message locked"
        )
    return float(value)


def record_format(value: object) -> Format:
    """Return the record format that a value describes. This is a check of values in YAML files."""
    try:
        return from_settings(value)
    except InvalidValueError as error:
        # The key may have another name than "format", so only the mistake inside the format is named.
        raise Wrong(error.wanted if error.name == "format" else f"a record format; {error}") from None


def _bytes(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 63:
        raise Wrong("a whole number of bytes above 0")
    return value


def _environment(value: object) -> dict[str, str]:
    wanted = "a mapping of names to texts or numbers"
    if not isinstance(value, dict):
        raise Wrong(f"{wanted}, without NUL")
    texts: dict[str, str] = {}
    for name, one in value.items():
        if not isinstance(name, str) or not name or "=" in name or not isinstance(one, str | int | float):
            raise Wrong(f"{wanted}, without NUL")
        text = _passable(one)
        if text is None or _passable(name) is None:
            raise Wrong(f"{wanted}, {_FIT}")
        texts[name] = text
    return texts


def _passable(value: object) -> str | None:
    """Return a YAML value such as `true` or `3` as a text for a program; None if no program can get the text."""
    try:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        text.encode()
    except ValueError:  # a number with thousands of digits, or a surrogate
        return None
    return None if "\0" in text else text


_CHECKS: Final[dict[str, Check]] = {
    "filter": flag,
    "warm": flag,
    "rejects": flag,
    "arguments": _arguments,
    "timeout": _timeout,
    "environment": _environment,
    "aws_credentials": flag,
    "output": record_format,
    "output_header": flag,
    "max_output_bytes": _bytes,
    "step": anything,
}
