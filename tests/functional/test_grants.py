"""Credentials and secrets of steps: who gets which, how long they are kept, and that nobody else sees them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from function_world import Stack
from parcelq.aws.secrets import credentials_of, secret_value
from parcelq.errors import AwsError, SettingsError, StepError
from parcelq.steps.find import Step
from parcelq.steps.grants import Grants, read_secrets
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from parcelq.topics.message import Message

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

ROLE = "arn:aws:iam::123456789012:role/steps"
PARAMETER = "arn:aws:ssm:eu-central-1:123456789012:parameter/parcelq/score/API_KEY"
OTHERS = "arn:aws:ssm:eu-central-1:123456789012:parameter/parcelq/other/API_KEY"
SHOW = """#!/usr/bin/env python3
import json, os
json.dump({**os.environ, "pid": os.getpid()}, open(os.environ["PARCELQ_RUN"] + "/output", "w"))
"""


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secret(aws: None) -> str:
    """The ARN of a secret for the workflow `score`; and it has a parameter, as another workflow has."""
    ssm = boto3.client("ssm")
    for name, value in (("/parcelq/score/API_KEY", "key of score"), ("/parcelq/other/API_KEY", "key of another")):
        ssm.put_parameter(Name=name, Value=value, Type="SecureString")
    made = boto3.client("secretsmanager").create_secret(Name="parcelq/score/TOKEN", SecretString="token of score")
    return str(made["ARN"])


@pytest.fixture
def step(make_step: Callable[..., Path]) -> Step:
    return Step(make_step(SHOW, "show.py"), StepSettings(aws_credentials=True))


@pytest.fixture
def runs() -> Iterator[Callable[[Step], Callable[[], dict[str, Any]]]]:
    """Makes of a step what runs it and returns its environment."""
    with contextlib.ExitStack() as opened:

        def make(step: Step) -> Callable[[], dict[str, Any]]:
            runner = opened.enter_context(contextlib.closing(Runner(step)))

            def run() -> dict[str, Any]:
                with runner.run([]) as ran:
                    return dict(json.loads(ran.output.read_bytes().decode()))

            return run

        yield make


def test_a_step_of_a_stack_gets_the_credentials_of_its_role_and_never_those_of_the_function(
    aws: None, step: Step, runs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the function's")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the function's own")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://the.function.s")
    got = runs(Grants(ROLE, (), "tests").to(step, "score"))()
    assert got["AWS_SESSION_TOKEN"]
    assert got["AWS_REGION"]
    assert not [value for value in got.values() if "the.function" in str(value) or "the function" in str(value)]


def test_a_step_that_does_not_ask_for_credentials_gets_none(
    aws: None, make_step: Callable[..., Path], runs: Callable[..., Any]
) -> None:
    got = runs(Grants(ROLE, (), "tests").to(Step(make_step(SHOW, "show.py")), "score"))()
    assert not [name for name in got if name.startswith("AWS_")]


def test_a_step_that_asks_for_credentials_where_no_role_is_named_is_refused(step: Step) -> None:
    with pytest.raises(SettingsError, match="aws_credentials: true, but the stack has no StepRole"):
        Grants("", (), "tests").to(step, "score")


def test_credentials_are_renewed_before_they_expire_and_not_before_they_need_to(
    aws: None, step: Step, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def assume(role: str, session: str) -> tuple[Mapping[str, str], float]:
        given.append(f"key {len(given)}")
        return {"AWS_SECRET_ACCESS_KEY": given[-1]}, clock.now + 3600

    monkeypatch.setattr("parcelq.aws.secrets.credentials_of", assume)
    granted = Grants(ROLE, (), "tests", clock).to(step, "score").granted
    assert granted
    seen = []
    for _ in range(8):
        seen.append(granted()["AWS_SECRET_ACCESS_KEY"])
        clock.now += 900  # as long as an invocation may take
    assert seen == ["key 0"] * 3 + ["key 1"] * 3 + ["key 2"] * 2


def test_a_secret_that_is_no_text_is_named_and_not_passed_on_as_an_empty_text(aws: None) -> None:
    made = boto3.client("secretsmanager").create_secret(Name="parcelq/score/KEY", SecretBinary=b"\x00")
    with pytest.raises(AwsError, match=r"score/KEY-\w+ contains bytes, but must contain a text"):
        secret_value(made["ARN"])


@pytest.mark.parametrize("reply", [{}, {"Credentials": {}}, {"Credentials": {"AccessKeyId": "a"}}])
def test_credentials_that_a_reply_lacks_are_named(monkeypatch: pytest.MonkeyPatch, reply: dict[str, Any]) -> None:
    monkeypatch.setattr("parcelq.aws.secrets.other_client", lambda _: SimpleNamespace(assume_role=lambda **_: reply))
    with pytest.raises(AwsError, match="AssumeRole failed: the reply does not contain"):
        credentials_of(ROLE, "tests")


def test_a_workflow_gets_its_own_secrets_and_no_others(
    secret: str, make_step: Callable[..., Path], runs: Callable[..., Any]
) -> None:
    grants = Grants("", (secret, PARAMETER, OTHERS), "tests")
    plain = Step(make_step(SHOW, "show.py"))
    got = runs(grants.to(plain, "score"))()
    assert (got["TOKEN"], got["API_KEY"]) == ("token of score", "key of score")
    got = runs(grants.to(plain, "other"))()
    assert "TOKEN" not in got
    assert got["API_KEY"] == "key of another"
    assert "API_KEY" not in runs(grants.to(plain, "third"))()


def test_a_secret_is_read_once_and_again_when_its_time_is_up(secret: str, step: Step, clock: Clock) -> None:
    granted = Grants(ROLE, (PARAMETER,), "tests", clock).to(step, "score").granted
    assert granted
    assert granted()["API_KEY"] == "key of score"
    boto3.client("ssm").put_parameter(Name="/parcelq/score/API_KEY", Value="a new one", Overwrite=True)
    clock.now += 899
    assert granted()["API_KEY"] == "key of score"
    clock.now += 1
    assert granted()["API_KEY"] == "a new one"


def test_a_kept_process_ends_when_what_it_was_granted_is_old(
    make_step: Callable[..., Path], runs: Callable[..., Any]
) -> None:
    text = (
        "import json, os\nfrom parcelq.step import step\n@step\ndef run(entries):\n"
        "    yield json.dumps({**os.environ, 'pid': os.getpid()})\nif __name__ == '__main__':\n    run.main()\n"
    )
    values = {"KEY": "first"}
    run = runs(Step(make_step(text, "step.py"), granted=lambda: dict(values)))
    first, second = run(), run()
    assert first["pid"] == second["pid"]
    values["KEY"] = "other"
    third = run()
    assert (third["KEY"], third["pid"] == first["pid"]) == ("other", False)


@pytest.mark.parametrize("code", ["sys.exit(1)", "raise ValueError(os.environ['KEY'])"])
def test_a_secret_is_hidden_in_what_a_failed_run_says(make_step: Callable[..., Path], code: str) -> None:
    text = f"import os, sys\nprint('key is', os.environ['KEY'], file=sys.stderr)\n{code}\n"
    step = Step(make_step(text, "step.py"), granted=lambda: {"KEY": "do not tell", "SHORT": "is"})
    with contextlib.closing(Runner(step)) as runner, pytest.raises(StepError) as caught, runner.run([]):
        pass
    assert "key is ***" in str(caught.value)
    assert "do not tell" not in f"{caught.value} {caught.value.stderr_tail} {caught.value.reason}"


def test_a_secret_is_hidden_in_the_reasons_of_rejected_entries_and_in_what_a_run_prints(
    make_step: Callable[..., Path],
) -> None:
    text = """import json, os, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("with", os.environ["KEY"])
