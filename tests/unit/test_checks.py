"""Values from outside are checked key by key, and everything that is wrong is named at once."""

from __future__ import annotations

from typing import Any

import pytest
from parcelq.checks import Check, Wrong, checked, filled, flag, number, optional, shown, text, texts, whole

CHECKS = {"name": text, "most": whole(1, 10), "loud": flag}


def test_values_that_are_right_are_returned_by_key() -> None:
    assert checked({"most": 3, "loud": True}, CHECKS) == ({"most": 3, "loud": True}, [])


def test_every_problem_is_named_at_once_with_key_value_and_what_it_must_be() -> None:
    values, problems = checked({"most": 11, "loud": "yes", "quiet": True}, CHECKS, required=["name"])
    assert values == {}
    assert problems == [
        "unknown key 'quiet'; there are name, most, loud",
        "name is not set",
        "most is 11, but must be a whole number from 1 to 10",
        "loud is 'yes', but must be true or false",
    ]


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (text, 7),
        (filled, ""),
        (flag, 1),
        (flag, None),
        (whole(0, 5), True),
        (whole(0, 5), 2.0),
        (whole(0, 5), -1),
        (number(0, 600), "long"),
        (number(0, 600), float("nan")),
        (number(0, 600), float("inf")),
        (number(0, 600), False),
        (texts, []),
        (texts, "one"),
        (texts, ["one", 2]),
        (optional(text), 7),
    ],
)
def test_values_of_another_kind_or_out_of_bounds_are_wrong(check: Check, value: Any) -> None:
    with pytest.raises(Wrong):
        check(value)


@pytest.mark.parametrize(
    ("check", "value"),
    [(text, ""), (whole(0, 5), 5), (number(0, 600), 0.5), (texts, [""]), (optional(text), None), (optional(text), "a")],
)
def test_values_within_their_bounds_are_returned(check: Check, value: Any) -> None:
    assert check(value) == value


def test_a_long_value_is_shortened_and_one_that_has_no_text_is_not_shown() -> None:
    assert len(shown("x" * 1000)) == 100
    assert shown(10**5000) == "too large to be shown"
