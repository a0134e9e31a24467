"""The command `parcelq`. The command handles Ctrl-C before it imports slow modules."""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import Final, NoReturn

from parcelq_cli.interrupts import interruptible, preferring_interrupts

_GARBAGE: Final = 50_000
"""How many allocations happen between two garbage collections. With Python's default, a short command spends a tenth of
its time on collections.
"""


def main() -> None:
    """Run the command line and exit. Only this function turns errors into sentences on stderr."""
    try:
        with interruptible():
            _run()
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    finally:
        gc.freeze()  # otherwise Python collects garbage once more before it exits, which takes 30 ms


def _run() -> NoReturn:
    gc.set_threshold(_GARBAGE)
    import typer
    from parcelq.errors import AwsError, ParcelqError

    from parcelq_cli.commands import app
    from parcelq_cli.output import forget_stdout

    try:
        with preferring_interrupts():
            code = app(sys.argv[1:])(prog_name="parcelq", standalone_mode=False)
        if sys.stdout is not None:  # help is not printed through Output
            sys.stdout.flush()
    except typer.TyperException as error:
        sentence = error.format_message().rstrip(".")
        if sentence.startswith("Usage: "):  # no command was given, so this text is the help
            typer.echo(sentence)
            sys.exit(error.exit_code)
        _fail(sentence + _advice(error), error.exit_code)
    except typer.Abort:
        _fail("interrupted", 130)
    except AwsError as error:
        hint = "; you lack the permission for this: docs/howto/rights.md lists the permissions of each command"
        _fail(f"{error}{hint if error.is_denied else ''}", 1)
    except ParcelqError as error:
        _fail(str(error), 1)
    except OSError as error:
        forget_stdout()
        if error.errno == errno.EPIPE:  # the reader of the output has ended, as in `parcelq … | head`
            sys.exit(1)
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "stdout"
        _fail(f"{path}: {error.strerror or error}", 1)
    except UnicodeEncodeError as error:
        _fail(f"{error.object!r:.200} is not UTF-8; give a name that is", 1)
    except MemoryError:
        _fail("out of memory", 1)
    except Exception as error:  # noqa: BLE001 - the last resort: a traceback helps no user
        _fail(f"bug in parcelq, {type(error).__name__}: {error}; --verbose shows where", 1)
    sys.exit(code)


def _advice(error: Exception) -> str:
    """Return what helps after a wrong use of a command: where its help is, or how to name a file that begins with -."""
    words = (word for word in sys.argv[1:] if word.startswith("-") and hasattr(error, "option_name"))
    if file := next(filter(os.path.lexists, words), ""):
        return f"; for the file of this name, give ./{file}"
    context = getattr(error, "ctx", None)
    return f"; see {context.command_path} --help" if context else ""


def _fail(sentence: str, code: int) -> NoReturn:
    from parcelq.escaping import one_line
    from rich.text import Text

    from parcelq_cli.output import to_stderr

    to_stderr().print(Text.assemble(("parcelq: ", "bold red"), one_line(" ".join(sentence.split()))))
    sys.exit(code)
