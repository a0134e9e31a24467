"""A step's settings file."""

from __future__ import annotations

from pathlib import Path

import pytest
from parcelq.errors import SettingsError
from parcelq.steps.settings import StepSettings, read_settings


@pytest.fixture
def read(tmp_path):
    def from_text(text: str | bytes) -> StepSettings:
        path = tmp_path / "settings.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_settings(path)

    return from_text


@pytest.fixture
def problems(read):
    def of_text(text: str | bytes) -> tuple[str, ...]:
        with pytest.raises(SettingsError, match=r"settings\.yaml") as caught:
            read(text)
        return caught.value.problems

    return of_text


def test_everything_that_is_documented_is_read(read, tmp_path):
    settings = read(
        """
        filter: true
        arguments: [a-z, A-Z]
        timeout: 300
        environment: {LEVEL: "3"}
        aws_credentials: true
        step: {own: [1, 2]}
        """
    )
    assert settings == StepSettings(
        filter=True,
        arguments=("a-z", "A-Z"),
        timeout=300.0,
        environment={"LEVEL": "3"},
        aws_credentials=True,
        step={"own": [1, 2]},
        path=tmp_path / "settings.yaml",
    )


def test_what_is_warm_is_no_filter(read, problems):
    assert read("warm: true").warm
    assert problems("filter: true\nwarm: true\n") == (
        "filter and warm cannot both be true; what is warm gets its entries as a function",
    )
    assert problems("warm: 1") == ("warm is 1, but must be true or false",)


@pytest.mark.parametrize(
    ("own", "given", "limit"),
    [(None, None, None), (3.0, None, 3.0), (None, 2.0, 2.0), (3.0, 2.0, 2.0), (1.0, 2.0, 1.0)],
)
def test_a_run_may_take_the_shorter_of_its_own_time_and_what_there_is(own, given, limit):
    assert StepSettings(timeout=own).within(given) == limit


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "---\n"])
def test_an_empty_file_means_the_defaults(read, tmp_path, text):
    assert read(text) == StepSettings(path=tmp_path / "settings.yaml")


def test_the_path_is_absolute_since_a_step_runs_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text("timeout: 1")
    monkeypatch.chdir(tmp_path)
    assert read_settings(Path("s.yaml")).path == tmp_path / "s.yaml"


def test_numbers_and_booleans_become_the_text_that_was_written(read):
    settings = read("arguments: [3, 2.5, true]\nenvironment: {A: 3, B: 2.5, C: false, D: ''}")
    assert settings.arguments == ("3", "2.5", "true")
    assert settings.environment == {"A": "3", "B": "2.5", "C": "false", "D": ""}


@pytest.mark.parametrize("text", ["timeout: 0.5", "timeout: 1.0e+3", "timeout: 43200"])
def test_a_timeout_is_any_number_above_zero(read, text):
    assert isinstance(read(text).timeout, float)


def test_what_is_a_steps_own_is_not_looked_into(read):
    assert read("step: whatever").step == "whatever"
    assert read("step: [1, {a: null}]").step == [1, {"a": None}]


def test_one_error_names_every_wrong_key_and_value(problems):
    found = problems("filter: 1\ntimeout: -1\nname: x\narguments: a\n3: y\nenvironment: []\naws_credentials: 'yes'\n")
    keys = "filter, warm, rejects, arguments, timeout, environment, aws_credentials, max_output_bytes, step"
    assert sorted(found) == sorted(
        [
            f"unknown key 'name'; there are {keys}",
            f"unknown key 3; there are {keys}",
            "filter is 1, but must be true or false",
            "arguments is 'a', but must be a list of texts and numbers",
            "timeout is -1, but must be a number of seconds above 0",
            "environment is [], but must be names with texts or numbers as values, without NUL",
            "aws_credentials is 'yes', but must be true or false",
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        "filter:",
        "filter: 'true'",
        "aws_credentials: 0",
        "arguments: {a: 1}",
        "arguments: [[a]]",
        "arguments: [null]",
        "arguments:",
        'arguments: ["a\\0b"]',
        "timeout: 0",
        "timeout: .inf",
        "timeout: .nan",
        "timeout: true",
        "timeout: '5'",
        "timeout:",
        "timeout: 43201",
        "timeout: 1.0e+300",
        f"timeout: 1{'0' * 399}",
        f"timeout: 0x{'f' * 5000}",
        "timeout: [" + "[" * 60 + "]" * 61,
        'arguments: [fine, "\\ud800"]',
        f"arguments: [0x{'f' * 5000}]",
        'environment: {A: "\\udc80"}',
        'environment: {"\\udfff": a}',
        f"environment: {{A: 0x{'f' * 5000}}}",
        "environment: {A: null}",
        "environment: {A: [1]}",
        "environment: {1: a}",
        "environment: {'': a}",
        "environment: {'A=B': a}",
        'environment: {A: "x\\0"}',
        'environment: {"A\\0": x}',
        "environment: text",
        "environment:",
    ],
)
def test_a_value_of_the_wrong_kind_is_named(problems, text):
    (problem,) = problems(text)
    assert problem.startswith(f"{text.partition(':')[0]} is ")
    assert ", but must be " in problem
    assert len(problem) < 250
    problem.encode()


def test_a_long_name_of_a_key_is_shortened(problems):
    (problem,) = problems("x" * 1000 + ": 1")
    assert len(problem) < 250


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("filter: true\nstep: " + "[" * 5000 + "]" * 5000, "step is '[[[["),
        ("step: " + "[" * 100_000, "step is '[[[["),
        ("filter: true\narguments:\n  " + "- " * 5000 + "a", "arguments is '- - - "),
        ("environment: " + "{a: " * 3000, "environment is '{a: {a: "),
        ("[" * 5000, "it is '[[[["),
        ("{" * 5000, "it is '{{{{"),
    ],
)
def test_what_is_nested_too_deeply_is_named(problems, text, start):
    (problem,) = problems(text)
    assert problem.startswith(start)
    assert problem.endswith(", but must be at most 100 lists and keys deep")
    assert len(problem) < 250


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "7"])
def test_something_else_than_keys_with_values_is_refused(problems, text):
    (problem,) = problems(text)
    assert problem.startswith("it must be keys with values, not ")


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "\tfilter: true",
        "step: !!python/object:os.system {}",
        "step: 2024-13-45",
        "step: \x01",
        "a: *b",
    ],
)
def test_what_is_no_yaml_is_said_in_one_line(problems, text):
    (problem,) = problems(text)
    assert problem.startswith("it is no YAML: ")
    assert "\n" not in problem


def test_what_cannot_be_read_is_said(problems, tmp_path):
    assert problems(b"\xff\xfe\xff")[0].startswith("it cannot be read: ")
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SettingsError, match="it cannot be read"):
            read_settings(path)
