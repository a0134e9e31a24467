"""Runs the tests that need no server on every supported Python: `make versions`, or `nox --session tests-3.12`."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Install the package with its development tools, in the exact versions, and test the library and the commands."""
    session.install("--requirement", "requirements.lock", "--editable", ".[dev]")
    session.run("pytest", "--numprocesses", "auto", *(session.posargs or ["tests/unit", "tests/contract"]))
