"""Builds the command line of `parcelq` from a list of its commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Final, NoReturn

import typer
from parcelq.errors import ParcelqError

from parcelq_cli.plain import PlainCommand, PlainGroup

_EMULATOR: Final = ("moto", "samtranslator")
"""The packages that only `parcelq emulate` needs."""


@dataclass(frozen=True, slots=True)
class _Command:
    """A command, whose module is imported only when the command runs or is listed.

    `place` names the module and its function, or its `Typer` object for a group of commands. `example` is for the
    command's help. `short` is for the list of commands; if empty, the list shows the first line of the help.
    """

    name: str
    place: str
    example: str = ""
    short: str = ""

    def add_to(self, app: typer.Typer) -> None:
        """Import the command's module, and add the command to the command line."""
        module, _, name = self.place.partition(":")
        found = getattr(import_module(module, __package__), name)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            epilog = f"Example: parcelq {self.name} {self.example}"
            app.command(self.name, cls=PlainCommand, epilog=epilog, short_help=self.short or None)(found)


_STEP: Final = "molecules.smi --step ./score.py"
_COMMANDS: Final = (
    _Command("run", ".run:run", _STEP, "Run a program over every record of files."),
    _Command("try", ".try_:try_", _STEP, "Run a program over the first records."),
    _Command("jobs", ".jobs:jobs", "--json", "List the jobs that are not complete."),
    _Command("cancel", ".jobs:cancel", "28b1c5e0886b --stack parcelq", "Cancel jobs of a stack."),
    _Command("dead", ".dead:dead", "28b1c5e0886b", "List dead entries, and why they failed."),
    _Command("redrive", ".jobs:redrive", "28b1c5e0886b --step ./score.py", "Run the dead entries of a job again."),
    _Command("resume", ".jobs:resume", "28b1c5e0886b", "Continue a job that was stopped."),
    _Command("publish", ".messages:publish", "molecules CCO 'c1ccccc1'"),
    _Command("pull", ".messages:pull", "molecules --max 5 --json"),
    _Command("upload", ".transfer:upload", "molecules molecules.smi --parcel-size 500"),
    _Command("download", ".transfer:download", "scores scores.txt"),
    _Command("process", ".process:process", "molecules scores --step ./score.py --timeout 30"),
    _Command("status", ".status:status", "molecules.smi --bucket my-stack-bucket"),
    _Command("repair", ".status:repair", "molecules.smi --bucket my-stack-bucket"),
    _Command("estimate", ".estimate.command:estimate", _STEP, "Predict cost and duration on AWS."),
    _Command("console", ".console.command:console", "--output results", "Show jobs in a browser, live."),
    _Command("topics", ".topics:app"),
    _Command("workflows", ".workflows:app"),
    _Command("doctor", ".doctor:doctor", "--stack parcelq", "Find out why jobs make no progress."),
    _Command("scale", ".doctor:scale", "step 50 --stack parcelq", "Set how many functions run at once."),
    _Command("wait", ".remote:wait", "28b1c5e0886b --stack parcelq", "Wait for files on a stack and download results."),
)
_EMULATE: Final = _Command(
    "emulate", "parcelq_emulator.command:emulate", f"{_STEP} --output results", "Run the deployed functions here."
)
_INSTALL: Final = "pip install 'parcelq[emulate]'"


def app(words: Sequence[str] = ()) -> typer.Typer:
    """Build the command line: only the command that the user's first word names, or all commands."""
    made = typer.Typer(
        cls=PlainGroup,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        help="Run a program over every record of a file, and get one exact result: on this machine, or on AWS. "
        "AWS is configured as for boto3: profiles, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL. "
        "Results go to stdout, everything else to stderr. "
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
        epilog="Example: parcelq run molecules.smi --step ./score.py",
    )
    made.callback()(_root)
    named = [one for one in _COMMANDS if words and one.name == words[0]]
    for one in named or _COMMANDS:
        one.add_to(made)
    if not named:
        _add_emulate(made)
    return made


def _add_emulate(to: typer.Typer) -> None:
    if all(map(find_spec, _EMULATOR)):
        _EMULATE.add_to(to)
        return

    @to.command(
        _EMULATE.name,
        short_help=f"{_EMULATE.short.rstrip('.')}; first {_INSTALL}.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
    def _no_emulator(_: Annotated[list[str] | None, typer.Argument()] = None) -> NoReturn:
        raise ParcelqError(f"emulate needs more packages; install them with: {_INSTALL}")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("parcelq"))
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
