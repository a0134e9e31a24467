"""A step's settings file: read, validated, and every mistake named at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parcelq.errors import SettingsError


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How a step is run.

    Attributes:
        filter: whether it gets its input on stdin and writes its output to stdout.
        warm: whether its process is kept for the next run; for what is made with `parcelq.step`.
        arguments: put right after the step's path.
        timeout: seconds that one run may take; None for as long as there is time.
        environment: added to the environment that every step gets.
        aws_credentials: whether it gets the credentials of whoever runs it.
        step: the step's own settings, which Parcelq does not look into.
        path: the file that they were read from, which a step gets as `--settings`.
    """

    filter: bool = False
    warm: bool = False
    arguments: tuple[str, ...] = ()
    timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    aws_credentials: bool = False
    step: Any = None
    path: Path | None = None

    def within(self, timeout: float | None) -> float | None:
        """Seconds that a run may take of which whoever runs it allows so many; None for any time."""
        return min((limit for limit in (timeout, self.timeout) if limit is not None), default=None)


def read_settings(path: Path) -> StepSettings:
    """Read a settings file.

    Args:
        path: a YAML file.

    Raises:
        SettingsError: it cannot be read, is no YAML, or has unknown or bad keys; all of them are named.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path}", [f"it cannot be read: {error}"]) from None
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # PyYAML lets a date's ValueError through
        raise SettingsError(f"settings file {path}", [f"it is no YAML: {' '.join(str(error).split())}"]) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise SettingsError(f"settings file {path}", [f"it must be keys with values, not {content!r:.100}"])
    problems = [f"unknown key {key!r}; there are {', '.join(_CHECKS)}" for key in content if key not in _CHECKS]
    values: dict[str, Any] = {}
    for key, check in _CHECKS.items():
        if key in content:
            try:
                values[key] = check(content[key])
            except _Wrong as wrong:
                problems.append(f"{key} is {content[key]!r}, but must be {wrong}")
    if values.get("filter") and values.get("warm"):
        problems.append("filter and warm cannot both be true; what is warm gets its entries as a function")
    if problems:
        raise SettingsError(f"settings file {path}", problems)
    return StepSettings(**values, path=path.resolve())


class _Wrong(Exception):  # noqa: N818 - never leaves this module
    """A value is not what it must be; the text says what that is."""


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _arguments(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str | int | float) for one in value):
        raise _Wrong("a list of texts and numbers")
    texts = tuple(_text(one) for one in value)
    if any("\0" in text for text in texts):
        raise _Wrong("a list of texts without NUL")
    return texts


def _timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise _Wrong("a number of seconds above 0")
    return float(value)


def _environment(value: object) -> dict[str, str]:
    wanted = "names with texts or numbers as values, without NUL"
    if not isinstance(value, dict):
        raise _Wrong(wanted)
    for name, one in value.items():
        if not isinstance(name, str) or not name or "=" in name or not isinstance(one, str | int | float):
            raise _Wrong(wanted)
        if "\0" in name or "\0" in _text(one):
            raise _Wrong(wanted)
    return {name: _text(one) for name, one in value.items()}


def _text(value: object) -> str:
    """The text that a user who wrote `true` or `3` in YAML has in mind."""
    return str(value).lower() if isinstance(value, bool) else str(value)


_CHECKS: Final[dict[str, Callable[[object], Any]]] = {
    "filter": _flag,
    "warm": _flag,
    "arguments": _arguments,
    "timeout": _timeout,
    "environment": _environment,
    "aws_credentials": _flag,
    "step": lambda value: value,
}
