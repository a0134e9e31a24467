"""`parcelq workflows`: put, list, show and delete the workflows of a stack."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from parcelq.amounts import amount
from parcelq.errors import ParcelqError
from parcelq.stack.lookup import look_up

from parcelq_cli.options import StackName, Yes
from parcelq_cli.output import Output, fields, with_output

if TYPE_CHECKING:
    from parcelq.jobs.versions import ListedWorkflow, Versions

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the workflow.", show_default=False)]

app = typer.Typer(
    no_args_is_help=True,
    help="Put, list, show and delete the workflows of a stack.",
    epilog="Example: parcelq workflows put ./score --stack parcelq",
)


@app.command(epilog="Example: parcelq workflows put ./score --stack parcelq")
@with_output
def put(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with a workflow.yaml.", show_default=False)],
    stack: StackName,
    name: Annotated[str, typer.Option(help="Name of the workflow.", show_default="the folder's")] = "",
) -> None:
    """Store a workflow for files that are put into inbox/NAME/.

    A job keeps the version of the workflow with which it began. Packages are built for the stack's functions.
    """
    from parcelq.jobs.assembled import from_folder
    from parcelq.stack.publishing import publish

    from parcelq_cli.remote import uploading

    assembled = from_folder(folder, name)
    found = look_up(stack)
    version = publish(found, assembled, out.note, uploading(out))
    before = found.versions.make_current(version)
    if before == version.id:
        out.note("this version was already current")
    inbox = f"s3://{found.bucket}/inbox/{version.name}/"
    out.result({"workflow": version.name, "version": version.id, "before": before, "inbox": inbox}, inbox)


@app.command("list", epilog="Example: parcelq workflows list --stack parcelq")
@with_output
def list_(out: Output, stack: StackName) -> None:
    """List the workflows of a stack, with their current versions."""
    found = look_up(stack).versions.all()
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        current = one.current or "no current version"
        text = f"{one.name:<{width}}  {current}  {amount(len(one.versions), 'version')}"
        out.result({"workflow": one.name, "current": one.current, "versions": len(one.versions)}, text)
    if not found:
        out.note("there is no workflow")


@app.command(epilog="Example: parcelq workflows show score --stack parcelq")
@with_output
def show(
    out: Output,
    name: Name,
    stack: StackName,
    version: Annotated[str, typer.Option(help="A version.", show_default="the current version")] = "",
) -> None:
    """Show a version of a workflow: its steps and its size."""
    versions, listed = _found(stack, name)
    wanted = version or listed.current or listed.versions[0][0]
    found = versions.read(f"{name}@{wanted}")
    document: dict[str, Any] = {
        "workflow": name,
        "version": wanted,
        "current": wanted == listed.current,
        **found.workflow.to_document(),
        "bytes": sum(one.size for one in found.bundles),
        "unpacked_bytes": sum(one.unpacked for one in found.bundles),
        "python": found.python,
        "versions": [{"version": one, "put": _when(put)} for one, put in listed.versions],
    }
    lines = {
        **{key: value for key, value in document.items() if key not in {"steps", "versions", "python"} and value},
        **{f"step {number}": _step(step) for number, step in enumerate(document["steps"], 1)},
        **{f"put {_when(put)}": one for one, put in listed.versions},
    }
    out.result(document, fields(lines))


@app.command(epilog="Example: parcelq workflows delete score --stack parcelq")
@with_output
def delete(
    out: Output,
    name: Name,
    stack: StackName,
    yes: Yes = False,
) -> None:
    """Delete a workflow with all its versions.

    The messages of its running jobs become dead letters; put the same workflow again to redrive them.
    """
    versions, listed = _found(stack, name)
    out.confirm({name: amount(len(listed.versions), "version")}, yes)
    count = versions.delete(name)
    out.result({"workflow": name, "versions": count}, f"deleted {name}, {amount(count, 'version')}")


def _found(stack: str, name: str) -> tuple[Versions, ListedWorkflow]:
    versions = look_up(stack).versions
    listed = next((one for one in versions.all() if one.name == name), None)
    if listed is None:
        raise ParcelqError(f"there is no workflow {name!r}; parcelq workflows list shows all workflows")
    return versions, listed


def _step(step: dict[str, Any]) -> str:
    more = ", ".join(f"{key} {value}" for key, value in step.items() if key != "run")
    return f"{step['run']}" + (f" ({more})" if more else "")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
