"""Jobs of a stack: halted by limits, a broken step or somebody, and what resuming and redriving make of them."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from function_world import BUCKET, UPPER, Stack
from parcelq.collect import runs
from parcelq.collect.resolution import Collected
from parcelq.collect.segments import SEGMENT_SUFFIX
from parcelq.errors import JobError, NotFoundError, ParcelqError, StoreError
from parcelq.jobs.assembled import from_steps
from parcelq.jobs.record import JobRecord, State
from parcelq.stack.follow import Followed, put_of_job, result_of
from parcelq.stack.jobs import StackJobs
from parcelq.stack.kept import all_jobs
from parcelq.stack.lookup import Stack as DeployedStack
from parcelq.stack.publishing import silently
from parcelq.stack.run import redrive
from parcelq.store.bucket import BucketStore
from parcelq.topics.sqs import SqsTopic
from parcelq_cli.console.pages import job_page
from parcelq_cli.console.remote import StackConsole
from parcelq_cli.console.view import act, selected
from parcelq_cli.output import Output
from parcelq_cli.running import report_of
from parcelq_emulator.pipeline import noted_problems

LINES = b"".join(b"line %d\n" % number for number in range(60))
MENDED = '#!/bin/sh\ntr a-z A-Z < "$2" > "$4"\n'
FAILS = '#!/bin/sh\necho "ValueError: nothing works" >&2\nexit 1\n'
pytest_plugins = ["function_world", "workflow_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


class World:
    """A stack, its jobs, and one turn after another of its functions."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

        def topic(name: str) -> SqsTopic:
            return SqsTopic(stack.sqs, stack.urls[f"parcelq-{name}"])

        store = BucketStore(stack.s3, BUCKET)
        self.jobs = StackJobs(store, lambda: topic("looks"), lambda: topic("ranges"), "parcelq-output", "parcelq-step")

    def upload(self, key: str, data: bytes = LINES) -> JobRecord:
        """Put a file, and let the uploader take its event; return the job."""
        self.stack.call("uploader", self.stack.put(data, key=f"inbox/{key}", sequencer=os.urandom(8).hex()))
        (job,) = [one for one in self.jobs.all() if f"/inbox/{key}?" in one.source]
        return job

    def deliver(self, function: str, name: str) -> int:
        """Let a function take what its topic has now; return how many messages that was."""
        delivered = self.stack.deliver(f"parcelq-{name}")
        if delivered["Records"]:
            answer = self.stack.call(function, delivered)
            self.stack.acknowledge(f"parcelq-{name}", delivered, answer)
        return len(delivered["Records"])

    def look(self) -> None:
        assert self.deliver("downloader", "looks")

    def call_processor(self, delivered: dict[str, Any]) -> None:
        """Let the processor do messages that were delivered before."""
        self.stack.acknowledge("parcelq-step", delivered, self.stack.call("processor", delivered))

    def process(self) -> int:
        return self.deliver("processor", "step")

    def run(self, job: JobRecord, most: int = 40) -> JobRecord:
        """Let all functions work until a job has ended."""
        for _ in range(most):
            for function, name in (("uploader", "ranges"), ("processor", "step"), ("downloader", "looks")):
                self.deliver(function, name)
            if not (record := self.jobs.find(job.id)).is_looked_at:
                return record
        raise AssertionError(self.jobs.find(job.id))

    def waiting(self) -> int:
        """How many messages wait for a run, or are being run."""
        return sum(SqsTopic(self.stack.sqs, self.stack.urls["parcelq-step"]).counts())

    def report(self, key: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.stack.get(f"results/{key}.report.json"))
        return report


@pytest.fixture
def world(stack, settings, at_once, monkeypatch) -> Iterator[World]:
    settings(MAX_FAILURES=1, BACK_OFF_SECONDS=1, QUIET_SECONDS=1)
    monkeypatch.setattr(
        stack.functions.processor, "back_off", lambda topic, failed, _seconds: topic.refresh_deadline(failed, 0)
    )
    monkeypatch.setattr(stack.functions.downloader, "put_event", lambda *_: None)
    monkeypatch.setattr("parcelq.jobs.gate.OPEN_SECONDS", 0.0)
    return World(stack)


