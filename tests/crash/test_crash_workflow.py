"""The same with a workflow of two steps, which run in one invocation: whatever goes wrong, the result is exact."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from crash_faults import EVERY_FAULT, Fault
from crash_world import STEP, World
from parcelq.jobs.assembled import from_folder
from parcelq.jobs.version import Version, version_of
from parcelq.jobs.versions import Versions, bundle_key
from parcelq.names import SEGMENTS
from parcelq.steps.bundles import write_bundle
from parcelq.store.folder import FolderStore
from parcelq.topics.attributes import REASON, WORKFLOW
from test_crash import BAD, WHOLE, Home, every_call, home, make_world, shares, told, without  # noqa: F401

pytestmark = pytest.mark.filterwarnings(
    "ignore:No application metrics", "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)

KEY = "inbox/two/molecules.smi"
RESULT = "results/two/molecules.smi"
MARK = '#!/usr/bin/awk -f\n{ print $0 "!" }\n'
FAULTS = [
    name for name in EVERY_FAULT if name.startswith("killed") or name in {"throttled", "last entry fails to the end"}
]


@pytest.fixture(scope="module")
def workflow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Version, dict[str, bytes], bytes]:
    """A version, the objects that it is stored as, and what its steps make of all good lines together."""
    folder = tmp_path_factory.mktemp("two")
    for name, text in (("describe", STEP), ("mark", MARK)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "settings.yaml").write_text("filter: true\n")
    first, second = request.param
    steps = ", ".join(f"{{run: {name}, settings: settings.yaml}}" for name in (first, second))
    (folder / "workflow.yaml").write_text(f"steps: [{steps}]\n")
    assembled = from_folder(folder, "two")
    stored = FolderStore(tmp_path_factory.mktemp("stored"))
    archive = tmp_path_factory.mktemp("archive") / "code.zip"
    version = version_of("two", assembled.workflow, write_bundle(assembled.files, archive), [None, None], "")
    stored.put(bundle_key(version.code), archive.read_bytes())
    versions = Versions(stored)
    versions.put(version)
    versions.make_current(version)
    expected = without(BAD)
    for name in (first, second):
        expected = subprocess.run([folder / name], input=expected, check=True, capture_output=True).stdout
    return version, {key: stored.read(key) for key in stored.keys("workflows/")}, expected


@pytest.mark.parametrize(("fault", "part"), shares(FAULTS))
@pytest.mark.parametrize(
    "workflow", [("describe", "mark"), ("mark", "describe")], indirect=True, ids=["first", "second"]
)
def test_with_a_bad_line_in_either_step_and_a_fault_at_any_call_the_result_is_exact(
    make_world: Callable[..., World],  # noqa: F811
    home: Home,  # noqa: F811
    workflow: tuple[Version, dict[str, bytes], bytes],
    fault: str,
    part: int,
) -> None:
    version, objects, expected = workflow
    for one in every_call(fault, part):
        world = make_world(one)
        for key, data in objects.items():
            world.bucket.put_object(key, data)
        world.put(WHOLE, key=KEY)
        with told(one):
            world.run()
            check(world, one, version, expected)
        world.end()
        left: list[Path] = [path for path in home.left() if not str(path).endswith("parcelq-bundles")]
        assert left == []


def check(world: World, fault: Fault, version: Version, expected: bytes) -> None:
    assert world.object(RESULT) == expected
    assert world.waiting() == {}
    assert {key.split("/")[1] for key in world.keys(SEGMENTS)} == {"parcelq-output", ".uploads", ".versions"}
    letters = list(chain.from_iterable(world.letters().values()))
    assert 1 <= len(letters) <= 1 + max(1, fault.hits)
    for letter in letters:
        assert letter.message().body.rstrip(b"!\n") == BAD.strip()
        assert letter.attributes[WORKFLOW] == version.attribute
        assert "no molecule: bad delta" in letter.attributes[REASON]
