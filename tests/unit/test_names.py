"""Names of topics, and what the attribute `Source` says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.errors import InvalidValueError
from parcelq.lineage.source import Source
from parcelq.names import check_topic, dead_letter, is_url, topic_of_arn, topic_of_url, topic_within

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@pytest.mark.parametrize("name", ["a", "A-z_9", "x" * 68, dead_letter("x" * 68)])
def test_names_that_sqs_takes_are_accepted(name):
    assert check_topic(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a.fifo", "ä", "a\n", "a/b", "x" * 69, dead_letter("x" * 69), "x" * 80])
def test_names_that_sqs_refuses_or_that_leave_no_room_for_a_dead_letter_topic_are_refused(name):
    with pytest.raises(InvalidValueError, match="letters, digits, hyphens"):
        check_topic(name)


def test_names_are_read_from_urls_and_arns():
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/my-topic"
    assert topic_of_url(url) == topic_of_url(url + "/") == "my-topic"
    assert topic_of_arn("arn:aws:sqs:eu-central-1:123456789012:my-topic") == "my-topic"
    assert is_url(url)
    assert is_url("http://localhost:4566/1/t")
    assert not is_url("https-topic")


@given(KEYS, st.text("0123456789ABCDEF", min_size=1), st.text("abc-0?&=% ", max_size=20), st.text("v+ %&", max_size=5))
def test_the_source_of_any_object_reads_back(key, put, etag, version):
    source = Source.of_object("bucket", key, etag=etag, put=put, version=version)
    text = str(source)
    assert Source.parse(text) == source
    assert (source.bucket, source.key) == ("bucket", key)
    assert text.isascii()
    assert not set(" \n\t") & set(text)


def test_the_source_of_an_object_reads_as_documented():
    source = Source.of_object("bucket", "inbox/a b+ä?.smi", etag="9b2c", put="0055AED6")
    assert str(source) == "s3://bucket/inbox/a%20b%2B%C3%A4%3F.smi?etag=9b2c&put=0055AED6"
    assert source.name == "a b+ä?.smi"


def test_a_version_is_shown_if_there_is_one():
    source = Source.of_object("b", "k", etag="e", put="1", version="v/1")
    assert str(source) == "s3://b/k?etag=e&put=1&version=v%2F1"


@given(KEYS.filter(lambda key: "/" not in key))
def test_the_source_of_any_local_file_reads_back(name):
    source = Source.of_file(f"/data/{name}", "u1")
    assert Source.parse(str(source)) == source
    assert (source.bucket, source.key, source.name) == ("", f"/data/{name}", name)


def test_a_local_file_whose_name_is_no_utf8_has_a_source():
    source = Source.of_file("/data/\udcff.smi", "u1")
    assert str(source) == "file:///data/%FF.smi?put=u1"
    assert Source.parse(str(source)) == source
    assert source.key == "/data/\udcff.smi"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("inbox/a.smi", "a.smi"),
        ("inbox/topic/a.smi", "topic/a.smi"),
        ("other/a", "other/a"),
        ("inbox/a.smi.gz", "a.smi.gz"),
    ],
)
def test_a_source_is_named_after_its_key_below_the_inbox(key, name):
    assert Source.of_object("b", key, etag="e", put="1").name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "s3://b/k",
        "s3://b/k?etag=1",
        "s3://b/k?put=",
        "https://b/k?put=1",
        "s3://[b/k?put=1",
        "s3://b\u2100/k?put=1",
    ],
)
def test_a_text_that_is_no_source_is_refused(text):
    with pytest.raises(InvalidValueError, match="Source"):
        Source.parse(text)


def test_puts_sort_by_sequencer_padded_on_the_right():
    puts = ["0055AED6DCD90281E6", "0055AED6DCD90281E5", "0055aed6dcd90281e55", "1"]
    sources = [Source.of_object("b", "k", etag="e", put=put) for put in puts]
    assert [source.put for source in sorted(sources, key=lambda source: source.order)] == [
        puts[1],
        puts[2],
        puts[0],
        "1",
    ]


@pytest.mark.parametrize("topic", ["p-step", "https://sqs.eu-central-1.amazonaws.com/1/p-step", "p-step-dead-letter"])
def test_a_topic_of_a_stack_may_be_given_by_name_or_url(topic):
    assert topic_within("p", topic) in {"p-step", "p-step-dead-letter"}


@pytest.mark.parametrize(
    "topic",
    ["", "p", "q-step", "pp-step", "P-step", "p_step", "p-step\n", "p-../q", "p-\u0435", "\u0440-step", "p\u2010step"],
)
def test_a_name_that_only_looks_like_a_topic_of_a_stack_is_refused(topic):
    with pytest.raises(InvalidValueError):
        topic_within("p", topic)