def test_a_cancelled_job_runs_nothing_more_reports_its_holes_and_can_be_resumed(world: World, put) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    job = world.upload("shout/lines.txt")
    assert world.process() > 0
    world.look()
    cancelled = world.jobs.cancel(job.id[:8])
    assert (cancelled.state, cancelled.halted) == (State.CANCELLED, True)
    covered = world.jobs.find(job.id).covered
    while world.process():
        pass
    assert world.waiting() == 0
    ended = world.run(job)
    assert (ended.state, ended.covered) == (State.CANCELLED, covered)
    report = world.report("shout/lines.txt")
    assert (report["complete"], report["problem"]) == (False, "it was cancelled")
    assert sum(end - start for start, end in report["holes"]) == len(LINES) - covered
    assert "results/shout/lines.txt" not in world.stack.keys("results/")
    with pytest.raises(JobError, match="it is cancelled already"):
        world.jobs.cancel(job.id)

    assert world.jobs.resume(job.id) > 0
    assert world.run(job).state is State.FINISHED
    assert world.stack.get("results/shout/lines.txt") == LINES.upper()
    assert world.report("shout/lines.txt")["complete"] is True
    assert world.jobs.find(job.id).generation == 1
    with pytest.raises(JobError, match="no part of it is missing"):
        world.jobs.resume(job.id)


@pytest.mark.parametrize("name", ["lines.txt", "rows.csv"])
def test_a_broken_step_stops_its_job_with_the_reason_instead_of_halving_all_of_it(world: World, put, name: str) -> None:
    put("fails", "steps: [{run: step}]", step=FAILS)
    job = world.upload(f"fails/{name}")
    ended = world.run(job)
    assert (ended.state, ended.halted, ended.reported) == (State.STOPPED, True, True)
    assert ended.problem.startswith("the step failed in each of")
    assert "ValueError: nothing works" in ended.problem
    assert world.report(f"fails/{name}")["problem"] == ended.problem
    while world.process():
        pass
    assert world.waiting() == 0


def test_a_step_is_not_broken_if_a_run_of_another_processor_succeeded_before_a_look(
    world: World, put, monkeypatch
) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    job = world.upload("shout/lines.txt", b"bad\n" * 12 + b"good\n" * 48)
    records: list[Any] = []
    while delivered := world.stack.deliver("parcelq-step")["Records"]:
        records += delivered
    good = [one for one in records if "bad" not in one["body"]]
    for at in range(0, len(good), 10):
        world.call_processor({"Records": good[at : at + 10]})
    other = world.stack.load("processor")
    monkeypatch.setattr(other, "back_off", world.stack.functions.processor.back_off)
    world.stack.functions.processor = other
    world.call_processor({"Records": [one for one in records if "bad" in one["body"]]})
    found = world.jobs.find(job.id)
    assert (found.state.is_ended, found.halted, found.covered) == (False, False, 0)
    assert found.suspicion.startswith("the step failed in each of 8 runs")
    ended = world.run(job)
    assert (ended.state, ended.dead, ended.missing) == (State.FINISHED, 12, 0)
    assert world.stack.get("results/shout/lines.txt") == b"GOOD\n" * 48


def test_a_step_that_fails_on_a_header_alone_is_reported_as_on_one_machine(
    world: World, put, tmp_path, capsys, monkeypatch
) -> None:
    events: list[Any] = []
    monkeypatch.setattr(
        world.stack.functions.downloader, "put_event", lambda _, kind, detail, __: events.append(detail)
    )
    put("fails", "steps: [{run: step}]", step=FAILS)
    ended = world.run(world.upload("fails/people.csv", b"name,born\n"))
    put_file = put_of_job(ended)
    result = result_of(Followed(world.jobs, [put_file], {put_file: ended}), put_file, tmp_path)
    with pytest.raises(ParcelqError, match="1 file of 1 without a complete result"):
        report_of(Output(), [result], tmp_path, 1.0, " --stack parcelq")
    shown = capsys.readouterr()
    assert shown.out.endswith("is empty, because the step failed on the header, and there are no records\n")
    assert "ValueError: nothing works" in shown.err
    assert "redrive" not in shown.err
    assert [one["complete"] for one in events] == [False]


