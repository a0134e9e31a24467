"""Reasons: the exception first, and of a bounded size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.aws.text import legal_text
from parcelq.errors import ParcelqError
from parcelq.process.dead import reason_of
from parcelq.steps.reason import escaped, reason_first, shortened

FRAMES = '  File "s.py", line 1, in f\n    raise ValueError(1)\n'
HEAD = "Traceback (most recent call last):\n"


def test_the_exception_comes_before_its_traceback_and_what_was_printed_before():
    text = f"noise\n{HEAD}{FRAMES}ValueError: bad SMILES\nwith a second line\n"
    assert reason_first(text) == f"ValueError: bad SMILES\nwith a second line\n{HEAD}{FRAMES}noise\n"


def test_of_several_tracebacks_the_last_exception_comes_first():
    text = f"{HEAD}{FRAMES}KeyError: 1\n\nDuring handling of the above exception:\n\n{HEAD}{FRAMES}ValueError: 2\n"
    assert reason_first(text).startswith("ValueError: 2\n")


def test_the_end_of_a_traceback_is_recognised_as_one():
    assert reason_first(f"cut off\n{FRAMES}ValueError: 2").startswith("ValueError: 2\n")


@pytest.mark.parametrize("text", ["", "plain\n", "cannot open file\nline 3\n", HEAD, HEAD + FRAMES])
def test_a_text_without_an_exception_stays_as_it_is(text):
    assert reason_first(text) == text


@given(st.text(), st.integers(8, 60))
def test_a_shortened_text_is_within_its_bound_and_keeps_a_first_line_that_fits(text, most):
    short = shortened(text, most)
    data = text.encode("utf-8", "replace")
    assert len(short.encode()) <= most
    first = data.decode().partition("\n")[0]
    if len(first.encode()) <= most - len(" … ".encode()):
        assert short.startswith(first)
    if len(data) <= most:
        assert short == data.decode()


@given(st.text(st.characters()))
def test_only_characters_that_sqs_does_not_take_are_escaped(text):
    assert legal_text(escaped(text).encode()) is not None
    legal = "".join(one for one in text if legal_text(one.encode("utf-8", "surrogatepass")) is not None)
    for one in legal:
        assert one in escaped(text)


def test_a_nul_in_a_text_is_escaped_and_nothing_else_is():
    assert reason_of(ParcelqError("größe \0 größe")) == r"größe \x00 größe"


def test_a_long_reason_keeps_its_first_line_and_its_end():
    first = "ValueError: " + "x" * 900
    reason = reason_of(ParcelqError(f"{first}\n" + "frame\n" * 1000 + "the end"))
    assert reason.startswith(first)
    assert reason.endswith("the end")
    assert len(reason.encode()) <= 1024
