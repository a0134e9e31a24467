"""What commands say where AWS denies a request, with policies that are enforced."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]
HINT = "; you lack the permission for this: docs/howto/rights.md lists the permissions of each command\n"


@pytest.fixture
def no_rights(moto_url: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without any policy, and a server that checks."""
    iam = boto3.Session().client("iam", endpoint_url=moto_url)  # the default session would keep these credentials
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    def enforce(after: str) -> None:
        request = urllib.request.Request(
            f"{moto_url}/moto-api/reset-auth", data=after.encode(), headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=20).read()

    enforce("0")
    yield
    enforce("Infinity")


@pytest.mark.parametrize(
    "words",
    [("jobs",), ("cancel", "abcdef"), ("resume", "abcdef"), ("wait", "abcdef"), ("workflows", "list")],
)
def test_a_missing_right_is_an_error_of_one_sentence_that_names_it(
    cli: Cli, no_rights: None, words: tuple[str, ...]
) -> None:
    told = cli.fails(*words, "--stack", "parcelq")
    assert told.startswith("parcelq: DescribeStacks failed with AccessDenied: ")
    assert told.endswith(HINT)
