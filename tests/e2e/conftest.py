"""What takes long to make, made once for all tests, in however many processes they run."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from building import Built, Once, build


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """What calls a function once for all processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def call(make: Callable[[Path], Any]) -> Any:
        folder = shared / f"once-{make.__name__}"
        folder.mkdir(exist_ok=True)
        made = folder / "made.pickle"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                made.write_bytes(pickle.dumps(make(folder)))
            return pickle.loads(made.read_bytes())

    return call


@pytest.fixture(scope="session")
def built(once: Once) -> Built:
    """The built functions and layer."""
    return cast(Built, once(build))