def test_a_header_that_failed_is_run_again_by_a_redrive(world: World, put) -> None:
    put("shout", "steps: [{run: step}]", step=FAILS)
    ended = world.run(world.upload("shout/people.csv", b"name,born\n"))
    assert (ended.state, ended.dead, ended.is_whole) == (State.FINISHED, 0, False)
    version = put("shout", "steps: [{run: step}]", step=UPPER).attribute
    world.jobs.redrive(ended.id, version=version)
    assert world.run(ended).is_whole
    assert world.stack.get("results/shout/people.csv") == b"NAME,BORN\n"
    assert world.report("shout/people.csv")["complete"]


@pytest.mark.parametrize("data", [b"name,born\n", b""])
def test_a_job_without_records_does_not_end_before_its_redrive_has_run(world: World, put, data: bytes) -> None:
    put("shout", "steps: [{run: step}]", step=FAILS)
    ended = world.run(world.upload("shout/people.csv", data))
    assert (ended.state, ended.dead, ended.is_whole) == (State.FINISHED, 0, False)
    version = put("shout", "steps: [{run: step}]", step=UPPER).attribute
    world.jobs.redrive(ended.id, version=version)
    for _ in range(3):
        world.deliver("downloader", "looks")
    assert world.jobs.find(ended.id).state is State.RUNNING
    assert world.run(ended).is_whole
    assert world.stack.get("results/shout/people.csv") == data.upper()
    assert world.report("shout/people.csv")["complete"]


def test_bad_data_does_not_make_a_step_broken(world: World, put) -> None:
    put("shout", "steps: [{run: step}]\nbatch_size: 4", step=UPPER)
    data = b"".join(b"bad %d\n" % number if number < 15 else b"good %d\n" % number for number in range(20))
    ended = world.run(world.upload("shout/lines.txt", data))
    assert (ended.state, ended.dead) == (State.FINISHED, 15)
    assert world.stack.get("results/shout/lines.txt") == b"".join(b"GOOD %d\n" % number for number in range(15, 20))


def test_a_limit_stops_a_job_and_resuming_goes_on_without_it(world: World, put) -> None:
    put("shout", "limits: {max_dead: 1}\nbatch_size: 1\nparcel_size: 1\nsteps: [{run: step}]", step=UPPER)
    data = b"bad 0\nline 1\nbad 2\n" + LINES[-160:]
    job = world.upload("shout/lines.txt", data)
    world.process()
    world.look()
    ended = world.jobs.find(job.id)
    assert (ended.state, ended.halted) == (State.STOPPED, True)
    assert ended.problem.startswith("2 records failed, more than 1: a bad one")
    assert world.stack.keys("segments/parcelq-output/")
    assert world.jobs.resume(job.id) > 0
    ended = world.run(job)
    assert (ended.state, ended.dead) == (State.FINISHED, 2)


def test_dead_entries_run_again_with_a_mended_step_in_their_places(world: World, put) -> None:
    first = put("shout", "steps: [{run: step}]", step=UPPER)
    data = LINES.replace(b"line 7\n", b"bad 7\n").replace(b"line 19\n", b"bad 19\n")
    job = world.upload("shout/lines.txt", data)
    assert world.run(job).dead == 2
    dead = list(world.jobs.dead(job.id))
    assert [(one.record, one.entry) for one in dead] == [(8, b"bad 7\n"), (20, b"bad 19\n")]
    second = put("shout", "steps: [{run: step}]", step=MENDED)
    assert world.jobs.redrive(job.id, version=second.attribute, only=lambda one: one.record == 8) == 1
    record = world.jobs.find(job.id)
    assert (record.versions, record.generation) == ((first.attribute, second.attribute), 1)
    assert (record.left_dead, record.redriven_after.endswith(SEGMENT_SUFFIX)) == (1, True)
    for _ in range(3):
        if not world.jobs.find(job.id).state.is_ended:
            world.deliver("uploader", "ranges")
            world.process()
            world.look()
    assert world.jobs.find(job.id).state is State.FINISHED, "the entry that was left out keeps no job waiting"
    assert [one.record for one in world.jobs.dead(job.id)] == [20]
    assert world.jobs.redrive(job.id) == 1
    assert world.run(job).is_whole
    assert world.stack.get("results/shout/lines.txt") == data.upper()
    assert world.report("shout/lines.txt")["workflows"] == sorted([first.attribute, second.attribute])
    with pytest.raises(JobError, match="it has no dead entries"):
        world.jobs.redrive(job.id)


