"""The library as a newcomer uses it: `import parcelq`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import parcelq
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "topics.md"
SETTINGS = 'filter: true\narguments: ["a-z", "A-Z"]\n'


def program() -> str:
    (found,) = re.findall(r"```python\n(import parcelq\n.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def shown_settings() -> str:
    (found,) = re.findall(r"```yaml\n# s\.yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def test_the_program_of_the_page_about_topics_runs_as_it_is(
    sqs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"line {number}\n" for number in range(2500))
    (tmp_path / "molecules.smi").write_text(lines)
    (tmp_path / "s.yaml").write_text(shown_settings())
    monkeypatch.chdir(tmp_path)
    exec(compile(program(), PAGE.name, "exec"), {})
    assert (tmp_path / "out.smi").read_text() == lines.upper()


def test_topics_are_created_found_listed_and_deleted(sqs: Any) -> None:
    topics = parcelq.connect()
    made = topics.create("in", max_receive_count=3)
    assert (made.name, topics.topic("in").url) == ("in", made.url)
    assert topics.topic(made.url) == made
    assert topics.names() == ["in", "in-dead-letter"]
    dead = made.dead_letter_topic()
    assert dead
    assert (dead.name, dead.dead_letter_topic()) == ("in-dead-letter", None)
    assert topics.delete(made) == ["in", "in-dead-letter"]
    topics.create("in")
    assert topics.clear("i") == ["in", "in-dead-letter"]
    with pytest.raises(parcelq.errors.InvalidValueError):
        topics.clear("")
    with pytest.raises(parcelq.errors.TopicNotFoundError):
        topics.topic("in")


@pytest.mark.parametrize("kind", [str, Path])
def test_the_library_takes_paths_as_texts(sqs: Any, tmp_path: Path, kind: type) -> None:
    topics = parcelq.connect()
    lines, done = topics.create("in"), topics.create("out")
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "s.yaml").write_text(SETTINGS)
    assert lines.upload(kind(tmp_path / "a"), kind(tmp_path / "b"), parcel_size=1) == 2
    worker = parcelq.Worker(lines, done, step="tr", settings=kind(tmp_path / "s.yaml"))
    assert worker.run(idle=0) == (2, 2)
    downloaded = done.download(kind(tmp_path / "out"), idle=0)
    assert (downloaded.messages, downloaded.entries, downloaded.incomplete) == (2, 2, ())
    assert sorted((tmp_path / "out").read_text().splitlines()) == ["A", "B"]


def test_entries_too_large_for_a_message_go_through_the_bucket(sqs: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_text("x" * 1_200_000 + "\n")
    lines = parcelq.connect(bucket=bucket).create("in")
    assert lines.upload(tmp_path / "large") == 1
    (pulled,) = lines.pull(1, 1, 0)
    assert len(lines.read(pulled).body) == 1_200_001
    assert lines.acknowledge([pulled]) == []
    assert lines.counts() == (0, 0, 0)


@pytest.mark.parametrize("size", ["batch_size", "parcel_size"])
def test_sizes_below_one_are_refused_before_anything_is_pulled(sqs: Any, size: str) -> None:
    topics = parcelq.connect()
    lines, done = topics.create("in"), topics.create("out")
    options: dict[str, Any] = {size: 0}
    with pytest.raises(parcelq.errors.InvalidValueError, match=size):
        parcelq.Worker(lines, done, step="tr", **options).run(idle=0)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_parcelq_imports_no_other_module() -> None:
    code = "import sys, typing; before = set(sys.modules); import parcelq; print(sorted(set(sys.modules) - before))"
    assert python(code) == "['parcelq']\n"


@pytest.mark.parametrize(
    "code",
    [
        "import parcelq\n@parcelq.step\ndef one(lines): yield from lines\n",
        "from parcelq.step import step\n@step\ndef one(lines): yield from lines\n",
        "import parcelq\nfrom parcelq.step import step\n@parcelq.step\ndef one(lines): yield from lines\n",
        "from parcelq import step\n@step\ndef one(lines): yield from lines\n",
    ],
)
def test_a_step_is_written_in_any_way_of_importing_it(code: str) -> None:
    assert python(f"{code}import sys; print(type(one).__name__, 'boto3' in sys.modules)") == "StepFunction False\n"


def test_the_face_says_what_it_offers_and_refuses_the_rest() -> None:
    assert set(dir(parcelq)) == set(parcelq.__all__)
    assert all(hasattr(parcelq, name) for name in parcelq.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", parcelq.__version__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        parcelq.nothing  # noqa: B018
