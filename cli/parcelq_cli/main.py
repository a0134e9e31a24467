"""The command `parcelq`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Annotated, NoReturn

import typer
from parcelq.errors import ParcelqError
from rich.text import Text

from parcelq_cli import dead, messages, process, status, topics, transfer
from parcelq_cli.estimate.command import estimate
from parcelq_cli.output import to_stderr

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="A file of lines in, a file of results out, over SQS, exactly. "
    "AWS is found by boto3's standard configuration: profiles, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL. "
    "Results go to stdout, all else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
)
app.add_typer(topics.app, name="topics")
app.command()(messages.publish)
app.command()(messages.pull)
app.command()(transfer.upload)
app.command()(transfer.download)
app.command()(process.process)
app.command()(dead.dead)
topics.app.command()(dead.redrive)
app.command()(status.status)
app.command()(status.repair)
app.command()(estimate)

if find_spec("moto") and find_spec("samtranslator"):
    from parcelq_emulator.command import emulate

    app.command()(emulate)
else:

    @app.command("emulate", hidden=True, add_help_option=False, context_settings={"ignore_unknown_options": True})
    def _no_emulator(_: Annotated[list[str] | None, typer.Argument()] = None) -> NoReturn:
        raise ParcelqError("emulate needs more packages; install them with: pip install 'parcelq[emulate]'")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("parcelq"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit; every error becomes one sentence on stderr here, and nowhere else."""
    try:
        code = app(prog_name="parcelq", standalone_mode=False)
    except typer.TyperException as error:
        sentence = error.format_message().rstrip(".")
        if not sentence:  # no command was given, so the help was printed
            sys.exit(error.exit_code)
        context = getattr(error, "ctx", None)
        _fail(f"{sentence}; see {context.command_path} --help" if context else sentence, error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except ParcelqError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except Exception as error:  # noqa: BLE001 - the last resort: a traceback helps no user
        _fail(f"unexpected {type(error).__name__}: {error}", 1)
    sys.exit(code)


def _fail(sentence: str, code: int) -> NoReturn:
    to_stderr().print(Text.assemble(("parcelq: ", "bold red"), " ".join(sentence.split())))
    sys.exit(code)
