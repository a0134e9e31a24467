"""The built functions under AWS's own runtime: what they answer to events, what they make of a file, and time-outs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from building import ROOT, Built
from emulated import BUILT, Emulated, emulated
from parcelq.jobs.assembled import from_folder
from parcelq.jobs.version import version_of
from parcelq.jobs.versions import Versions, bundle_key
from parcelq.steps.bundles import write_bundle
from parcelq.steps.packages import Target
from parcelq.store.bucket import BucketStore
from parcelq_emulator.rie import EmulatedFunction

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime emulator runs on Linux alone")

EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "events").glob("*.json"))}
PROCESSOR, UPLOADER, DOWNLOADER, TOPIC_ADMIN = BUILT
COLLECTED = {"drained", "finished", "waiting", "finished_count", "waiting_count"}
ANSWERS = {
    "download": (DOWNLOADER, COLLECTED),
    "s3_delete": (UPLOADER, None),
    "s3_put": (UPLOADER, None),
    "s3_put_empty": (UPLOADER, None),
    "s3_put_folder": (UPLOADER, None),
    "s3_put_odd_key": (UPLOADER, None),
    "s3_put_to_topic": (UPLOADER, None),
    "s3_test": (UPLOADER, None),
    "schedule": (DOWNLOADER, COLLECTED),
    "sqs_messages": (PROCESSOR, {"batchItemFailures"}),
    "sqs_ranges": (UPLOADER, {"batchItemFailures"}),
    "topic_admin_attributes": (TOPIC_ADMIN, {"attributes"}),
    "topic_admin_clear": (TOPIC_ADMIN, {"deleted"}),
    "topic_admin_count": (TOPIC_ADMIN, {"approximate_count"}),
    "topic_admin_create": (TOPIC_ADMIN, {"url"}),
    "topic_admin_delete": (TOPIC_ADMIN, {"deleted"}),
    "topic_admin_list": (TOPIC_ADMIN, {"topics"}),
    "topic_admin_peek": (TOPIC_ADMIN, {"messages"}),
    "topic_admin_publish": (TOPIC_ADMIN, {"published", "failed"}),
    "topic_admin_purge": (TOPIC_ADMIN, {"purged"}),
    "topic_admin_redrive": (TOPIC_ADMIN, {"redriven"}),
    "topic_admin_status": (TOPIC_ADMIN, {"sources", "count"}),
    "topic_admin_url": (TOPIC_ADMIN, {"url"}),
}
"""The function that each event is for, and the members of its answer."""
MOLECULES = b"CCO ethanol\nc1ccccc1 benzene\nCC(=O)Oc1ccccc1C(=O)O aspirin\nNCC(=O)O glycine\n"
"""What the events' objects hold."""
LINES = MOLECULES.decode().splitlines(keepends=True)
UPLOADED = {
    "s3_put": ["".join(LINES)],
    "s3_put_empty": ["\n"],
    "s3_put_odd_key": ["".join(LINES)],
    "s3_put_to_topic": ["".join(LINES)],
    "sqs_ranges": ["".join(LINES[:3])],
}
"""The messages that the uploader publishes for an event; of the range those lines that start in it."""
OBJECTS = {
    "inbox/molecules.smi": MOLECULES,
    "inbox/a b+c 100% äöü.txt": MOLECULES,
    "inbox/empty.txt": b"",
    "inbox/folder/": b"",
    "inbox/parcelq-extra/molecules.smi": MOLECULES,
}
HANGING_STEP = """
import sys, time
text = sys.stdin.read()
if "HANG" in text:
    time.sleep(1000)
sys.stdout.write(text.upper())
"""
FREEZING_STEP = """
import os, pathlib, signal, sys
text = sys.stdin.read()
frozen = pathlib.Path({marker!r})
if not frozen.exists():
    frozen.touch()
    os.kill(os.getppid(), signal.SIGSTOP)
sys.stdout.write(text.upper())
"""
"""Stops the function that runs it, once."""
PROBE = """
import sys
import app

def handler(event, context):
    app.handler(event, context)
    return [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
"""


@pytest.fixture(scope="module")
def deployed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    with emulated(built, tmp_path_factory.mktemp("events")) as stack:
        yield stack


@pytest.fixture(scope="module")
def instances(deployed: Emulated) -> dict[str, EmulatedFunction]:
    """One instance of each function, which takes one event after another."""
    return {name: deployed.start(name) for name in BUILT}


@pytest.fixture
def stack(deployed: Emulated) -> Iterator[Emulated]:
    """A stack with no messages, but with the objects of the events, and a topic of its user's."""
    for key, data in OBJECTS.items():
        deployed.put(key, data)
    deployed.topics.create("parcelq-extra")
    yield deployed
    deployed.topics.clear("parcelq-extra")
    for topic in ("parcelq-step", "parcelq-output"):
        deployed.take(topic)


@pytest.mark.parametrize("name", EVENTS)
def test_every_example_event_gets_the_answer_of_its_function(
    stack: Emulated, instances: dict[str, EmulatedFunction], name: str
) -> None:
    function, members = ANSWERS[name]
    answer = instances[function].invoke(EVENTS[name])
    assert (answer and answer.keys()) == members
    if function == UPLOADER:
        topic = "parcelq-extra" if name == "s3_put_to_topic" else "parcelq-step"
        assert stack.take(topic) == UPLOADED.get(name, [])
    if members == {"batchItemFailures"}:
        assert answer["batchItemFailures"] == []
    if name == "sqs_messages":
        output = "".join(stack.take("parcelq-output")).splitlines()
        described = sorted(json.loads(line)["name"] for line in output)
        assert described == ["aspirin", "benzene", "ethanol", "ethylamine", "glycine"]


