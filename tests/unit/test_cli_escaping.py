"""Text of others never reaches the terminal as something else than text."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.escaping import escaped, escaped_bytes, escaped_json, one_line
from parcelq_cli.output import Output, escaped_text, fields, to_stderr
from rich.text import Text

HOSTILE = "a\x1b[2Jb\x07c\x9b31md\u202ee\u2028f\rg\x7fh\udcff\x00"
SAFE = r"a\x1b[2Jb\x07c\x9b31md\u202ee\u2028f\rg\x7fh\udcff\x00"


class Terminal(io.TextIOWrapper):
    """What counts as a terminal."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding="utf-8")

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[Terminal, lambda: io.TextIOWrapper(io.BytesIO(), encoding="utf-8")], ids=["terminal", "pipe"])
def install(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Puts streams of one kind into the place of stdout and stderr; pytest has its own there until a test runs."""

    def streams() -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
        monkeypatch.setenv("NO_COLOR", "1")
        out, err = request.param(), request.param()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return out, err

    return streams


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left(text):
    harmless = set("\n\t")
    assert all(one.isprintable() or one in harmless or ord(one) > 0x9F for one in escaped(text))
    assert not set(one_line(text)) & {"\n", "\t", "\r", "\x1b", "\x9b", "\u202e"}
    escaped(text).encode()


def test_an_escaped_character_shows_its_code():
    assert escaped(HOSTILE) == SAFE
    assert escaped("plain\ttext\näöü 漢字 🙂\n") == "plain\ttext\näöü 漢字 🙂\n"
    assert one_line("a\nb\tc") == r"a\nb\tc"
    assert escaped_bytes(b"a\x1b[0m\xff\n") == rb"a\x1b[0m\udcff" + b"\n"


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=[]))))
def test_escaped_json_means_the_same_as_before(document):
    text = escaped_json(json.dumps(document, ensure_ascii=False))
    assert json.loads(text.encode()) == document
    assert not set(text) & set(HOSTILE[1:2] + "\x07\x9b\u202e\u2028\x7f\udcff")


def test_escaping_leaves_styles_where_they_were():
    text = escaped_text(Text.assemble(("a\x1bb", "bold"), "c\x9bd"))
    assert text.plain == r"a\x1bbc\x9bd"
    assert any(span.style == "bold" and span.start == 0 for span in text.spans)
    assert escaped_text(Text("a\nb")).plain == "a\nb"


def test_every_way_to_print_escapes_the_text_of_others(install):
    out, err = install()
    output = Output(verbose=True)
    output.result({}, HOSTILE)
    output.result({}, Text.assemble(("x", "bold"), HOSTILE))
    output.result({}, fields({HOSTILE: HOSTILE + "\n"}))
    Output(json=True).result({"key": HOSTILE}, "")
    output.note(HOSTILE)
    with output.progress("doing " + HOSTILE) as report:
        report(HOSTILE)
    with output.logging():
        text = HOSTILE.replace("\udcff", "")  # pytest keeps what is logged, and passes it on as UTF-8
        logging.getLogger("parcelq").error("step said %s", text, extra={"source": text})
    with pytest.raises(SystemExit):
        _fail(HOSTILE)
    both = written(out) + written(err)
    assert both.count(r"\x1b[2J") + both.count(r"\u001b[2J") >= 9
    for harmful in ("\x1b[2J", "\x07", "\x9b", "\u202e", "\u2028"):
        assert harmful not in both


def _fail(sentence: str) -> None:
    from parcelq_cli import main

    main._fail(sentence, 1)


def test_bodies_are_printed_as_they_are_into_a_pipe_and_escaped_on_a_terminal(install):
    out, _ = install()
    Output().result({}, b"\x1b[2J\xff\n")
    out.flush()
    assert out.buffer.getvalue() == (rb"\x1b[2J\udcff" + b"\n" if out.isatty() else b"\x1b[2J\xff\n")


def test_a_console_on_stderr_interprets_no_markup(install):
    _, err = install()
    to_stderr().print(escaped("[bold]x[/bold] :smile:"))
    assert "[bold]x[/bold] :smile:" in written(err)
