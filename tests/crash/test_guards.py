"""Marks in the code, the list of tests and the documentation agree. `make guards` checks that the tests notice."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache

import pytest
from mutants import DOCS, NOTICED_BY, ROOT, Guard, guards, table

GUARDS = list(guards())


def test_every_mark_has_an_entry_and_every_entry_a_mark() -> None:
    assert Counter(guard.what for guard in GUARDS) == Counter(NOTICED_BY.keys())


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.what)
def test_a_guard_can_be_broken_and_the_result_compiles(guard: Guard) -> None:
    mutant = guard.mutant()
    assert mutant != (ROOT / guard.path).read_text()
    compile(mutant, str(guard.path), "exec")


@cache
def parsed(path: str) -> list[ast.stmt]:
    return ast.parse((ROOT / path).read_text()).body


@pytest.mark.parametrize(
    "test", sorted({test for tests in NOTICED_BY.values() for test in tests}), ids=lambda test: test.rpartition("/")[2]
)
def test_every_test_that_a_guard_names_exists(test: str) -> None:
    path, *names = test.partition("[")[0].split("::")
    body = parsed(path)
    for name in names:
        found = [one for one in body if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == name]
        assert found, name
        body = found[0].body


def test_every_guard_names_at_least_one_test() -> None:
    assert all(NOTICED_BY.values())


def test_the_page_about_guards_lists_all_guards_and_their_tests() -> None:
    assert DOCS.read_text().endswith("| --- | --- | --- |\n" + table()), "run tests/crash/mutants.py --docs"
