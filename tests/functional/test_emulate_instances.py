"""Instances of functions: all kinds behave the same, and differ only in how much they are like Lambda."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from parcelq_emulator import rie
from parcelq_emulator.forks import Forks
from parcelq_emulator.function import FunctionProcess, FunctionSpec, Instance, InvocationError
from parcelq_emulator.leftovers import end_processes_below
from parcelq_emulator.rie import EmulatedFunction, EmulatorNotFoundError, emulator

HANDLER = """
import os, subprocess, sys, time

def handler(event, context):
    match event["do"]:
        case "sleep":
            subprocess.Popen(["sleep", "1000"], start_new_session=True)
            time.sleep(1000)
        case "fail":
            raise ValueError("no good")
        case "die":
            os._exit(3)
        case "count":
            return len(event["text"])
        case "tell":
            in_time = 0 < context.get_remaining_time_in_millis() <= 2000
            return [context.function_name, context.memory_limit_in_mb, in_time, os.environ["COLOUR"], sys.path[:3]]
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime emulator runs on Linux alone")


@pytest.fixture
def spec(tmp_path: Path) -> FunctionSpec:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(HANDLER)
    (tmp_path / "scratch").mkdir()
    return FunctionSpec(
        name="painter",
        folder=tmp_path / "code",
        handler="app.handler",
        environment={"COLOUR": "red", "AWS_REGION": "us-east-1"},
        timeout=2,
        memory=256,
        library=tmp_path / "library",
        scratch=tmp_path / "scratch",
    )


@pytest.fixture(params=[FunctionProcess, pytest.param(EmulatedFunction, marks=linux)])
def instance(spec: FunctionSpec, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Instance]:
    with (tmp_path / "log").open("ab") as log, ExitStack() as opened:
        forks = [opened.enter_context(Forks(spec.scratch, spec.library))] if request.param is FunctionProcess else []
        yield opened.enter_context(request.param(spec, log, *forks))
    end_processes_below(spec.scratch)


def test_an_instance_returns_the_answer_of_its_handler(instance: Instance) -> None:
    assert instance.invoke({"do": "count", "text": "ä" * 1_000_000}) == 1_000_000
    assert instance.invoke({"do": "nothing"}) is None


def test_the_handler_knows_what_the_template_says(instance: Instance, spec: FunctionSpec) -> None:
    name, memory, in_time, colour, path = instance.invoke({"do": "tell"})
    assert (name, int(memory), in_time, colour) == ("painter", 256, True, "red")
    assert str(spec.folder) in path


def test_a_handler_that_raises_fails_its_own_event_alone(instance: Instance) -> None:
    with pytest.raises(InvocationError, match="function painter: ValueError: no good") as caught:
        instance.invoke({"do": "fail"})
    assert caught.value.kind == "ValueError"
    assert instance.invoke({"do": "nothing"}) is None


def test_a_handler_that_takes_too_long_is_ended(instance: Instance) -> None:
    with pytest.raises(InvocationError, match="timed out after 2") as caught:
        instance.invoke({"do": "sleep"})
    assert caught.value.kind == "Timeout"
    assert instance.invoke({"do": "nothing"}) is None


def test_a_process_that_dies_is_started_anew(instance: Instance) -> None:
    with pytest.raises(InvocationError, match="painter"):
        instance.invoke({"do": "die"})
    assert instance.invoke({"do": "nothing"}) is None


def test_an_instance_may_be_stopped_twice_and_without_use(instance: Instance) -> None:
    instance.stop()
    instance.stop()


@linux
def test_stopping_the_emulator_leaves_no_process_running(spec: FunctionSpec, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log, EmulatedFunction(spec, log) as instance:
        with pytest.raises(InvocationError, match="timed out"):
            instance.invoke({"do": "sleep"})
        assert not end_processes_below(spec.scratch)  # what the handler had started, too
        assert instance.invoke({"do": "nothing"}) is None
    assert not end_processes_below(spec.scratch)


@linux
def test_an_error_names_what_the_runtime_emulator_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rie, "find_spec", lambda name: None)
    with pytest.raises(EmulatorNotFoundError, match=r"aws-sam-cli and awslambdaric.*pip install.*\[rie\]"):
        emulator()


def test_a_machine_without_an_emulator_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rie.platform, "machine", lambda: "riscv64")
    with pytest.raises(EmulatorNotFoundError, match="riscv64"):
        emulator()


def test_an_instance_hands_on_what_steps_get_of_the_users_environment_and_nothing_else(tmp_path, monkeypatch):
    passed = {"LC_ALL": "C.UTF-8", "TZ": "CET", "LANGUAGE": "de", "LD_LIBRARY_PATH": "/opt/lib", "LC_TIME": "C"}
    for name, value in {**passed, "AWS_PROFILE": "mine", "SECRET": "x", "PYTHONPATH": "/mine"}.items():
        monkeypatch.setenv(name, value)
    spec = FunctionSpec("painter", tmp_path, "app.handler", {}, 2, 256, tmp_path / "library", tmp_path / "scratch")
    given = spec.variables()
    assert passed.items() <= given.items()
    assert not {"AWS_PROFILE", "SECRET"} & given.keys()
    assert "/mine" not in given["PYTHONPATH"]
