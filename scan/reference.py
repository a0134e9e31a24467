"""Writes the reference pages of the documentation from the code, as a hook of MkDocs."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import click
import typer.main
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from parcelq.jobs.workflow import Limits, Workflow, WorkflowStep
from parcelq.steps.settings import StepSettings
from parcelq_cli.commands import app

ROOT: Final = Path(__file__).parents[1]
LIBRARY: Final = """# Library

`import parcelq` offers all names on this page; each name is loaded when it is first used.

::: parcelq.start
    options:
      show_root_heading: false
      heading_level: 2

::: parcelq.face
    options:
      show_root_heading: false
      heading_level: 2
"""
SETTINGS: Final = """# Settings of a step

Keys of a step's settings file. [Steps](../steps.md#the-settings-file) describes them in full.

"""
WORKFLOW: Final = """# workflow.yaml

Keys of the file `workflow.yaml` in a workflow's folder. [Workflows](../workflows.md) describes them in full.
"""
ATTRIBUTES: Final = """# Attributes of messages

Attributes that Parcelq gives to SQS messages. [Wire format](../wire-format.md#attributes) describes them in full.

| attribute | meaning |
| --- | --- |
"""
ERRORS: Final = """# Errors

Every error that Parcelq raises on purpose is a `ParcelqError`. The text of an error names the thing that is wrong, its
value, and what would be right.

::: parcelq.errors
    options:
      show_root_heading: false
      heading_level: 2
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the pages that MkDocs found."""
    pages = {
        "commands": commands(),
        "library": LIBRARY,
        "settings": SETTINGS + keys(StepSettings, {"path"}),
        "workflow": workflow(),
        "parameters": parameters(),
        "attributes": attributes(),
        "errors": ERRORS,
    }
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def commands() -> str:
    """Describe every command of Parcelq, from the command's own help."""
    root = typer.main.get_command(app())
    parts = [f"# Commands\n\n{root.help}\n\nEvery command has `--help`, or `-h` for short.\n"]
    for path, command in _commands(root, ("parcelq",)):
        context = typer.Context(command, info_name=" ".join(path))
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"## {' '.join(path)}\n\n{_plain(command.help)}\n\n```text\n{' '.join(path)} {usage}\n```\n")
        if rows := list(_parameters(command, context)):
            parts.append("\n".join(["| | |", "| --- | --- |", *rows]) + "\n")
        if command.epilog:
            parts.append(f"```sh\n{command.epilog.removeprefix('Example: ')}\n```\n")
    return "\n".join(parts)


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in sorted(group.commands.items()):
        if getattr(command, "commands", None):
            yield from _commands(command, (*path, name))
        elif not command.hidden:
            yield (*path, name), command


def _parameters(command: Any, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and "--help" not in parameter.opts:
            name, text = (" ".join(str(part).split()).replace("|", "\\|") for part in record)
            yield f"| `{name}` | {text} |"


def _plain(text: str | None) -> str:
    return (text or "").replace("\f", "").strip()


def parameters() -> str:
    """Describe the template's parameters."""

    class Loader(yaml.SafeLoader):
        """A YAML loader that accepts CloudFormation's short tags."""

    Loader.add_multi_constructor("!", lambda *_: None)
    template = yaml.load((ROOT / "template.yaml").read_text(), Loader)  # nosec B506 # a SafeLoader
    parts = ["# Template parameters\n\nParameters of `template.yaml`; `sam deploy --guided` asks for each.\n"]
    for name, one in template["Parameters"].items():
        facts = [f"Type {one['Type']}", f"default `{one['Default']}`" if str(one["Default"]) else "empty by default"]
        facts += [f"at least {one['MinValue']}"] if "MinValue" in one else []
        facts += [f"at most {one['MaxValue']}"] if "MaxValue" in one else []
        facts += [f"one of {', '.join(map(str, one['AllowedValues']))}"] if "AllowedValues" in one else []
        parts.append(f"## {name}\n\n{one['Description'].strip()}\n\n{'; '.join(facts)}.\n")
    return "\n".join(parts)


def keys(described: type, hidden: Collection[str] = ()) -> str:
    """Describe the keys of a file as a table, from the fields of the class that the file is read into."""
    text = re.sub(r"\n {8,}", " ", (inspect.getdoc(described) or "").partition("Attributes:\n")[2])
    meanings = dict(re.findall(r"^    (\w+): (.*)$", text, re.M))
    rows = []
    for name, one in inspect.signature(described).parameters.items():
        if name not in hidden:
            has_default = isinstance(one.default, bool | int)
            rows.append(f"| `{name}` | {meanings[name]} | {f'`{str(one.default).lower()}`' * has_default} |")
    return "\n".join(["| key | meaning | default |", "| --- | --- | --- |", *rows]) + "\n"


def workflow() -> str:
    """Describe the keys of `workflow.yaml`."""
    parts = {"The workflow": keys(Workflow), "Each of the steps": keys(WorkflowStep)}
    parts["limits"] = keys(Limits, {"max_dead_share"})
    return WORKFLOW + "".join(f"\n## {title}\n\n{table}" for title, table in parts.items())


def attributes() -> str:
    """Describe the attributes of messages, from the constants that name them."""
    rows = []
    for module in ("attributes", "pieces"):
        body = ast.parse((ROOT / "layers/parcelq/python/parcelq/topics" / f"{module}.py").read_text()).body
        for constant, text in pairwise(body):
            name, meaning = _text(constant), _text(text)
            if isinstance(constant, ast.AnnAssign) and re.fullmatch("[A-Z][A-Za-z0-9]+", name) and meaning:
                rows.append(f"| `{name}` | {' '.join(meaning.split())} |")
    return ATTRIBUTES + "\n".join(rows) + "\n"


def _text(statement: ast.stmt) -> str:
    """Return the text that a statement assigns or consists of; empty if the statement has no text."""
    value = statement.value if isinstance(statement, ast.AnnAssign | ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
