"""The list of guards fits the code and the documentation. Whether tests notice their loss, `make guards` tells."""

from __future__ import annotations

import pytest
from mutants import GUARDS, ROOT, Guard, table


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.what)
def test_a_guard_is_where_it_is_said_to_be(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text().count(guard.code) == 1
    assert guard.code != guard.broken
    for test in guard.tests:
        path, *names = test.partition("[")[0].split("::")
        text = (ROOT / path).read_text()
        assert all(f"def {name}(" in text or f"class {name}:" in text for name in names)


def test_the_documentation_has_them_all() -> None:
    assert (ROOT / "docs" / "guards.md").read_text().endswith("| --- | --- | --- |\n" + table())