open(arguments["--output"], "w").close()
json.dump({"entry": 0, "reason": "refused with " + os.environ["KEY"]}, open(arguments["--rejects"], "w"))
"""
    settings = StepSettings(rejects=True)
    step = Step(make_step(text, "step.py"), settings, granted=lambda: {"KEY": "do not tell"})
    with contextlib.closing(Runner(step)) as runner, runner.run([b"x\n"]) as ran:
        assert [one.reason for one in ran.rejects] == ["refused with ***"]
        assert ran.printed == "with ***\n"


def test_messages_wait_for_a_secret_that_cannot_be_read_and_none_of_them_is_dead(
    stack: Stack, upper: None, settings: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    missing = PARAMETER.replace("score", "step")
    settings(SECRETS=missing, MAX_FAILURES=1)
    stack.publish("parcelq-step", Message(b"x\n"))
    delivered = stack.deliver("parcelq-step")
    answer = stack.call("processor", delivered)
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == [delivered["Records"][0]["messageId"]]
    assert stack.take("parcelq-output") == stack.take("parcelq-step-dead-letter") == []
    assert "delivered again: step 'step' could not be given its secrets: GetParameter failed" in caplog.text


@pytest.mark.parametrize(
    "arn",
    [
        "score/API_KEY",
        "arn:aws:secretsmanager:eu-central-1:123456789012:secret:parcelq/score/API_KEY",
        "arn:aws:ssm:eu-central-1:123456789012:parameter/API_KEY",
        "arn:aws:ssm:eu-central-1:123456789012:parameter/score/api-key",
        "arn:aws:s3:::score/API_KEY",
    ],
)
def test_a_workflow_with_an_invalid_name_of_a_secret_is_refused_with_what_would_be_right(arn: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_secrets([PARAMETER, arn, "nonsense"])
    assert [one.split(" must be ")[0] for one in caught.value.problems] == [repr(arn), "'nonsense'"]
    assert all("/<workflow>/<VARIABLE>" in one for one in caught.value.problems)
