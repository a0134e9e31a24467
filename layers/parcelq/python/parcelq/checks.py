"""Checks of values that come from outside: settings files, the functions' environment, and requests to functions.

A check is a function that converts a value and returns the result, or raises `Wrong` with a text that says what the
value must be. `checked` applies a check to each key and reports all mistakes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

from parcelq.escaping import cut

Check: TypeAlias = Callable[[Any], Any]

_SHOWN: Final = 100


class Wrong(Exception):  # noqa: N818 - only checks raise it, and `checked` handles it
    """A value is not valid; the text says what the value must be."""


def checked(
    given: Mapping[Any, Any], checks: Mapping[str, Check], required: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Check the values of a mapping, and report all mistakes at once.

    Returns:
        A dict from keys to converted values, and a list with one sentence for each problem.
    """
    problems = [f"unknown key {shown(key)}; there are {', '.join(checks)}" for key in given if key not in checks]
    problems += [f"{key} is not set" for key in required if key not in given]
    values: dict[str, Any] = {}
    for key, check in checks.items():
        if key in given:
            try:
                values[key] = check(given[key])
            except Wrong as wrong:
                problems.append(f"{key} is {shown(given[key])}, but must be {wrong}")
    return values, problems


def shown(value: object) -> str:
    """Return a value as text, shortened for an error message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python cannot print numbers with thousands of digits, or deeply nested lists
        return "too large to be shown"
    return cut(text, _SHOWN)


def of_type(kind: type | tuple[type, ...], wanted: str, suits: Check = lambda _value: True) -> Check:
    """Return a check that accepts the values of a type for which `suits` is true. True and false are no numbers."""

    def check(value: object) -> object:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or not suits(value):
            raise Wrong(wanted)
        return value

    return check


def anything(value: object) -> object:
    """Accept any value."""
    return value


def optional(check: Check) -> Check:
    """Return a check that accepts null and all values that another check accepts."""
    return lambda value: None if value is None else check(value)


def whole(least: int, most: int) -> Check:
    """Return a check for a whole number within bounds."""
    return of_type(int, f"a whole number from {least} to {most}", lambda value: least <= value <= most)


def number(least: float, most: float) -> Check:
    """Return a check for a number within bounds."""
    return of_type((int, float), f"a number from {least} to {most}", lambda value: least <= value <= most)


flag: Final = of_type(bool, "true or false")
text: Final = of_type(str, "a text")
filled: Final = of_type(str, "a text that is not empty", bool)
texts: Final = of_type(
    list, "a list of one or more texts", lambda value: value and all(isinstance(one, str) for one in value)
)
