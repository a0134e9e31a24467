"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="Name or URL of the topic.", show_default=False)]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="NAME=VALUE", help="An attribute; may be given several times."),
]
Bucket = Annotated[
    str | None,
    typer.Option(help="Bucket for entries too large for a message.", show_default="none: they are refused"),
]
ParcelSize = Annotated[int, typer.Option(min=1, help="Most entries of a message.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]


class WrongUsageError(typer.TyperException):
    """Arguments and options do not fit together; the text says how they do."""

    exit_code = 2


def attributes_of(texts: Sequence[str] | None) -> dict[str, str]:
    """Read `NAME=VALUE` texts.

    Raises:
        WrongUsageError: a text is none of that, or a name comes twice.
    """
    attributes: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise WrongUsageError(f"--attribute is {text!r}, but must be NAME=VALUE")
        if name in attributes:
            raise WrongUsageError(f"--attribute gives {name!r} twice, but must give each name once")
        attributes[name] = value
    return attributes
