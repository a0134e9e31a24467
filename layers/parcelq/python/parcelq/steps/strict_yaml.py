"""YAML without the usual mistakes: refuses duplicate keys, values that YAML changes silently, and endless aliases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parcelq.checks import shown
from parcelq.errors import SettingsError

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, ScalarNode

MAX_BYTES: Final = 1 << 20
"""How many bytes a YAML text may have, at most."""
MAX_DEPTH: Final = 100
"""How many levels of nested lists and keys a text may have, at most. YAML itself has no limit, but Python has one."""
MAX_VALUES: Final = 100_000
"""How many values a text may have, at most. An alias counts as all values to which it expands."""
_SHOWN: Final = 100
_TAG: Final = "tag:yaml.org,2002:"
_NUMBER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0b[01]+")
_FRACTION: Final = re.compile(
    r"[-+]?(0|[1-9][0-9]*)?\.([0-9]*[1-9]|0)?|[-+]?[0-9.]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan", re.I
)


class _InvalidError(Exception):
    """A YAML text is invalid, or has a feature that this module refuses. The arguments are texts about the mistakes."""


def read_yaml(path: Path, where: str, exact: frozenset[str] = frozenset()) -> Any:
    """Return the value of a YAML file. The values of the top-level keys `exact` must be kept as they are written.

    Raises SettingsError about `where` if the file cannot be read, is not YAML, is too large or too deep, or has too
    many values, a key appears twice, or YAML would change a value, such as `no` to False.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _InvalidError(f"it has more than {MAX_BYTES} bytes")
        return _load(data.decode("utf-8"), exact)
    except _InvalidError as error:
        raise SettingsError(where, list(error.args)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(where, [f"it cannot be read: {reason}"]) from None


def _load(text: str, exact: frozenset[str]) -> Any:
    import yaml

    try:
        _check_depth(text)
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _size_of(node, {})
            if problems := _Check(loader, exact).of(node):
                raise _InvalidError(*problems)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML does not convert the ValueError of a date
        raise _InvalidError(f"it is not YAML: {' '.join(str(error).split())}") from None


def _check_depth(text: str) -> None:
    """Raise an error that names the key if values are nested too deeply. Syntax errors are found later."""
    import yaml

    depth, key, at = 0, "it", 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if depth == 1 and isinstance(event, yaml.ScalarEvent) and event.end_mark:
                key, at = event.value[:_SHOWN], event.end_mark.index  # or a value, but nothing deep follows a value
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                value = " ".join(text[at : at + 10 * _SHOWN].removeprefix(":").split())
                raise _InvalidError(f"{key} is {shown(value)}, but must be at most {MAX_DEPTH} lists and keys deep")
    except yaml.YAMLError:
        return
    except RecursionError:
        raise _InvalidError(f"it must be at most {MAX_DEPTH} lists and keys deep") from None


def _size_of(node: Node, sizes: dict[int, int]) -> int:
    """Return how many values a node has. Raise an error if aliases expand to too many values or contain themselves.

    An alias refers to an earlier value with a known size, so the recursion is no deeper than the text.
    """
    if id(node) not in sizes:
        sizes[id(node)] = 0
        sizes[id(node)] = size = 1 + sum([_size_of(child, sizes) for child in _children(node)])
        if size > MAX_VALUES:
            raise _InvalidError(f"it has more than {MAX_VALUES} values after its aliases are expanded")
    elif not sizes[id(node)]:
        raise _InvalidError(f"the alias of line {node.start_mark.line + 1} refers to a value that contains it")
    return sizes[id(node)]


def _children(node: Node) -> list[Node]:
    from yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, MappingNode):
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


class _Check:
    """Finds duplicate keys, and values that YAML would change."""

    def __init__(self, loader: Any, exact: frozenset[str]) -> None:
        self._loader = loader
        self._exact = exact
        self._seen: set[int] = set()

    def of(self, node: Node, where: str = "", *, exact: bool = False) -> list[str]:
        """Return the problems that a node and its descendants have."""
        from yaml.nodes import MappingNode, ScalarNode, SequenceNode

        if isinstance(node, ScalarNode):
            return self._of_scalar(node, where, exact=exact)
        if id(node) in self._seen:  # an alias
            return []
        self._seen.add(id(node))
        if isinstance(node, SequenceNode):
            found = (self.of(one, f"{where}[{number}]", exact=exact) for number, one in enumerate(node.value))
            return [problem for problems in found for problem in problems]
        return self._of_mapping(node, where, exact=exact) if isinstance(node, MappingNode) else []

    def _of_mapping(self, node: MappingNode, where: str, *, exact: bool) -> list[str]:
        from yaml.nodes import ScalarNode

        problems = []
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else "?"
            path = f"{where}.{name[:_SHOWN]}" if where else name[:_SHOWN]
            line = key.start_mark.line + 1
            if isinstance(key, ScalarNode):
                if first := lines.get((key.tag, key.value)):
                    problems.append(f"{path} is given twice, in lines {first} and {line}")
                lines[key.tag, key.value] = line
            problems += self.of(key, f"the key {path}")
            problems += self.of(value, path, exact=exact or (not where and name in self._exact))
        return problems

    def _of_scalar(self, node: ScalarNode, where: str, *, exact: bool) -> list[str]:
        """Check an unquoted value that YAML may change."""
        text, tag = node.value, node.tag.removeprefix(_TAG)
        if node.style is not None or tag in {"str", "null", "merge"} or not node.tag.startswith(_TAG):
            return []
        try:
            value = self._loader.construct_object(node)
        except (ValueError, OverflowError):
            return []  # such as an impossible date: its construction reports the error
        if exact:
            same = tag in {"int", "float", "bool"} and _as_text(value) == text
        else:
            same = {
                "bool": text.lower() in {"true", "false"},
                "int": bool(_NUMBER.fullmatch(text)),
                "float": bool(_FRACTION.fullmatch(text)),
            }.get(tag, False)
        if same or (tag == "int" and text.lower().startswith("0x") and len(text) > _SHOWN):
            return []
        made = _as_text(value) if tag in {"int", "float"} else shown(value)
        kind = {"bool": "the value", "int": "the number", "float": "the number"}.get(tag, f"the {tag}")
        return [
            f"{where} is {shown(text)[1:-1]}, which YAML reads as {kind} {made[:_SHOWN]}; put it in quotes for the text"
        ]


def _as_text(value: object) -> str:
    try:
        return str(value).lower() if isinstance(value, bool) else str(value)
    except ValueError:  # a number with thousands of digits
        return "too large to be shown"
