"""The command `parcelq`."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, NoReturn

import typer
from parcelq.errors import ParcelqError
from rich.text import Text

from parcelq_cli import dead, jobs, messages, process, run, status, topics, transfer
from parcelq_cli.escaping import one_line
from parcelq_cli.estimate.command import estimate
from parcelq_cli.output import forget_stdout, to_stderr

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    help="Run a program over every record of a file, and get one exact result: over SQS, S3 and Lambda. "
    "AWS is configured as for boto3: profiles, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL. "
    "Results go to stdout, everything else to stderr. "
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
    epilog="Example: parcelq topics create molecules; parcelq upload molecules molecules.smi",
)


def _add(to: typer.Typer, command: Callable[..., None], example: str, short: str | None = None) -> None:
    """Add a command, with an example in its help; `short` describes it in the list of commands."""
    to.command(epilog=f"Example: parcelq {example}", short_help=short)(command)


app.add_typer(topics.app, name="topics")
_add(app, run.run, "run molecules.smi --step ./score.py", "Run a program over every record of files.")
_add(app, jobs.jobs, "jobs --json", "List the jobs on this machine that are not whole.")
_add(app, dead.dead, "dead 28b1c5e0886b", "List what failed for good, and why.")
_add(app, jobs.redrive, "redrive 28b1c5e0886b --step ./score.py", "Run the entries of a job again that failed.")
_add(app, jobs.resume, "resume 28b1c5e0886b", "Go on with a job that was stopped.")
_add(app, messages.publish, "publish molecules CCO 'c1ccccc1'")
_add(app, messages.pull, "pull molecules --max 5 --json")
_add(app, transfer.upload, "upload molecules molecules.smi --parcel-size 500")
_add(app, transfer.download, "download scores scores.txt")
_add(app, process.process, "process molecules scores --step ./score.py --timeout 30")
_add(topics.app, dead.redrive, "topics redrive molecules")
_add(app, status.status, "status molecules.smi --bucket my-stack-bucket")
_add(app, status.repair, "repair molecules.smi --bucket my-stack-bucket")
_add(app, estimate, "estimate molecules.smi --step ./score.py", "Predict cost and duration on AWS.")

if find_spec("moto") and find_spec("samtranslator"):
    from parcelq_emulator.command import emulate

    _add(app, emulate, "emulate molecules.smi --step ./score.py --output results", "Run the deployed functions here.")
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
        if sys.stdout is not None:  # help, which does not come by way of Output
            sys.stdout.flush()
    except typer.TyperException as error:
        sentence = error.format_message().rstrip(".")
        if sentence.startswith("Usage: "):  # no command was given, so the sentence is the help
            typer.echo(sentence)
            sys.exit(error.exit_code)
        context = getattr(error, "ctx", None)
        _fail(f"{sentence}; see {context.command_path} --help" if context else sentence, error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except ParcelqError as error:
        _fail(str(error), 1)
    except OSError as error:
        forget_stdout()
        if error.errno == errno.EPIPE:  # whoever read the output has enough, as in `parcelq … | head`
            sys.exit(1)
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "stdout"
        _fail(f"{path}: {error.strerror or error}", 1)
    except UnicodeEncodeError as error:
        _fail(f"{error.object!r} is not UTF-8; give a name that is", 1)
    except MemoryError:
        _fail("there is not enough memory for this", 1)
    except Exception as error:  # noqa: BLE001 - the last resort: a traceback helps no user
        _fail(f"a fault of the program, {type(error).__name__}: {error}; --verbose shows where", 1)
    sys.exit(code)


def _fail(sentence: str, code: int) -> NoReturn:
    to_stderr().print(Text.assemble(("parcelq: ", "bold red"), one_line(" ".join(sentence.split()))))
    sys.exit(code)
