"""What `parcelq doctor` finds, and what `parcelq scale` asks Lambda for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from parcelq.errors import AwsError, ParcelqError
from parcelq.jobs.version import version_of
from parcelq.jobs.versions import Versions
from parcelq.jobs.workflow import Workflow, WorkflowStep
from parcelq.stack.lookup import Stack
from parcelq.steps.bundles import Bundle
from parcelq.store.folder import FolderStore
from parcelq_cli import doctor as module

STACK = Stack("parcelq", "bucket", "parcelq", ("step", "heavy"), "parcelq-output", "3.13", "x86_64", 2048)


class Lambda:
    """Lambda, with two processors that may run 60 times each."""

    def __init__(self) -> None:
        self.limit = 1000
        self.state = "Enabled"
        self.asked: list[dict[str, Any]] = []
        self.takes = True

    def get_account_settings(self) -> dict[str, Any]:
        return {"AccountLimit": {"ConcurrentExecutions": self.limit}}

    def list_event_source_mappings(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        mapping = {"UUID": FunctionName, "State": self.state, "ScalingConfig": {"MaximumConcurrency": 60}}
        return {"EventSourceMappings": [mapping] if self.state else []}

    def update_event_source_mapping(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        return {"ScalingConfig": asked["ScalingConfig"]} if self.takes else {}


class CloudWatch:
    def describe_alarms(self, **asked: Any) -> dict[str, Any]:
        assert asked["AlarmNamePrefix"] == "parcelq-"
        return {"MetricAlarms": [{"AlarmName": "parcelq-step-age", "AlarmDescription": "Messages wait too long."}]}


@pytest.fixture
def functions(monkeypatch):
    made = Lambda()
    monkeypatch.setattr(module, "_client", {"lambda": made, "cloudwatch": CloudWatch()}.__getitem__)
    return made


@pytest.fixture
def examined(functions) -> module.Examined:
    return module.Examined(STACK)


def test_a_stack_that_may_run_more_than_the_account_allows_are_found(examined, functions):
    assert list(examined.concurrency()) == []
    functions.limit = 10
    (found,) = examined.concurrency()
    assert found.what == "the account runs 10 functions at once, and the stack may ask for 240"
    assert "parcelq scale" in found.help
    assert "new accounts" in found.help


def test_event_sources_that_are_off_or_gone_are_found(examined, functions):
    assert list(examined.event_sources()) == []
    functions.state = "Disabled"
    assert [one.what for one in examined.event_sources()] == [
        f"the event source of parcelq-{name} is Disabled"
        for name in ("processor-step", "processor-heavy", "uploader", "downloader")
    ]
    functions.state = ""
    with pytest.raises(ParcelqError, match="parcelq-processor-step has no event source"):
        list(examined.event_sources())


def test_doctor_lists_alarms_with_their_meaning(examined):
    (found,) = examined.alarms()
    assert (found.what, found.help) == ("the alarm parcelq-step-age went off", "Messages wait too long.")


def test_workflows_that_cannot_be_run_are_found(examined, tmp_path: Path, monkeypatch):
    store = FolderStore(tmp_path)
    versions = Versions(store)
    monkeypatch.setattr(Stack, "versions", versions)
    bundle = Bundle("0" * 64, 4, 4, 0, 1)
    store.put(f"workflows/.bundles/{bundle.digest}.zip", b"code")
    workflow = Workflow((WorkflowStep("cat"),))
    good = version_of("good", workflow, bundle, [None], "")
    old = version_of("old", workflow, bundle, [(bundle, "lock")], "3.11")
    for one in (good, old):
        versions.put(one)
        versions.make_current(one)
    assert [one.what for one in examined.workflows()] == [
        "workflow old is for Python 3.11, and the functions have 3.13"
    ]
    store.put(f"workflows/good/{good.id}.json", b"{}")
    assert next(one.what.partition(":")[0] for one in examined.workflows()) == f"workflow 'good@{good.id}'"
    store.delete([f"workflows/.bundles/{bundle.digest}.zip"])
    assert "workflow old lacks 1 bundle" in [one.what for one in examined.workflows()]


def test_doctor_calls_it_a_problem_if_it_may_not_look(functions, monkeypatch, capsys):
    def denied() -> dict[str, Any]:
        raise AwsError("GetAccountSettings", "AccessDeniedException", "no", 403)

    monkeypatch.setattr(module, "look_up", lambda _name: STACK)
    for name in ("event_sources", "dead_letters", "alarms", "workflows"):
        monkeypatch.setattr(module.Examined, name, lambda _self: iter(()))
    monkeypatch.setattr(functions, "get_account_settings", denied)
    with pytest.raises(ParcelqError, match="1 problem found"):
        module.doctor(stack="parcelq", json=False, quiet=False, verbose=False)
    told = capsys.readouterr()
    assert "GetAccountSettings failed with AccessDeniedException, so this could not be checked" in told.out
    assert "ask an administrator" in told.out
    assert "alarms: no problem found" in told.err


def test_scaling_counts_only_if_lambda_confirms_it(functions, monkeypatch, capsys):
    monkeypatch.setattr(module, "look_up", lambda _name: STACK)
    more = {"json": False, "quiet": False, "verbose": False}
    module.scale(stage="heavy", number=7, stack="parcelq", **more)
    assert functions.asked == [{"UUID": "parcelq-processor-heavy", "ScalingConfig": {"MaximumConcurrency": 7}}]
    assert capsys.readouterr().out == "heavy: 7, before 60\n"
    functions.takes = False
    with pytest.raises(ParcelqError, match="Lambda was asked for a concurrency of 8, but reports None"):
        module.scale(stage="heavy", number=8, stack="parcelq", **more)
    with pytest.raises(ParcelqError, match="STAGE is 'nope', but must be one of step, heavy"):
        module.scale(stage="nope", number=8, stack="parcelq", **more)
