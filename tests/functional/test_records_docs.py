"""The examples of docs/records.md are cut as they say."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from parcelq.records import by_name, cut, parse, split_header
from parcelq.steps.settings import read_settings

PAGE = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
EXAMPLES = re.findall(r"```([a-z]+(?:[ =][^\n]*)?)\n(.*?)```\n\n((?:    [^\n]*\n|\n)+)", PAGE, re.DOTALL)
ROWS = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", PAGE, re.MULTILINE)


def test_the_page_about_records_has_an_example_for_each_format() -> None:
    kinds = {re.split("[ =]", name)[0] for name, _, _ in EXAMPLES}
    assert kinds == {re.split("[ =]", name)[0] for name, _ in ROWS}
    assert any(name.startswith("lines=") for name, _, _ in EXAMPLES)


@pytest.mark.parametrize(("name", "content", "entries"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_an_example_is_cut_into_the_entries_that_follow_it(name: str, content: str, entries: str) -> None:
    fmt = parse(name)
    _, rest = split_header(BytesIO(content.encode()), fmt)
    found = [parcel.data.decode() for parcel in cut(rest, fmt, 1, 1 << 20)]
    text = re.sub(r"^    ", "", entries, flags=re.MULTILINE).strip("\n") + "\n"
    assert found == [f"{entry}" if entry.endswith("\n") else f"{entry}\n" for entry in text.split("---\n")]


@pytest.mark.parametrize(("name", "suffixes"), ROWS)
def test_names_of_files_choose_the_formats_of_the_table(name: str, suffixes: str) -> None:
    for suffix in re.findall(r"`(\.[a-z0-9]+)`", suffixes):
        wanted = parse("starts=@<TRIPOS>MOLECULE" if suffix == ".mol2" else name)
        assert by_name(f"file{suffix}") == by_name(f"FILE{suffix.upper()}.gz") == wanted


def test_the_settings_of_the_page_are_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "settings.yaml").write_text(text)
    assert read_settings(tmp_path / "settings.yaml").output == parse("lines")
