"""Converts the options of commands without pydantic, which Typer imports for every text and number.

Importing pydantic takes half the time of a short command. This module converts values that are certainly valid. Typer
converts all other values, and reports their mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

_UNSURE: Final = object()
_KNOWN: Final = (str, int, float, bool, Path)
_NUMBERS: Final = {int: "a whole number", float: "a number"}


class PlainCommand(TyperCommand):
    """A Typer command whose options are converted by this module."""

    def get_params(self, ctx: Any) -> Any:
        """Return the options and arguments, `--help` included."""
        return _prepared(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A Typer group of commands whose options are converted by this module."""

    def get_params(self, ctx: Any) -> Any:
        """Return the options and arguments, `--help` included."""
        return _prepared(super().get_params(ctx))


def _prepared(params: Sequence[Any]) -> Sequence[Any]:
    for param in params:
        if getattr(param, "_runtime_param", _UNSURE) is None:  # as in Typer 0.29
            param._runtime_param = _Plain()
    return params


class _Plain:
    """Converts the values of an option."""

    def __init__(self) -> None:
        self._typers: Any = None

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Convert a value from the command line, or the default of the option."""
        converted = _converted(value, param)
        if converted is not _UNSURE:
            return converted
        if self._typers is None:
            from typer._coercion import build_runtime_param

            self._typers = build_runtime_param(param.type_descriptor)
        try:
            return self._typers.coerce(value, param=param, ctx=ctx)
        except BadParameter as error:
            error.message = _mistake(value, param) or error.message
            raise


def _converted(value: Any, param: Any) -> Any:
    """Return the value in the option's type; `_UNSURE` if the value may be invalid."""
    info, annotation = param.type_descriptor.parameter_info, param.type_descriptor.annotation
    several = param.multiple or param.nargs == -1
    if value is None:
        return () if several else None
    if get_origin(annotation) is list and several:
        (annotation,) = get_args(annotation)
    if annotation not in _KNOWN or info.parser:
        return _UNSURE
    if annotation is Path and (info.exists or not info.file_okay or not info.dir_okay or info.resolve_path):
        return _UNSURE
    if not several:
        return _one(value, annotation, info)
    if isinstance(value, str):
        return _UNSURE
    made = [_one(one, annotation, info) for one in value]
    return _UNSURE if any(one is _UNSURE for one in made) else made


def _mistake(value: Any, param: Any) -> str:
    """Return what is wrong with a number, or an empty text: Typer's own texts about numbers do not show the value."""
    info, annotation = param.type_descriptor.parameter_info, param.type_descriptor.annotation
    if annotation not in _NUMBERS:
        return ""
    if info.min is None and info.max is None:
        bounds = ""
    elif info.max is None:
        bounds = f" of at least {info.min:,}"
    elif info.min is None:
        bounds = f" of at most {info.max:,}"
    else:
        bounds = f" from {info.min:,} to {info.max:,}"
    return f"{value} is not {_NUMBERS[annotation]}{bounds}"


def _one(value: Any, kind: type, info: Any) -> Any:
    if kind is bool:
        return value if isinstance(value, bool) else _UNSURE
    if kind is int or kind is float:
        if isinstance(value, str) and kind is int and value.isascii() and value.isdecimal() and len(value) < 16:
            value = int(value)
        if type(value) is not kind:
            return _UNSURE
        fits = (info.min is None or value >= info.min) and (info.max is None or value <= info.max)
        return value if fits else _UNSURE
    if not isinstance(value, str | Path) or value == "":
        return value if value == "" and kind is str else _UNSURE
    return kind(value)
