"""What work costs: counted, carried by messages, added up in segments, and shown in reports."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_world import figures_from, report_of
from parcelq.collect.bill import Bill
from parcelq.collect.page.render import report_page
from parcelq.jobs.record import new_record, read_job, write_job
from parcelq.limits import MAX_ATTRIBUTES
from parcelq.process.apply import Application, Route
from parcelq.process.decide import Decision, Destination, Publication
from parcelq.process.runs import Run
from parcelq.topics import cost as costs
from parcelq.topics.attributes import LINEAGE, SOURCE
from parcelq.topics.cost import COST, METER, NOTHING, Cost, Meter, class_end, duration_class
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled

COUNTS = st.integers(0, 10**6)
COSTS = st.builds(Cost, *[COUNTS] * 8, st.dictionaries(st.integers(0, 50), st.integers(1, 99), max_size=4))


@pytest.fixture(autouse=True)
def nothing_spent() -> None:
    METER.take()


class TestCost:
    @given(COSTS)
    def test_an_attribute_says_all_of_a_cost(self, cost: Cost) -> None:
        assert Cost.parse(str(cost)) == Cost.parse(cost.numbers()) == cost

    @given(COSTS, COSTS, COSTS)
    def test_costs_add_up_to_the_same_in_any_order(self, one: Cost, two: Cost, three: Cost) -> None:
        assert one + two + three == three + (two + one)
        assert one + NOTHING == NOTHING + one == one

    @pytest.mark.parametrize(
        "told", [None, "", "x", "[]", "{}", "[1,2]", "[1,2,3,4,5,6,7,-8,[]]", "[1,2,3,4,5,6,7,8,[1]]", "9" * 5000, 7]
    )
    def test_a_text_that_is_no_cost_counts_as_nothing(self, told: object) -> None:
        assert Cost.parse(told) == NOTHING

    @given(st.integers(0, 10**9))
    def test_a_duration_is_in_the_class_that_ends_after_it(self, ms: int) -> None:
        number = duration_class(ms)
        assert (class_end(number - 1) if number else 0) <= ms * (1 + 1e-9) + 1e-9
        assert ms < class_end(number) * (1 + 1e-9)


class TestMeter:
    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [100.0]
        monkeypatch.setattr(costs, "monotonic", lambda: now[0])
        return now

    def test_all_time_of_invocations_is_taken_once(self, now: list[float]) -> None:
        meter, taken = Meter(), NOTHING
        for _ in range(3):
            with meter.invocation(512):
                now[0] += 0.25
                taken += meter.take()
                now[0] += 0.5  # what comes after the last message is carried by the next one
            now[0] += 60  # between invocations
        taken += meter.take()
        assert (taken.invocations, taken.ms, taken.mb_ms) == (3, 2250, 2250 * 512)

    @pytest.mark.parametrize(
        ("service", "name", "body", "counted"),
        [
            ("sqs", "SendMessageBatch", b"x" * 70_000, (1, 2, 0, 0)),
            ("sqs", "ReceiveMessage", b"{}", (1, 1, 0, 0)),
            ("s3", "PutObject", b"", (1, 0, 1, 0)),
            ("s3", "ListObjectsV2", b"", (1, 0, 1, 0)),
            ("s3", "GetObject", b"", (1, 0, 0, 1)),
            ("s3", "HeadObject", b"", (1, 0, 0, 1)),
            ("s3", "DeleteObjects", b"", (1, 0, 0, 0)),
        ],
    )
    def test_the_meter_counts_requests_by_their_price(self, service: str, name: str, body: bytes, counted: Any) -> None:
        meter = Meter()
        meter._note(SimpleNamespace(name=name, service_model=SimpleNamespace(service_name=service)), {"body": body})
        taken = meter.take()
        assert (taken.requests, taken.sqs, taken.puts, taken.gets) == counted
        assert meter.take() == NOTHING


class TestMessages:
    @pytest.fixture
    def route(self) -> Route:
        return Route(*(MemoryTopic(name) for name in ("step", "output", "dead", "output")))

    def pulled(self, **attributes: str) -> Pulled:
        return Pulled("id", f"handle {len(attributes)}", 1, Message(b"a\n", {SOURCE: "s", LINEAGE: "l", **attributes}))

    def apply(self, route: Route, *decisions: Decision, counts: bool = True) -> list[Message]:
        deliveries = [one for decision in decisions for one in decision.deliveries]
        Application(route, deliveries, counts=counts).apply(decisions)
        return [one.message() for one in route.following.pull(1, 10, 0)]

    def test_the_first_output_of_a_run_carries_it_and_what_its_input_carried(self, route: Route) -> None:
        before = Cost(1, 20, 30, run_ms=7, runs={4: 1})
        one = self.pulled(**{COST: str(before)})
        outputs = [Publication(Destination.FOLLOWING, Message(body, {SOURCE: "s"})) for body in (b"x\n", b"y\n")]
        sent = self.apply(route, Decision((one,), outputs, run=Run((), None, seconds=0.25)))
        assert Cost.parse(sent[0].attributes[COST]) == before + Cost.of_run(0.25)
        assert COST not in sent[1].attributes

    def test_a_message_that_is_published_again_carries_nothing_and_the_next_output_does(self, route: Route) -> None:
        before = Cost(run_ms=7, runs={4: 1})
        one, other = self.pulled(**{COST: str(before)}), self.pulled(**{COST: str(before), "Other": "x"})
        again = Publication(Destination.INPUT, one.message())
        output = Publication(Destination.FOLLOWING, Message(b"x\n"))
        (sent,) = self.apply(route, Decision((one,), [again]), Decision((other,), [output]))
        assert Cost.parse(sent.attributes[COST]) == before + before
        (back,) = route.input.pull(1, 10, 0)
        assert COST not in back.attributes
        assert METER.take() == NOTHING

    def test_a_message_without_room_carries_no_cost(self, route: Route) -> None:
        full = {f"Name{number}": "x" for number in range(MAX_ATTRIBUTES - 2)}
        output = Publication(Destination.FOLLOWING, Message(b"x\n", full))
        (sent,) = self.apply(route, Decision((self.pulled(),), [output], run=Run((), None, seconds=1)))
        assert sent.attributes == full
        assert METER.take() == Cost.of_run(1)

    def test_a_worker_on_plain_topics_adds_no_attribute(self, route: Route) -> None:
        output = Publication(Destination.FOLLOWING, Message(b"x\n"))
        (sent,) = self.apply(route, Decision((self.pulled(),), [output], run=Run((), None, seconds=1)), counts=False)
        assert COST not in sent.attributes


class TestReports:
    def bill(self) -> Bill:
        processors = Cost(1000, 2_000_000, 2_000_000 * 1024, 5000, 4000, 0, 0, 90_000, {14: 1, 16: 2})
        return Bill(Cost(1, 3000, 3000 * 1024, 30, 20, 6, 4), processors, Cost(9, 9000, 9000 * 1024, 90, 20, 30, 40))

    def test_the_dollars_of_a_report_follow_from_the_list_prices(self) -> None:
        told = self.bill().document()
        assert told["processors"] == {
            "invocations": 1000, "seconds": 2000.0, "gb_seconds": 2000.0, "requests": 5000
        }  # fmt: skip
        usd = told["usd"]
        assert usd["lambda"] == pytest.approx(1010 * 0.2e-6 + 2012 * 0.0000166667, rel=1e-3)
        assert usd["sqs"] == pytest.approx((4040 + 2 * 1010) * 0.4e-6, rel=1e-3)
        assert usd["s3"] == pytest.approx(36 * 5e-6 + 44 * 0.4e-6, rel=1e-3)
        assert usd["total"] == pytest.approx(usd["lambda"] + usd["sqs"] + usd["s3"], rel=1e-6)

    def test_without_functions_there_are_durations_and_no_dollars(self) -> None:
        told = Bill(processors=Cost.of_run(2) + Cost.of_run(0.5)).document()
        assert set(told) == {"runs"}
        assert (told["runs"]["count"], told["runs"]["seconds"]) == (2, 2.5)
        counts = [count for _, count in told["runs"]["durations"]]
        assert (counts[0], counts[-1], sum(counts)) == (1, 1, 2)

    def test_the_page_of_a_report_shows_durations_and_cost(self) -> None:
        report = report_of(100, read=10)._replace(cost=self.bill().document())
        page = report_page(report, figures_from(100, [])).decode()
        assert "3 runs took 30 s on average" in page
        assert "About $0.0" in page
        for row in ("uploader", "processors", "downloader"):
            assert f"<td>{row}</td>" in page
        without = report_page(report_of(100, read=10), figures_from(100, [])).decode()
        assert 'id="durations"' not in without
        assert 'id="cost"' not in without

    def test_the_cost_of_looks_is_kept_in_the_record_of_the_job(self, tmp_path: Path) -> None:
        from parcelq.store.folder import FolderStore

        store = FolderStore(tmp_path)
        cost = Cost(1, 1500, requests=7) + Cost(1, 500, requests=1, runs={3: 1})
        record = new_record("s3://bucket/inbox/a?put=1", "", 0)._replace(cost=cost)
        write_job(store, record, None)
        found = read_job(store, record.id)
        assert found
        assert found[0].cost == Cost(2, 2000, requests=8, runs={3: 1})
        shown = json.loads(json.dumps(found[0].document()))["cost"]
        assert (shown["invocations"], shown["seconds"], shown["requests"]) == (2, 2.0, 8)