def test_a_job_does_not_end_while_entries_of_an_earlier_redrive_run(world: World, put) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    job = world.upload("shout/lines.txt", b"bad a\ngood\nbad b\ngood\nbad c\n")
    assert world.run(job).dead == 3
    version = put("shout", "steps: [{run: step}]", step=MENDED).attribute
    world.jobs.redrive(job.id, version=version, only=lambda one: one.entry == b"bad a\n")
    world.deliver("uploader", "ranges")
    running = world.stack.deliver("parcelq-step")
    world.jobs.redrive(job.id, version=version, only=lambda one: one.entry == b"bad b\n")
    world.deliver("uploader", "ranges")
    assert world.process() == 1
    for _ in range(3):
        world.deliver("downloader", "looks")
    record = world.jobs.find(job.id)
    assert (record.state, record.dead) == (State.RUNNING, 2)
    world.call_processor(running)
    ended = world.run(job)
    assert (ended.state, ended.dead, ended.generation) == (State.FINISHED, 1, 2)
    assert world.stack.get("results/shout/lines.txt") == b"BAD A\nGOOD\nBAD B\nGOOD\n"


def test_a_job_does_not_end_early_where_entries_that_were_not_chosen_run_again_with_their_message(
    world: World, put
) -> None:
    text = "parcel_size: 4\nsteps: [{run: first}, {run: second}]"
    put("shout", text, first=MENDED.replace("a-z A-Z", "x y"), second=UPPER)
    data = b"bad a\nbad b\none\ntwo\nbad c\nthree\nfour\nfive\n"
    job = world.upload("shout/lines.txt", data)
    assert world.run(job).dead == 3
    version = put("shout", text, first=MENDED.replace("a-z A-Z", "x y"), second=MENDED).attribute
    assert world.jobs.redrive(job.id, version=version, only=lambda one: one.entry != b"bad b\n") == 2
    world.deliver("uploader", "ranges")
    first, second = world.stack.deliver("parcelq-step")["Records"]
    world.call_processor({"Records": [first]})
    for _ in range(3):
        world.deliver("downloader", "looks")
    record = world.jobs.find(job.id)
    assert (record.state, record.dead, record.left_dead) == (State.RUNNING, 1, 0)
    world.call_processor({"Records": [second]})
    assert world.run(job).is_whole
    assert world.stack.get("results/shout/lines.txt") == data.upper()


def redrive_with(job: JobRecord, *steps: Path) -> int:
    """Run the dead entries of a job again with other steps, as `parcelq redrive --step` does."""
    known = DeployedStack("parcelq", BUCKET, "parcelq", ("step",), "parcelq-output", "3.13", "x86_64", 2048)
    changed = from_steps([str(one) for one in steps], [""] * len(steps))
    return redrive(known, job.id, changed, lambda _: None, silently)[1]


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    step = tmp_path / "mended"
    step.write_text(MENDED)
    step.chmod(0o755)
    return step


def test_single_steps_are_refused_for_a_redrive_unless_there_is_one_for_each_step_of_the_job(
    world: World, put, mended: Path
) -> None:
    put("shout", "steps: [{run: first}, {run: second}]", first=UPPER, second=MENDED)
    data = LINES.replace(b"line 7\n", b"bad 7\n")
    job = world.upload("shout/lines.txt", data)
    before = world.run(job)
    assert before.dead == 1
    for steps, given in ([mended], "1 step was given"), ([mended] * 3, "3 steps were given"):
        with pytest.raises(JobError, match=f"it has 2 steps, but {given}; give one for each step of the job"):
            redrive_with(job, *steps)
    assert world.jobs.find(job.id) == before
    assert redrive_with(job, mended, mended) == 1
    ended = world.run(job)
    assert (ended.is_whole, len(ended.versions)) == (True, 2)
    assert world.stack.get("results/shout/lines.txt") == data.upper()


