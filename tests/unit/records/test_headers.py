"""Headers of sources and of outputs."""

from __future__ import annotations

from io import BytesIO

import pytest
from parcelq.errors import RecordError
from parcelq.records import MAX_HEADER_BYTES, after_header, parse, split_header, stored_header

from .reference import Dribble


@pytest.mark.parametrize(
    ("text", "data", "header"),
    [
        ("csv", b"a,b\n1,2\n", b"a,b\n"),
        ("csv", b"\xef\xbb\xbfid;text\r\n0;\r\n", b"\xef\xbb\xbfid;text\r\n"),
        ("csv", b'"a\n""b",c\n1,2\n', b'"a\n""b",c\n'),
        ("csv", b"a,b,c\n", b"a,b,c\n"),
        ("csv", b"a,b,c", b"a,b,c"),
        ("csv", b"", b""),
        ("csv header=0", b"1,2\n", b""),
        ("csv header=2", b'a\n"b\n"\nc\n', b'a\n"b\n"\n'),
        ("lines", b"a\n", b""),
        ("lines header=2", b"a\nb\nc\n", b"a\nb\n"),
        ("lines header=2", b"a", b"a"),
        ('starts=">" header=1', b"# made\n>a\n", b"# made\n"),
    ],
)
@pytest.mark.parametrize("most", [1, 2, 100])
def test_the_header_of_a_source_is_taken_off(text, data, header, most):
    found, rest = split_header(Dribble(data, most), parse(text))
    left = b""
    while block := rest.read(3):
        left += block
    assert (found, found + left) == (header, data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'a,"b\n1,2\n', "a quote that is not closed"),
        (b'a,5" b\n1,6" x\n', "in the middle of a field"),
        (b"a,b\r1,2\r", r'lone "\\r"'),
        (b"a" * (MAX_HEADER_BYTES + 1) + b"\n", "is longer than"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(data, why):
    with pytest.raises(RecordError, match=rf"csv: the header \(line 1; byte 0\) .*{why}"):
        split_header(BytesIO(data), parse("csv"))


def test_the_header_of_an_output_is_found_where_it_is_exactly_that_of_the_stage():
    fmt = parse("csv")
    header = stored_header(b"a,b\n1,2\n", fmt)
    assert header == b"a,b\n" == stored_header(b"a,b", fmt)
    assert after_header(b"a,b\n3,4\n", fmt, header) == 4
    assert after_header(b"a,b\n", fmt, header) == 4
    assert after_header(b"a,b", fmt, header) == 3
    assert after_header(b"", fmt, header) == 0
    assert after_header(b'"a\nb"\n1\n', fmt, stored_header(b'"a\nb"\n', fmt)) == 6


@pytest.mark.parametrize("output", [b"1,2\n", b"a,c\n1,2\n", b"a,b\r\n1,2\n", b"a,bb\n", b"a", b"\n", b'a,b"\n"\n'])
def test_an_output_with_another_header_or_none_loses_nothing_but_is_refused(output):
    with pytest.raises(RecordError, match="writes no header, or a different one; set output_header: false"):
        after_header(output, parse("csv"), b"a,b\n")
