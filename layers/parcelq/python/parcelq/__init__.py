"""Parcelq: runs a program over every record of a file, and gives one exact result.

    import parcelq

    topics = parcelq.connect()
    lines, done = topics.create("in"), topics.create("out")
    lines.upload("molecules.smi")
    parcelq.Worker(lines, done, step="tr", settings="s.yaml").run(idle=5)
    done.download("out.smi")

A job runs on this machine without AWS, or on a deployed stack:

    parcelq.run("score.py", "molecules.smi").wait()
    parcelq.run("score.py", "molecules.smi", stack="parcelq").wait()

The docstring of each subpackage says what it contains. A subpackage imports only subpackages of lower layers;
pyproject.toml lists the layers. `face` and `start` have the public interface, which is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from parcelq import errors
    from parcelq.face import Topic, Topics, Worker, connect
    from parcelq.local.job import Job
    from parcelq.start import run
    from parcelq.steps.function import step

__all__ = ["Job", "Topic", "Topics", "Worker", "__version__", "connect", "errors", "run", "step"]

_PLACES: Final = {
    **dict.fromkeys(("Topic", "Topics", "Worker", "connect"), "parcelq.face"),
    "run": "parcelq.start",
    "Job": "parcelq.local.job",
}
_MODULES: Final = frozenset({"errors", "step"})


def __getattr__(name: str) -> Any:
    """Import a name on first use, so that a cold start imports only the needed modules."""
    from importlib import import_module

    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name in _MODULES:
        return import_module(f"parcelq.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("parcelq")
    raise AttributeError(f"module 'parcelq' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
