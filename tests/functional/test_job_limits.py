"""Jobs that are halted: by a limit of their workflow, or by somebody who cancels them."""

from __future__ import annotations

from job_world import DATA, EDGES, LINES, Cloud, output
from parcelq.jobs.changes import Found, Next, after, halted
from parcelq.jobs.limits import Limits
from parcelq.jobs.record import JobRecord, State, read_job, write_job

pytest_plugins = ["job_world"]


def begun(cloud: Cloud, limits: Limits) -> str:
    """Begin a job with limits, whose upload has ended; return its id."""
    job = cloud.begin()
    found = read_job(cloud.store, job)
    assert found
    write_job(cloud.store, found[0]._replace(limits=limits), found[1])
    return job


def test_a_job_is_stopped_at_once_when_its_time_is_over(cloud: Cloud) -> None:
    begun(cloud, Limits(max_seconds=60))
    cloud.came(output(0, 2))
    began = cloud.now
    cloud.run()
    record = cloud.record()
    assert (record.state, record.halted, record.reported) == (State.STOPPED, True, True)
    assert record.problem == "the job took longer than 60 s"
    assert 60 < cloud.now - began < 65
    assert cloud.result() is None
    report = cloud.report()
    assert (report["complete"], report["problem"]) == (False, record.problem)
    assert report["holes"] == [[EDGES[2], len(DATA)]]
    assert [key for key in cloud.store.objects if key.endswith(".seg")]
    assert [kind for kind, _ in cloud.told] == ["Parcelq job stopped"]


def test_results_that_come_after_a_job_stopped_are_kept_and_do_not_wake_it(cloud: Cloud) -> None:
    begun(cloud, Limits(max_seconds=60))
    cloud.run()
    before = cloud.record()
    cloud.came(*(output(number, number + 1) for number in range(len(LINES))))
    cloud.drain()
    assert cloud.run() == 0
    assert (cloud.record(), cloud.result(), cloud.tasks()) == (before, None, [])


def test_more_dead_entries_than_a_limit_stop_a_job_although_nothing_else_is_missing(cloud: Cloud) -> None:
    begun(cloud, Limits(max_dead=1))
    cloud.came(output(0, 4), output(4, 5, dead="bad"), output(5, 6, dead="worse"))
    cloud.run()
    assert cloud.record().problem == "2 records failed, more than 1: bad"
    assert cloud.result() is None


def test_as_many_dead_entries_as_a_limit_do_not_stop_a_job(cloud: Cloud) -> None:
    begun(cloud, Limits(max_dead=2, max_dead_share=0.01))
    cloud.came(output(0, 4), output(4, 5, dead="bad"), output(5, 6, dead="worse"))
    cloud.run()
    assert cloud.record().state is State.FINISHED


def test_a_cancelled_job_gets_its_report_by_one_look_whatever_else_comes(cloud: Cloud) -> None:
    job = cloud.begin()
    cloud.came(output(0, 2))
    cloud.look()
    found = read_job(cloud.store, job)
    assert found
    write_job(cloud.store, halted(found[0], State.CANCELLED, cloud.now, ""), found[1])
    cloud.run()
    record = cloud.record()
    assert (record.state, record.reported, record.covered) == (State.CANCELLED, True, EDGES[2])
    assert cloud.report()["problem"] == "it was cancelled"
    assert cloud.tasks() == []


def test_a_share_counts_entries_that_a_step_filters_out() -> None:
    """Of 2,000 entries 20 are dead, and the step wrote nothing for nearly all of the others."""
    record = JobRecord("id", "s", dead=20, dead_bytes=200, covered=19_800, entries=100, limits=Limits(None, 0.02))
    found = record._replace(total=20_000, missing=1)
    assert after(Found(record, found, 0.0))[1] is Next.LOOK
    assert after(Found(record, found._replace(limits=Limits(None, 0.005)), 0.0))[1] is Next.STOP
