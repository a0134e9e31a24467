"""What `sam build` makes, built once for all tests."""

from __future__ import annotations

import fcntl

import pytest
from building import Built, build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Built:
    """The built functions and layer; whichever of the processes that run tests comes first builds for all of them."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    made = Built(shared / "build", shared / "runtime" / "bin" / "python")
    done = shared / "built"
    with (shared / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            build(made, shared / "template.yaml")
            done.touch()
    return made