def test_a_job_whose_record_was_lost_cannot_be_redriven_with_other_steps(world: World, put, mended: Path) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    job = world.upload("shout/lines.txt", b"good\nbad\n")
    world.stack.s3.delete_object(Bucket=BUCKET, Key=f"jobs/{job.id}.json")
    while world.process():
        pass
    for _ in range(5):
        world.deliver("downloader", "looks")
    world.stack.call("downloader", {})
    record = world.run(job)
    assert (record.dead, record.versions) == (1, ())
    with pytest.raises(
        JobError, match="it is unknown which version of the workflow 'shout' it ran; put the file again"
    ):
        redrive_with(job, mended)


def not_found(monkeypatch: pytest.MonkeyPatch, place: object, name: str, times: int) -> None:
    """Let a function fail so often, as if another process merged indexes."""
    real, left = getattr(place, name), iter(range(times))

    def flaky(*arguments: Any) -> Any:
        if next(left, None) is not None:
            raise NotFoundError("a.run")
        return real(*arguments)

    monkeypatch.setattr(place, name, flaky)


@pytest.mark.parametrize(("place", "name"), [(runs, "open_indexes"), (Collected, "resolve")], ids=["open", "read"])
def test_a_job_that_is_merged_while_it_is_resumed_publishes_only_what_is_missing(
    world: World, put, monkeypatch, place: object, name: str
) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    job = world.upload("shout/lines.txt")
    assert world.process() > 0
    world.look()
    world.jobs.cancel(job.id)
    covered = world.run(job).covered
    assert 0 < covered < len(LINES)
    with monkeypatch.context() as patch:
        not_found(patch, place, name, 100)
        with pytest.raises(StoreError, match="try again"):
            world.jobs.resume(job.id)
    assert world.jobs.find(job.id).state is State.CANCELLED
    with monkeypatch.context() as patch:
        not_found(patch, place, name, 1)
        assert world.jobs.resume(job.id) > 0
    tasks = [json.loads(one.wire.text) for one in world.stack.take("parcelq-ranges")]
    assert sum(task["end"] - task["start"] for task in tasks) == len(LINES) - covered


@pytest.mark.parametrize(("place", "name"), [(runs, "open_indexes"), (Collected, "choices")], ids=["open", "read"])
def test_a_job_that_is_merged_while_it_is_redriven_has_its_dead_entries(
    world: World, put, monkeypatch, place: object, name: str
) -> None:
    put("shout", "steps: [{run: step}]\nbatch_size: 4", step=UPPER)
    data = b"".join(b"bad %d\n" % number if number < 3 else b"good %d\n" % number for number in range(20))
    job = world.upload("shout/lines.txt", data)
    assert world.run(job).dead == 3
    with monkeypatch.context() as patch:
        not_found(patch, place, name, 1)
        assert StackConsole(world.jobs).drawn(job.id) is not None
    with monkeypatch.context() as patch:
        not_found(patch, place, name, 1)
        assert world.jobs.redrive(job.id) == 3


def test_a_job_whose_file_was_replaced_cannot_be_redriven(world: World, put) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    job = world.upload("shout/lines.txt", b"good\nbad\n")
    assert world.run(job).dead == 1
    world.stack.s3.put_object(Bucket=BUCKET, Key="inbox/shout/lines.txt", Body=b"another\n")
    with pytest.raises(JobError, match="was deleted or replaced after it was put"):
        world.jobs.redrive(job.id)
    assert world.jobs.find(job.id).state is State.FINISHED


