"""Writes the reference pages of the documentation from the code, as a hook of MkDocs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import typer.main
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from parcelq_cli.commands import app

ROOT: Final = Path(__file__).parents[1]
LIBRARY: Final = """# Library

`import parcelq` gives all of this; each name is loaded when it is first used.

::: parcelq.start
    options:
      show_root_heading: false
      heading_level: 2

::: parcelq.face
    options:
      show_root_heading: false
      heading_level: 2
"""
ERRORS: Final = """# Errors

Every error that Parcelq raises on purpose is a `ParcelqError`. Its text names the thing, the value, and what
would be right.

::: parcelq.errors
    options:
      show_root_heading: false
      heading_level: 2
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that MkDocs found."""
    pages = {"commands": commands(), "library": LIBRARY, "errors": ERRORS, "parameters": parameters()}
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def commands() -> str:
    """Describe every command, from the help that it prints itself."""
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
        """Reads CloudFormation's short tags."""

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