def test_a_file_that_is_put_into_the_inbox_comes_back_as_its_result(built: Built, tmp_path: Path) -> None:
    file, expected = ROOT / "examples" / "molecules.smi", tmp_path / "expected"
    step = built.folder / "StageFunctionstep" / "steps" / "step" / "step.py"
    subprocess.run([built.python, step, "--input", file, "--output", expected], check=True)
    with emulated(built, tmp_path, RangeBytes="50000", ParcelSize="300") as stack:
        started = [(name, stack.start(name)) for name in (UPLOADER, UPLOADER, PROCESSOR, PROCESSOR)]
        downloader = stack.start(DOWNLOADER)
        with stack.pumping(*started):
            stack.put("inbox/molecules.smi", file.read_bytes())
            report = stack.collect(downloader, "molecules.smi")
        assert stack.get("results/molecules.smi") == expected.read_bytes()
        assert report["complete"]
        assert report["entries"] == {"read": 5000, "done": 5000, "dead": 0, "missing": 0, "written": 5000}
        assert stack.errors == []
        admin = stack.start(TOPIC_ADMIN)
        assert admin.invoke(EVENTS["topic_admin_status"]) == {"sources": [], "count": 0}
        assert admin.invoke(EVENTS["topic_admin_count"]) == {"approximate_count": 0}


def test_a_workflow_runs_from_its_bundles_alone(built: Built, tmp_path: Path) -> None:
    """RDKit comes from the bundle; neither the function nor its layer has it."""
    found = [built.python, "-c", "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')"]
    python = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip()
    assembled = from_folder(ROOT / "examples" / "rdkit")
    (packages,) = assembled.packages(Target(python, "x86_64-manylinux_2_34"), lambda _: None)
    assert packages
    code = tmp_path / "code.zip"
    version = version_of(
        "rdkit", assembled.workflow, write_bundle(assembled.files, code), [(packages.bundle, packages.lock)], python
    )
    with emulated(built, tmp_path) as stack:
        versions = Versions(BucketStore(stack.s3, stack.stack.bucket))
        for bundle, archive in ((version.code, code), (packages.bundle, packages.archive)):
            stack.put(bundle_key(bundle), archive.read_bytes())
        versions.put(version)
        versions.make_current(version)
        instances = [(UPLOADER, stack.start(UPLOADER)), (PROCESSOR, stack.start(PROCESSOR))]
        with stack.pumping(*instances):
            stack.put("inbox/rdkit/molecules.smi", b"CCO ethanol\nC1CC bad\nc1ccccc1 benzene\n")
            report = stack.collect(stack.start(DOWNLOADER), "rdkit/molecules.smi")
        result = [json.loads(line) for line in stack.get("results/rdkit/molecules.smi").splitlines()]
    assert [(one["name"], one["formula"]) for one in result] == [("ethanol", "C2H6O"), ("benzene", "C6H6")]
    assert [one["reason"] for one in report["dead"]] == ["RDKit cannot read the SMILES 'C1CC'"]
    assert report["workflows"] == [version.attribute]
    assert stack.errors == []


def test_nothing_but_what_was_built_is_loaded(built: Built, tmp_path: Path) -> None:
    code = tmp_path / "code"
    shutil.copytree(built.folder / "Downloader", code)
    (code / "probe.py").write_text(PROBE)
    with emulated(built, tmp_path) as stack:
        loaded = stack.start(DOWNLOADER, code, "probe.handler").invoke(EVENTS["download"])
    base = subprocess.run(
        [built.python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert {f"{built.library}/parcelq/__init__.py", f"{code}/app.py"} <= set(loaded)
    allowed = (str(code), str(built.library), str(built.python.parents[1]), base)
    assert [path for path in loaded if not path.startswith(allowed)] == []
    assert not any(path.startswith(str(ROOT)) for path in loaded)


def test_a_step_that_hangs_is_ended_in_time_and_only_its_entry_dies(built: Built, tmp_path: Path) -> None:
    code = with_step(built, tmp_path, HANGING_STEP)
    with emulated(built, tmp_path, MaxFailures="1") as stack:
        instances = [(UPLOADER, stack.start(UPLOADER)), (PROCESSOR, stack.start(PROCESSOR, code, timeout=4))]
        with stack.pumping(*instances):
            stack.put("inbox/lines.txt", b"one\nHANG\nthree\n")
            report = stack.collect(stack.start(DOWNLOADER), "lines.txt")
        assert stack.get("results/lines.txt") == b"ONE\nTHREE\n"
        assert report["entries"]["dead"] == 1
        assert "timed out after" in report["dead"][0]["reason"]


def test_a_function_that_the_runtime_kills_loses_nothing(built: Built, tmp_path: Path) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(100))
    code = with_step(built, tmp_path, FREEZING_STEP.format(marker=str(tmp_path / "frozen")))
    with emulated(built, tmp_path) as stack:
        instances = [(UPLOADER, stack.start(UPLOADER)), (PROCESSOR, stack.start(PROCESSOR, code, timeout=3))]
        with stack.pumping(*instances):
            stack.put("inbox/lines.txt", lines)
            report = stack.collect(stack.start(DOWNLOADER), "lines.txt")
        assert {error.kind for error in stack.errors} == {"Timeout"}  # more than one if the machine is busy
        assert "Task timed out after 3.00 seconds" in str(stack.errors[0])
        assert stack.get("results/lines.txt") == lines.upper()
        assert report["complete"]


def with_step(built: Built, folder: Path, step: str) -> Path:
    """The processor with another step in it, which is a filter."""
    code = folder / "code"
    shutil.copytree(built.folder / "StageFunctionstep", code)
    (code / "steps" / "step" / "step.py").write_text(step)
    (code / "steps" / "step" / "settings.yaml").write_text("filter: true\n")
    return code
