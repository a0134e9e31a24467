"""The uploader's handler: what it publishes for an event of S3, and what it refuses."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from function_world import ALIKE, BUCKET, MOLECULES, Stack, event, result_of, spans
from parcelq.errors import InvalidValueError, SettingsError, TopicNotFoundError
from parcelq.lineage.source import Source
from parcelq.store.bucket import BucketStore
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.upload.notes import noted_sources
from parcelq_emulator.pipeline import noted_problems

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


class TestUploader:
    def test_the_uploader_publishes_messages_that_together_are_the_object(self, stack: Stack) -> None:
        given = stack.put(MOLECULES)
        assert stack.call("uploader", given) is None
        messages = stack.take("parcelq-step")
        middle = MOLECULES.index(b"CC(=O)")
        assert spans(messages) == [(0, middle), (middle, len(MOLECULES))]
        assert result_of(messages) == MOLECULES
        assert {one.attributes[ENTRIES] for one in messages} == {"2"}
        entity = given["Records"][0]["s3"]["object"]
        source = Source.of_object(BUCKET, entity["key"], etag=entity["eTag"], put=entity["sequencer"])
        assert {one.attributes[SOURCE] for one in messages} == {str(source)}

    def test_the_uploader_takes_every_record_of_an_event(self, stack: Stack) -> None:
        one, other = stack.put(MOLECULES), stack.put(b"C methane\n", key="inbox/other.smi")
        stack.call("uploader", {"Records": one["Records"] + other["Records"]})
        assert len({pulled.attributes[SOURCE] for pulled in stack.take("parcelq-step")}) == 2

    def test_a_second_delivery_of_an_event_makes_the_same_lineages_and_a_second_put_another_source(
        self, stack: Stack
    ) -> None:
        given = stack.put(MOLECULES)
        again = deepcopy(given)
        again["Records"][0]["s3"]["object"]["sequencer"] = "0055AED6DCD90281FF"
        told = []
        for one in (given, given, again):
            stack.call("uploader", one)
            messages = stack.take("parcelq-step")
            told.append({(pulled.attributes[SOURCE], pulled.attributes[LINEAGE]) for pulled in messages})
        assert told[0] == told[1]
        assert not told[0] & told[2]

    @pytest.mark.parametrize("name", ["s3_test", "s3_delete", "s3_put_folder"])
    def test_an_event_that_is_no_put_of_a_file_publishes_nothing(self, stack: Stack, name: str) -> None:
        assert stack.call("uploader", event(name)) is None
        assert stack.messages() == 0
        assert stack.keys() == []

    @pytest.mark.parametrize("given", [{}, {"Records": []}, {"Records": None}, {"Records": [{"eventSource": "aws:x"}]}])
    def test_an_event_without_records_publishes_nothing(self, stack: Stack, given: dict[str, Any]) -> None:
        assert stack.call("uploader", given) is None
        assert stack.messages() == 0

    @pytest.mark.parametrize("records", [[5], ["x"], [None], {"eventSource": "aws:s3"}, 7, "x"])
    def test_the_uploader_names_the_invalid_records_of_an_event(self, stack: Stack, records: Any) -> None:
        with pytest.raises(InvalidValueError, match=r"^Records is .*, but must be a list of JSON objects"):
            stack.call("uploader", {"Records": records})

    @pytest.mark.parametrize(
        ("without", "missing"),
        [
            ("sequencer", "s3.object.sequencer or versionId"),
            ("eTag", "s3.object.eTag or versionId"),
            ("key", "s3.object.key"),
            ("size", ""),
        ],
    )
    def test_a_record_that_does_not_name_a_put_is_named_with_what_it_lacks(
        self, stack: Stack, without: str, missing: str
    ) -> None:
        given = stack.put(MOLECULES)
        entity = given["Records"][0]["s3"]["object"]
        del entity[without]
        if not missing:
            assert stack.call("uploader", given) is None
            return
        with pytest.raises(InvalidValueError, match=f"record is .*{BUCKET}.*, but must be .* as {missing}"):
            stack.call("uploader", given)
        entity[without] = 7
        with pytest.raises(InvalidValueError, match=missing):
            stack.call("uploader", given)
        assert stack.messages() == 0

    @pytest.mark.parametrize("told", [None, 5, [], {}, {"bucket": 5, "object": []}, {"bucket": {"name": BUCKET}}])
    def test_a_record_without_an_object_is_named_with_what_it_lacks(self, stack: Stack, told: Any) -> None:
        given = stack.put(MOLECULES)
        given["Records"][0]["s3"] = told
        with pytest.raises(InvalidValueError, match=r"as s3\.object\.key, as s3\.object\.sequencer or versionId"):
            stack.call("uploader", given)

    def test_the_uploader_names_a_size_that_is_invalid(self, stack: Stack) -> None:
        given = stack.put(MOLECULES)
        given["Records"][0]["s3"]["object"]["size"] = "large"
        with pytest.raises(InvalidValueError, match=r"a number as s3\.object\.size"):
            stack.call("uploader", given)

    def test_a_version_names_a_put_where_there_is_no_sequencer(self, stack: Stack) -> None:
        stack.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        given = stack.put(MOLECULES)
        version = stack.s3.head_object(Bucket=BUCKET, Key="inbox/molecules.smi")["VersionId"]
        entity = given["Records"][0]["s3"]["object"]
        del entity["sequencer"], entity["eTag"]
        entity["versionId"] = version
        stack.call("uploader", given)
        messages = stack.take("parcelq-step")
        assert result_of(messages) == MOLECULES
        assert {Source.parse(one.attributes[SOURCE]).put for one in messages} == {version}

    def test_a_deleted_object_publishes_nothing_and_its_job_is_stopped(
        self, stack: Stack, told: list[dict[str, Any]], at_once: None
    ) -> None:
        given = stack.put(MOLECULES)
        stack.s3.delete_object(Bucket=BUCKET, Key="inbox/molecules.smi")
        assert stack.call("uploader", given) is None
        assert stack.take("parcelq-step") == []
        stack.run("downloader", "parcelq-looks")
        (job,) = (one["job"] for one in told)
        assert (job["state"], job["problem"]) == ("stopped", "it was deleted or replaced after it was put")

    def test_a_replaced_object_is_left_to_the_event_of_its_later_put(self, stack: Stack) -> None:
        given = stack.put(MOLECULES)
        stack.put(b"C methane\n")
        assert stack.call("uploader", given) is None
        assert stack.messages() == 0

    def test_in_a_bucket_with_versions_the_version_that_was_put_is_read(self, stack: Stack) -> None:
        stack.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        given = stack.put(MOLECULES)
        version = stack.s3.head_object(Bucket=BUCKET, Key="inbox/molecules.smi")["VersionId"]
        given["Records"][0]["s3"]["object"]["versionId"] = version
        stack.put(b"C methane\n")
        stack.call("uploader", given)
        assert result_of(stack.take("parcelq-step")) == MOLECULES

    def test_an_empty_object_is_one_message_without_bytes(self, stack: Stack) -> None:
        stack.call("uploader", stack.put(b"", "s3_put_empty"))
        (message,) = stack.take("parcelq-step")
        assert message.attributes[LINEAGE] == "0-0/0"
        assert message.attributes[ENTRIES] == "0"
        assert message.message().body == b""

    def test_a_key_is_decoded_and_names_the_source(self, stack: Stack) -> None:
        stack.call("uploader", stack.put(MOLECULES, "s3_put_odd_key"))
        messages = stack.take("parcelq-step")
        assert result_of(messages) == MOLECULES
        assert {Source.parse(one.attributes[SOURCE]).key for one in messages} == {"inbox/a b+c 100% äöü.txt"}

    def test_a_folder_below_the_inbox_names_the_topic(self, stack: Stack) -> None:
        stack.make_topic("parcelq-extra")
        stack.call("uploader", stack.put(MOLECULES, "s3_put_to_topic"))
        assert result_of(stack.take("parcelq-extra")) == MOLECULES
        assert stack.messages() == 0

    @pytest.mark.parametrize(
        "folder", ["other-topic", "parcelq", "parcelq-ranges", "parcelq-ranges-dead-letter", "parcelq-looks", *ALIKE]
    )
    def test_a_folder_that_names_no_topic_of_the_stack_is_refused(self, stack: Stack, folder: str) -> None:
        given = stack.put(MOLECULES, key=f"inbox/{folder}/molecules.smi")
        if folder.startswith("parcelq-"):
            with pytest.raises(InvalidValueError, match="inbox/<name>"):
                stack.call("uploader", given)
        else:  # it may be meant for a workflow
            stack.call("uploader", given)
            assert "workflow" in next(iter(noted_problems(BucketStore(stack.s3, BUCKET)).values()))
        assert stack.messages() == 0

    @pytest.mark.parametrize(
        ("bucket", "key"),
        [
            ("other-bucket", "inbox/molecules.smi"),
            (BUCKET, "results/molecules.smi"),
            (BUCKET, "segments/molecules.smi"),
            (BUCKET, "inbox-of-others/molecules.smi"),
            (BUCKET, "Inbox/molecules.smi"),
            (BUCKET, "/inbox/molecules.smi"),
            (BUCKET, "molecules.smi"),
        ],
    )
    def test_only_objects_of_the_stacks_inbox_are_published_for_any_event(
        self, stack: Stack, bucket: str, key: str
    ) -> None:
        if bucket != BUCKET:
            stack.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        given = stack.put(MOLECULES)
        stack.s3.put_object(Bucket=bucket, Key=key, Body=MOLECULES)
        given["Records"][0]["s3"]["bucket"]["name"] = bucket
        given["Records"][0]["s3"]["object"]["key"] = key
        with pytest.raises(InvalidValueError, match=f"an object under s3://{BUCKET}/inbox/"):
            stack.call("uploader", given)
        assert stack.messages() == 0

    @pytest.mark.parametrize(
        "changed",
        [
            {"topic": "other"},
            {"topic": "https://sqs.eu-central-1.amazonaws.com/123456789012/other"},
            {"source": "s3://other-bucket/inbox/molecules.smi?put=01"},
            {"source": f"s3://{BUCKET}/results/molecules.smi?put=01"},
            {"source": f"s3://{BUCKET}/inbox%2f..%2fresults/molecules.smi?put=01", "topic": "other"},
            {"source": "file:///etc/passwd?put=01"},
        ],
    )
    def test_a_range_that_somebody_else_made_up_leads_nowhere(self, stack: Stack, changed: dict[str, Any]) -> None:
        stack.make_topic("other")
        stack.call("uploader", stack.put(MOLECULES * 30))
        given = stack.deliver("parcelq-ranges")
        assert given["Records"]
        for record in given["Records"]:
            record["body"] = json.dumps(json.loads(record["body"]) | changed)
        assert stack.call("uploader", given) == {"batchItemFailures": []}
        assert len(stack.take("parcelq-ranges-dead-letter")) == len(given["Records"])
        assert stack.take("parcelq-step") == stack.take("other") == []

    def test_a_topic_that_is_not_there_is_an_error_so_that_lambda_tries_again(self, stack: Stack) -> None:
        with pytest.raises(TopicNotFoundError):
            stack.call("uploader", stack.put(MOLECULES, "s3_put_to_topic"))

    def test_bytes_that_are_no_text_arrive_as_they_are(self, stack: Stack) -> None:
        data = b"\x00\xff\r\n\n\xc3\x28\n" + bytes(range(256))
        stack.call("uploader", stack.put(data))
        assert result_of(stack.take("parcelq-step")) == data

    @pytest.mark.parametrize(("key", "options"), [("inbox/m.smi.gz", {}), ("inbox/m.smi", {"ContentEncoding": "gzip"})])
    def test_the_uploader_publishes_a_compressed_object_decompressed(
        self, stack: Stack, key: str, options: dict[str, str]
    ) -> None:
        stack.call("uploader", stack.put(gzip.compress(MOLECULES), key=key, **options))
        messages = stack.take("parcelq-step")
        assert len(messages) == 2
        assert result_of(messages) == MOLECULES

    @pytest.mark.parametrize(
        ("key", "data", "reason"),
        [
            ("inbox/m.smi.gz", b"no gzip at all", "is not gzip"),
            ("inbox/m.smi.gz", gzip.compress(MOLECULES, mtime=0)[:-12], "ends too early"),
            ("inbox/m.smi.bz2", bz2.compress(MOLECULES)[:-12], "ends too early"),
            (
                "inbox/m.csv",
                b'id,name\n1,"never closed\n2,b\n',
                "record 1 (line 2; byte 8) has a quote that is not closed",
            ),
            ("inbox/m.sdf", b"no end line\n", "has no end line"),
        ],
    )
    def test_a_source_that_can_never_be_uploaded_ends_with_its_reason(
        self, stack: Stack, key: str, data: bytes, reason: str
    ) -> None:
        other = stack.put(MOLECULES)
        given = stack.put(data, key=key)
        assert stack.call("uploader", {"Records": [*given["Records"], *other["Records"]]}) is None
        noted = noted_sources(BucketStore(stack.s3, BUCKET))
        (problem,) = [note.problem for notes in noted.values() for note in notes if note.problem]
        assert reason in problem
        finished = [one for one in stack.take("parcelq-step") if "molecules" in one.attributes[SOURCE]]
        assert result_of(finished) == MOLECULES

    def test_an_object_in_an_archive_is_refused_with_the_reason(self, stack: Stack) -> None:
        assert stack.call("uploader", stack.put(MOLECULES, StorageClass="GLACIER")) is None
        (problem,) = noted_problems(BucketStore(stack.s3, BUCKET)).values()
        assert "InvalidObjectState" in problem
        assert problem.endswith("; put it in a storage class and with a key that the stack can read")
        assert stack.take("parcelq-step") == []

    def test_a_key_with_an_empty_folder_goes_to_the_first_stage(self, stack: Stack) -> None:
        stack.call("uploader", stack.put(MOLECULES, key="inbox//molecules.smi"))
        messages = stack.take("parcelq-step")
        assert result_of(messages) == MOLECULES
        assert Source.parse(messages[0].attributes[SOURCE]).names(BUCKET).result == "results//molecules.smi"

    def test_the_uploader_names_a_setting_that_is_wrong(self, stack: Stack, settings: Callable[..., None]) -> None:
        given = stack.put(MOLECULES)
        settings(RANGE_BYTES="many", PARCEL_SIZE=0)
        with pytest.raises(SettingsError, match=r"(?s)(?=.*PARCELQ_RANGE_BYTES)(?=.*PARCELQ_PARCEL_SIZE)"):
            stack.call("uploader", given)
