"""Looks that are killed at any call, and several at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from job_world import HOUR, LINES, Cloud, output
from parcelq.errors import AwsError, ConflictError
from parcelq.jobs.look import Look
from parcelq.jobs.record import State, read_job, write_job

pytest_plugins = ["job_world"]


class KilledError(BaseException):
    """The end of a function in the middle of what it did."""


class TestAtOnce:
    """What happens between any two calls of a look, and where it ends."""

    def calls(self, cloud: Cloud, then: Callable[[int, str], None]) -> None:
        """Have something done just before each call to store or topic, given its number."""
        number = 0

        def before(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*given: Any, **more: Any) -> Any:
                nonlocal number
                if cloud.is_looking:
                    number += 1
                    then(number, name)
                return call(*given, **more)

            return counted

        for name in ("put", "read", "read_with_etag", "stat", "keys", "delete", "write"):
            setattr(cloud.store, name, before(name, getattr(cloud.store, name)))
        cloud.looks.publish = before("publish", cloud.looks.publish)  # type: ignore[method-assign]

    def ready(self) -> Cloud:
        cloud = Cloud()
        cloud.begin()
        cloud.came(output(0, 3), output(3, 4, dead="bad"), output(4, 6))
        return cloud

    def check(self, cloud: Cloud) -> None:
        assert cloud.result() == b"".join(LINES[:3] + LINES[4:]).upper()
        assert cloud.report()["entries"] == {"read": 6, "done": 5, "dead": 1, "missing": 0, "written": 5}
        assert cloud.record().state is State.FINISHED
        assert cloud.told
        assert sum(cloud.looks.counts()) == 0

    def test_a_look_that_is_killed_at_any_call_loses_nothing(self) -> None:
        for at in range(1, 200):
            cloud = self.ready()
            struck = []

            def kill(number: int, name: str, at: int = at, struck: list[str] = struck) -> None:
                if number == at:
                    struck.append(name)
                    raise KilledError

            self.calls(cloud, kill)
            for _ in range(100):
                try:
                    if not cloud.look():
                        break
                except KilledError:
                    cloud.now += 60
                if not sum(cloud.looks.counts()) and not cloud.record().state.is_ended:
                    cloud.now += HOUR
                    for lost in list(cloud.jobs.overdue(0)):
                        cloud.jobs.publish(lost)
            self.check(cloud)
            if not struck:
                break
        assert 15 < at < 200

    def test_two_that_take_the_same_look_at_once_give_one_exact_result(self) -> None:
        for at in range(1, 200):
            cloud = self.ready()
            struck: list[str] = []

            def overtake(
                number: int, name: str, at: int = at, struck: list[str] = struck, cloud: Cloud = cloud
            ) -> None:
                if number == at and not struck:
                    struck.append(name)
                    cloud.is_looking = False
                    record = cloud.record()
                    cloud.looker.take(Look(record.id, record.look))
                    cloud.is_looking = True

            self.calls(cloud, overtake)
            cloud.run()
            self.check(cloud)
            if not struck:
                break
        assert 15 < at < 200

    def test_a_record_that_somebody_else_wrote_is_not_overwritten(self, cloud: Cloud) -> None:
        found = read_job(cloud.store, cloud.begin())
        assert found
        record, etag = found
        write_job(cloud.store, record._replace(look=2), etag)
        with pytest.raises(ConflictError):
            write_job(cloud.store, record._replace(look=3), etag)
        assert cloud.record().look == 2

    def test_a_result_is_written_only_while_the_record_says_that_the_job_is_finishing(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 6))
        states = []
        write = cloud.store.write

        def watched(key: str, *given: Any, **more: Any) -> Any:
            states.append(cloud.record().state)
            return write(key, *given, **more)

        cloud.store.write = watched  # type: ignore[method-assign]
        cloud.run()
        assert set(states) == {State.FINISHING}

    def test_an_event_that_is_not_confirmed_leaves_the_job_finishing(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 6))

        def refuse(*_: Any) -> None:
            raise AwsError("PutEvents", "AccessDenied", "no")

        looker = cloud.looker._replace(tell=refuse)
        with pytest.raises(AwsError):
            looker.take(Look(cloud.record().id, 1)) if cloud.drain() is None else None
        assert cloud.record().state is State.FINISHING
        cloud.run()
        assert cloud.record().state is State.FINISHED
        assert len(cloud.told) == 1
