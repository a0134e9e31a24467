"""Runs the commands that a page of the documentation shows.

Where a command has the id of a job that an earlier output shows, it gets the id that the job has today. A block with a
title is a file that the reader writes. A `console` block has commands after `$`, each with its output.
`python tests/doc_pages.py [PAGE...]` runs pages and puts the output of today into them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("tutorial/*.md")),
    *sorted((ROOT / "docs").glob("howto/*.md")),
    ROOT / "docs" / "run.md",
]
ON_AWS = ROOT / "docs" / "tutorial" / "on-aws.md"
"""The page whose commands need a stack."""
BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S)
ID = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{12})?\b")
"""Ids of jobs, which differ from those that a page shows."""
DURATION = re.compile(r"\d+(?:\.\d+)?(?= ?(?:s|ms|seconds?|MB|MiB)\b)|[\d,.]+(?=/s)")


@dataclass(frozen=True)
class Shown:
    """A command, the output that the page shows, and that of today."""

    command: str
    expected: str
    actual: str


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with its output."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run(page: str, folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Shown]:
    """Do in a folder what a page says, with these variables of the environment too."""
    bin_folder = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PARCELQ_"))}
    environment |= {
        "XDG_CACHE_HOME": f"{folder}-cache",
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv"),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        **(variables or {}),
    }
    ids: dict[str, str] = {}
    for block in BLOCK.finditer(page):
        if block["title"]:
            path = folder / block["title"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["text"])
        elif block["language"] == "console":
            for command, expected in commands(block["text"]):
                done = subprocess.run(
                    ["bash", "-c", ID.sub(lambda found: ids.get(found[0], found[0]), command)],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=120,
                    check=False,
                )
                actual = done.stdout.replace(str(folder), "/home/you")
                for here, now in zip(ID.findall(expected), ID.findall(actual), strict=False):
                    ids.setdefault(here, now)
                names = {now: here for here, now in ids.items()}
                yield Shown(command, expected, ID.sub(lambda found, names=names: names.get(found[0], found[0]), actual))


def matches(expected: str, actual: str) -> bool:
    """Whether an output is what a page shows: `…` alone in a line stands for any lines, and durations differ."""
    parts = [re.escape(DURATION.sub("N", part)) for part in re.split(r"^…\n", expected, flags=re.M)]
    return re.fullmatch(r"(?:.*\n)*".join(parts), DURATION.sub("N", actual)) is not None


def rewritten(page: str, folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """A page with the output of today."""
    shown = run(page, folder, variables)

    def renew(block: re.Match[str]) -> str:
        if block["title"] or block["language"] != "console":
            return block[0]
        parts = []
        for _ in commands(block["text"]):
            one = next(shown)
            output = one.expected if matches(one.expected, one.actual) else one.actual
            parts.append(f"$ {one.command}\n{output}")
        return f"```console\n{''.join(parts)}```"

    return BLOCK.sub(renew, page)


if __name__ == "__main__":
    for name in map(Path, sys.argv[1:] or [page for page in PAGES if page != ON_AWS]):
        with tempfile.TemporaryDirectory() as scratch:
            stack = {one: value for one, value in os.environ.items() if one.startswith("AWS_")}
            name.write_text(rewritten(name.read_text(), Path(scratch), stack if name.samefile(ON_AWS) else None))
