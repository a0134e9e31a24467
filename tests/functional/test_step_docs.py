"""What docs/steps.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

from parcelq.steps.find import Step
from parcelq.steps.rejects import read_rejects
from parcelq.steps.settings import StepSettings, read_settings
from step_runs import run_step

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "steps.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def test_the_whole_step_gives_what_the_page_says(tmp_path):
    path = tmp_path / "step.py"
    path.write_text(blocks("python")[0])
    with run_step(Step(path), [b"1\n#\nx\n4\n"], 60, entries=4) as ran:
        assert ran.output.read_bytes().decode() == "2\n8\n"
        assert "".join(f"{one.reason}\n" for one in ran.rejects) == blocks("text")[0]


def test_the_line_of_rejects_on_the_page_is_what_a_step_writes(tmp_path):
    (tmp_path / "rejects").write_text(blocks("json")[0])
    (one,) = read_rejects(tmp_path / "rejects", 3)
    assert (one.entry, one.after, one.reason) == (2, 1, "no such molecule")


def test_the_filters_are_those_of_the_examples():
    upper, words = blocks("yaml")
    settings = [read_settings(ROOT / "examples" / name / "settings.yaml") for name in ("upper", "words")]
    assert [one.arguments for one in settings] == [("a-z", "A-Z"), ("{ for (i = 1; i <= NF; i++) print $i }",)]
    assert "arguments: [a-z, A-Z]" in upper
    assert settings[1].arguments[0] in words
    with run_step(Step(Path("/usr/bin/tr"), settings[0]), [b"abc\n"], 60) as ran:
        assert ran.output.read_bytes() == b"ABC\n"


def test_the_table_names_every_setting_with_its_default():
    table = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", TEXT, re.M))
    assert set(table) == set(StepSettings.__slots__) - {"path"}
    assert str(StepSettings().max_output_bytes) in table["max_output_bytes"]
