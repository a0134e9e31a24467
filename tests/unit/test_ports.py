"""Only adapters and the places that wire things together know boto3's clients; all else takes a Topic or a Store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = "layers/parcelq/python/parcelq/"
ADAPTERS = tuple(LIBRARY + room for room in ("aws/", "topics/", "store/"))
WIRING = (
    "cli/parcelq_cli/clients.py",
    LIBRARY + "face.py",
    LIBRARY + "stack/lookup.py",
    *(f"functions/{name}/app.py" for name in ("downloader", "processor", "topic_admin", "uploader")),
)
CLIENT = re.compile(r"SQSClient|S3Client|mypy_boto3|import boto3|from boto(3|core)|\b(sqs|s3)_client\b")


def sources() -> list[str]:
    found = [path for folder in (LIBRARY, "cli", "functions") for path in (ROOT / folder).rglob("*.py")]
    return [path.relative_to(ROOT).as_posix() for path in found]


@pytest.mark.parametrize("source", [one for one in sources() if not one.startswith((*ADAPTERS, *WIRING))])
def test_a_module_knows_no_client_of_boto3(source: str) -> None:
    lines = (ROOT / source).read_text().splitlines()
    assert [line for line in lines if CLIENT.search(line)] == []


def test_the_pattern_for_clients_finds_those_of_the_adapters() -> None:
    assert all(
        any(CLIENT.search((ROOT / one).read_text()) for one in sources() if one.startswith(room)) for room in ADAPTERS
    )
