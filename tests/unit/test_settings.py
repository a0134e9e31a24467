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


def test_every_setting_that_the_page_documents_is_read(read, tmp_path):
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


def test_a_warm_step_cannot_be_a_filter(read, problems):
    assert read("warm: true").warm
    assert problems("filter: true\nwarm: true\n") == (
        "filter and warm cannot both be true; a warm step is a function, which does not read stdin",
    )
    assert problems("warm: 1") == ("warm is 1, but must be true or false",)


@pytest.mark.parametrize(
    ("own", "given", "limit"),
    [(None, None, None), (3.0, None, 3.0), (None, 2.0, 2.0), (3.0, 2.0, 2.0), (1.0, 2.0, 1.0)],
)
def test_a_run_may_take_the_shorter_of_its_own_limit_and_the_time_that_is_left(own, given, limit):
    assert StepSettings(timeout=own).within(given) == limit


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "---\n"])
def test_an_empty_settings_file_gives_the_defaults(read, tmp_path, text):
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


def test_the_own_settings_of_a_step_are_not_checked(read):
    assert read("step: whatever").step == "whatever"
    assert read("step: [1, {a: null}]").step == [1, {"a": None}]


def test_one_error_names_every_wrong_key_and_value(problems):
    found = problems("filter: 1\ntimeout: -1\nname: x\narguments: a\n3: y\nenvironment: []\naws_credentials: 'yes'\n")
    keys = (
        "filter, warm, rejects, arguments, timeout, environment, aws_credentials, output, output_header, "
        "max_output_bytes, step"
    )
    assert sorted(found) == sorted(
        [
            f"unknown key 'name'; there are {keys}",
            f"unknown key 3; there are {keys}",
            "filter is 1, but must be true or false",
            "arguments is 'a', but must be a list of texts and numbers",
            "timeout is -1, but must be a number of seconds above 0",
            "environment is [], but must be a mapping of names to texts or numbers, without NUL",
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
def test_a_value_that_is_nested_too_deeply_is_named(problems, text, start):
    (problem,) = problems(text)
    assert problem.startswith(start)
    assert problem.endswith(", but must be at most 100 lists and keys deep")
    assert len(problem) < 250


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "7"])
def test_a_settings_file_of_something_else_than_keys_with_values_is_refused(problems, text):
    (problem,) = problems(text)
    assert problem.startswith("it must be a mapping of keys to values, not ")


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
def test_a_file_that_is_no_yaml_is_an_error_of_one_line(problems, text):
    (problem,) = problems(text)
    assert problem.startswith("it is not YAML: ")
    assert "\n" not in problem


def test_a_settings_file_that_cannot_be_read_is_named(problems, tmp_path):
    assert problems(b"\xff\xfe\xff")[0].startswith("it cannot be read: ")
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SettingsError, match="it cannot be read"):
            read_settings(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timeout: 1\ntimeout: 2\n", "timeout is given twice, in lines 1 and 2"),
        ("step: {a: 1, a: 1}\n", "step.a is given twice, in lines 1 and 1"),
        ("step:\n  - b:\n      c: 1\n      'c': 2\n", "step[0].b.c is given twice, in lines 3 and 4"),
        ("environment:\n  A: x\n  B: y\n  A: z\n", "environment.A is given twice, in lines 2 and 4"),
    ],
)
def test_a_key_that_is_given_twice_is_named_with_its_lines(problems, text, expected):
    assert problems(text) == (expected,)


@pytest.mark.parametrize("place", ["environment: {{A: {0}}}", "arguments: [{0}]", "step: {{a: [{0}]}}", "step: {0}"])
@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("no", "the value False"),
        ("Yes", "the value True"),
        ("off", "the value False"),
        ("010", "the number 8"),
        ("12:30", "the number 750"),
        ("1:20.5", "the number 80.5"),
        ("1.10", "the number 1.1"),
        ("1.0_0", "the number 1.0"),
        ("1_000", "the number 1000"),
        ("0b1_1", "the number 3"),
        ("2024-01-31", "the timestamp"),
    ],
)
def test_a_value_that_yaml_changes_is_named_with_what_it_makes_of_it(problems, place, value, made):
    (problem,) = problems(place.format(value))
    assert f" is {value}, which YAML reads as {made}" in problem
    assert problem.endswith("; put it in quotes for the text")


@pytest.mark.parametrize("value", ["no", "010", "12:30", "1.10", "2024-01-31"])
def test_a_value_in_quotes_is_its_text(read, value):
    settings = read(f"environment: {{A: '{value}'}}\narguments: [\"{value}\"]\nstep: {{a: '{value}'}}\n")
    assert (settings.environment["A"], settings.arguments, settings.step) == (value, (value,), {"a": value})


@pytest.mark.parametrize("value", ["0x1F", "1.0e+3", "+3", ".5", "True", "~"])
def test_a_clear_number_or_flag_is_one_in_the_own_settings_of_a_step(read, problems, value):
    read(f"step: {{a: {value}}}")
    (problem,) = problems(f"environment: {{A: {value}}}")
    assert problem.startswith("environment")


@pytest.mark.parametrize("key", ["no", "010", "2024-01-31"])
def test_a_key_that_yaml_changes_is_named_too(problems, key):
    assert f"the key step.{key} is {key}, which YAML reads as" in problems(f"step: {{{key}: 1}}")[0]


def bomb(levels: int, width: int) -> str:
    lines = ["step:", "  a0: &a0 [x, x]"]
    lines += [f"  a{one}: &a{one} [{', '.join([f'*a{one - 1}'] * width)}]" for one in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(9, 9),
        bomb(90, 2),
        "step:\n  a0: &a0 {k0: 1}\n"
        + "\n".join(f"  a{one}: &a{one} {{<<: [*a{one - 1}, *a{one - 1}], k{one}: 1}}" for one in range(1, 30)),
        "step: &a [*a]",
        "step: &a {b: {c: *a}}",
        "step: &a\n  ? *a\n  : 1\n",
    ],
)
def test_aliases_that_stand_for_too_much_or_for_themselves_are_refused_at_once(problems, text):
    (problem,) = problems(text)
    assert "aliases are expanded" in problem or "a value that contains it" in problem or "no YAML" in problem
    assert len(problem) < 250


def test_a_settings_file_may_have_a_few_aliases(read):
    text = "step:\n  base: &base {a: 1}\n  one: *base\n  two: {<<: *base, b: 2}\n"
    assert read(text).step == {"base": {"a": 1}, "one": {"a": 1}, "two": {"a": 1, "b": 2}}


def test_a_settings_file_of_megabytes_is_refused(problems):
    assert problems("step: " + "x" * 2_000_000) == ("it has more than 1048576 bytes",)


@pytest.mark.parametrize("value", ["0", "-1", "true", "1.5", "'1'", "[]"])
def test_the_largest_output_is_a_number_of_bytes(read, problems, value):
    assert read("max_output_bytes: 5").max_output_bytes == 5
    assert problems(f"max_output_bytes: {value}")[0].endswith("but must be a whole number of bytes above 0")