def test_a_file_for_a_workflow_that_does_not_exist_is_a_stopped_job(world: World) -> None:
    job = world.upload("nothing/lines.txt")
    assert job.state is State.STOPPED
    assert job.problem.startswith("workflow 'nothing': there is no workflow of that name")
    with pytest.raises(JobError, match="it was never begun; put the file again"):
        world.jobs.resume(job.id)


def test_an_event_that_is_repeated_after_its_workflow_was_deleted_leaves_the_finished_job_alone(
    world: World, put, versions
) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    given = world.stack.put(LINES, key="inbox/shout/lines.txt", sequencer="00aa")
    world.stack.call("uploader", given)
    (job,) = world.jobs.all()
    finished = world.run(job)
    versions.delete("shout")
    world.stack.functions.uploader = world.stack.load("uploader")
    world.stack.call("uploader", given)
    assert noted_problems(world.jobs.store) == {}
    assert world.jobs.find(job.id) == finished


def test_a_job_is_found_by_the_beginning_of_its_id_and_a_text_that_is_no_id_is_named(world: World) -> None:
    job = world.upload("nothing/lines.txt")
    assert world.jobs.find(job.id[:6]).id == job.id
    for text in ("0" * 24, "ffffffff", "not-an-id", "../jobs"):
        with pytest.raises(JobError, match="there is no such job"):
            world.jobs.find(text)


def test_ranges_of_a_cancelled_job_are_not_uploaded_until_it_is_resumed(world: World, put, settings) -> None:
    settings(RANGE_BYTES=100)
    put("shout", "steps: [{run: step}]", step=UPPER)
    job = world.upload("shout/lines.txt")
    world.jobs.cancel(job.id)
    assert world.deliver("uploader", "ranges") > 1
    assert world.waiting() == 0
    assert world.run(job).state is State.CANCELLED
    assert world.report("shout/lines.txt")["holes"] == [[0, len(LINES)]] or world.jobs.find(job.id).total is None
    assert world.jobs.resume(job.id) == 1
    assert world.run(job).state is State.FINISHED
    assert world.stack.get("results/shout/lines.txt") == LINES.upper()


@pytest.mark.parametrize("name", ["lines.txt", "lines.txt.gz"])
def test_tasks_of_a_whole_job_that_are_delivered_again_publish_nothing(world: World, put, settings, name: str) -> None:
    settings(RANGE_BYTES=100)
    put("shout", "steps: [{run: step}]", step=UPPER)
    data = gzip.compress(LINES) if name.endswith("gz") else LINES
    given = world.stack.put(data, key=f"inbox/shout/{name}")
    world.stack.call("uploader", given, milliseconds=(300_000, 1))
    (job,) = world.jobs.all()
    tasks = world.stack.deliver("parcelq-ranges")
    assert tasks["Records"]
    world.stack.acknowledge("parcelq-ranges", tasks, world.stack.call("uploader", tasks))
    assert world.run(job).is_whole
    assert world.stack.call("uploader", tasks) == {"batchItemFailures": []}
    assert world.waiting() == 0


def test_a_compressed_source_that_was_uploaded_after_its_job_was_cancelled_can_be_resumed(world: World, put) -> None:
    put("shout", "steps: [{run: step}]", step=UPPER)
    given = world.stack.put(gzip.compress(LINES), key="inbox/shout/lines.txt.gz", sequencer="00aa")
    world.stack.call("uploader", given, milliseconds=(300_000, 300_000, 1))
    (job,) = world.jobs.all()
    world.jobs.cancel(job.id)
    world.look()
    with pytest.raises(JobError, match="its upload has not ended, so it is unknown what is missing"):
        world.jobs.resume(job.id)
    world.stack.run("uploader", "parcelq-ranges")
    while world.process():
        pass
    assert world.jobs.find(job.id).total is None
    assert world.jobs.resume(job.id) == 1
    ended = world.run(job)
    assert ended.is_whole
    assert world.stack.get(ended.result) == LINES.upper()


