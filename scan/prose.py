"""Looks for bad phrases in prose; `prose.yaml` lists these phrases, with what to write instead.

python scan/prose.py [FILE...] # all files of the repository by default
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parents[1]
_CODE: Final = re.compile(r"```.*?```|`[^`\n]*`|^    .*$", re.S | re.M)
"""Code in a page: fenced blocks, code in a sentence, and indented blocks."""
_WORDS: Final = re.compile(r"[A-Za-z]+ [a-z]+ [a-z]+")
"""A string with three words in a row is prose."""
_DESCRIPTION: Final = re.compile(r"^\s*(?:#|Description:|AlarmDescription:)(.*(?:\n\s{6,}\S.*)*)", re.M)
_LEFT_OUT: Final = ("CHANGELOG.md", "scan/prose.yaml", "LICENSE", "docs/guards.md")


def main(paths: list[str]) -> int:
    """Print the phrases found in files; return the exit code."""
    rules = [
        (re.compile(rule["avoid"], re.I), str(rule["instead"]), bool(rule.get("tests", True)))
        for rule in yaml.safe_load((ROOT / "scan" / "prose.yaml").read_text())
    ]
    count = 0
    for path in paths or _files():
        for line, text in prose(Path(path)):
            for pattern, instead, in_tests in rules:
                if not in_tests and path.startswith("tests/"):
                    continue
                for found in pattern.finditer(text):
                    count += 1
                    at = line + text.count("\n", 0, found.start())
                    print(f"{path}:{at}: {' '.join(found[0].split())!r}; instead: {instead}")
    if count:
        print(f"{count} phrases to rewrite")
    return 1 if count else 0


def _files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        name
        for name in listed.split("\0")
        if name.endswith((".md", ".py", ".yaml")) and name not in _LEFT_OUT and (ROOT / name).is_file()
    ]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the prose of a file, each text with the number of its first line."""
    text = (ROOT / path).read_text()
    if path.suffix == ".md":
        yield 1, _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    elif path.suffix == ".py":
        yield from _of_python(text)
    else:
        for found in _DESCRIPTION.finditer(text):
            yield text.count("\n", 0, found.start(1)) + 1, found[1]


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield the comments, docstrings, messages and names of tests in the text of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# guard["):
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _WORDS.search(node.value):
            yield node.lineno, re.sub(r"`[^`\n]*`", "`code`", node.value)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
