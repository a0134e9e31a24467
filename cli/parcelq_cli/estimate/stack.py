"""What a stack has, read from its template: the parts that cost something whether or not a file is processed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parcelq.errors import ParcelqError

_LOOP: Final = "Fn::ForEach::"
_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack with the default parameters. The defaults here are those of this version's template.

    Attributes:
        alarms: CloudWatch alarms.
        dashboards: CloudWatch dashboards.
        mappings: event source mappings, which poll SQS.
        collect_seconds: seconds between two starts of the downloader.
        uploader_mb: memory of the uploader.
        downloader_mb: memory of the downloader.
        disk_gb: /tmp of a processor.
        range_bytes: objects above this size are uploaded in ranges of it.
        together: most messages of one invocation of a processor.
    """

    alarms: int = 16
    dashboards: int = 1
    mappings: int = 3
    collect_seconds: float = 3600
    uploader_mb: int = 1769
    downloader_mb: int = 1769
    disk_gb: float = 2.0
    range_bytes: int = 268435456
    together: int = 10

    @classmethod
    def read(cls, path: Path) -> Stack:
        """Read a template.

        Raises:
            ParcelqError: it cannot be read, or is no template of a Parcelq stack.
        """
        try:
            template = _load(path)
            defaults = {name: one["Default"] for name, one in template["Parameters"].items()}
            resources = dict(_unrolled(template["Resources"], defaults, {}))
            usual = template["Globals"]["Function"]["MemorySize"]
            memory = {name: one["Properties"].get("MemorySize", usual) for name, one in resources.items()}
            events = [one["Properties"].get("Events", {}).values() for one in resources.values()]
            schedule = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", defaults["CollectSchedule"])
            on = schedule and defaults["CollectEnabled"] == "ENABLED"
            disks = [one["Properties"].get("EphemeralStorage", {}).get("Size", 512) for one in resources.values()]
            return cls(
                alarms=_count(resources, "AWS::CloudWatch::Alarm"),
                dashboards=_count(resources, "AWS::CloudWatch::Dashboard"),
                mappings=sum(event["Type"] == "SQS" for of_one in events for event in of_one),
                collect_seconds=int(schedule[1]) * _UNITS[schedule[2]] if schedule and on else float("inf"),
                uploader_mb=memory["Uploader"],
                downloader_mb=memory["Downloader"],
                disk_gb=max(disks) / 1024,
                range_bytes=int(defaults["RangeBytes"]),
                together=int(defaults["MessagesPerInvocation"]),
            )
        except OSError as error:
            raise ParcelqError(f"template {str(path)!r} cannot be read: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ParcelqError(f"template {str(path)!r} is no template of a Parcelq stack: {error!r}") from None


def _count(resources: Mapping[str, Mapping[str, Any]], kind: str) -> int:
    return sum(one["Type"] == kind for one in resources.values())


def _load(path: Path) -> Any:
    """A template with `Ref` and other functions as mappings."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes CloudFormation's short tags."""

    def call(loader: Any, name: str, node: Any) -> dict[str, Any]:
        if isinstance(node, yaml.ScalarNode):
            return {name: loader.construct_scalar(node)}
        build = loader.construct_mapping if isinstance(node, yaml.MappingNode) else loader.construct_sequence
        return {name: build(node, deep=True)}

    Loader.add_multi_constructor("!", call)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)  # nosec B506 # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _unrolled(
    node: Mapping[str, Any], defaults: Mapping[str, Any], items: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Resources by logical id, those in loops once for every item."""
    for key, value in node.items():
        if key.startswith(_LOOP):
            name, collection, body = value
            for item in collection if isinstance(collection, list) else defaults[collection["Ref"]].split(","):
                yield from _unrolled(body, defaults, {**items, name: item})
        else:
            for name, item in items.items():
                key = key.replace(f"${{{name}}}", item).replace(f"&{{{name}}}", item.replace("-", ""))  # noqa: PLW2901
            yield key, value