def test_a_step_that_rejects_every_entry_is_broken_too(world: World, put) -> None:
    rejects = """import json, sys
if __name__ == "__main__":
    given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    lines = open(given["--input"]).readlines()
    open(given["--output"], "w").close()
    with open(given["--rejects"], "w") as file:
        for number in range(len(lines)):
            print(json.dumps({"entry": number, "after": 0, "reason": "no module named rdkit"}), file=file)
"""
    settings_file = "rejects: true\n"
    put("rejects", "steps: [{run: step.py, settings: s.yaml}]", step__py=rejects, s__yaml=settings_file)
    ended = world.run(world.upload("rejects/lines.txt"))
    assert (ended.state, "no module named rdkit" in ended.problem) == (State.STOPPED, True)


def test_a_list_reads_only_records_that_changed_and_does_without_what_is_kept(world: World, tmp_path, monkeypatch):
    for name in "abc":
        world.upload(f"nothing/{name}.txt")
    first = all_jobs(world.jobs, tmp_path)
    assert len(first) == 3
    read: list[str] = []
    original = StackJobs.read_listed
    monkeypatch.setattr(StackJobs, "read_listed", lambda self, key: read.append(key) or original(self, key))
    assert all_jobs(world.jobs, tmp_path) == first
    assert read == []
    new = world.upload("nothing/d.txt")
    read.clear()
    assert [one.id for one in all_jobs(world.jobs, tmp_path)] == [new.id, *(one.id for one in first)]
    assert read == [f"jobs/{new.id}.json"]
    (kept,) = tmp_path.glob("*.json")
    kept.write_text("{")
    assert len(all_jobs(world.jobs, tmp_path)) == 4


class TestConsole:
    def test_the_console_of_a_stack_shows_jobs_and_runs_failed_records_of_one_reason_again(
        self, world: World, put
    ) -> None:
        put("shout", "steps: [{run: step}]", step=UPPER)
        data = LINES.replace(b"line 7\n", b"bad 7\n")
        job = world.upload("shout/lines.txt", data)
        console = StackConsole(world.jobs)
        (view,) = console.views()
        assert (view.id, view.title, view.state, view.actions) == (job.id, "shout/lines.txt", "running", ("cancel",))
        assert "The job has just begun" in job_page(console, job.id)
        assert world.run(job).dead == 1
        (view,) = console.views()
        assert (view.state, view.share, view.dead, view.actions) == ("finished", 1.0, 1, ("redrive",))
        page = job_page(console, job.id)
        assert "bad 7" in page
        assert 'data-action="redrive"' in page
        with pytest.raises(JobError, match="it is finished, so this action is not possible now"):
            act(console, job.id, "cancel")
        with pytest.raises(JobError, match="the chosen entries are no longer dead"):
            act(console, job.id, "redrive", selected(kind="another reason"))
        put("shout", "steps: [{run: step}]", step=MENDED)
        (dead,) = world.jobs.dead(job.id)
        assert act(console, job.id, "redrive", selected(span=(dead.start, dead.end))) == "Failed records run again."
        assert world.jobs.find(job.id).generation == 1

    def test_the_console_of_a_stack_cancels_and_resumes_a_job_and_its_page_says_so(self, world: World, put) -> None:
        put("shout", "steps: [{run: step}]", step=UPPER)
        job = world.upload("shout/lines.txt")
        world.process()
        world.look()
        console = StackConsole(world.jobs)
        assert act(console, job.id, "cancel") == "The job stops; finished work is kept."
        (view,) = console.views()
        assert (view.state, view.actions) == ("cancelled", ("resume",))
        assert "it was cancelled" in job_page(console, job.id)
        assert act(console, job.id, "resume") == "The job continues with what is missing."
        assert world.run(job).is_whole
        assert "All 60 records are in the result" in job_page(console, job.id)
        assert [view.state for view in console.views()] == ["whole"]

    def test_the_console_of_a_stack_does_not_read_again_what_did_not_change(self, world: World, monkeypatch) -> None:
        for name in "abc":
            world.upload(f"nothing/{name}.txt")
        console, read = StackConsole(world.jobs), []
        assert len(console.views()) == 3
        monkeypatch.setattr(StackJobs, "read_listed", lambda _self, key: read.append(key))
        assert len(console.views()) == 3
        assert read == []
