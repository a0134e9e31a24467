"""A model of Lambda and SQS at their worst, by a clock that never waits: what it does to a job with bad entries.

Deliveries are throttled, functions die between any two calls, requests are carried out and their replies lost, or
refused. Whatever happens, every good entry is in the result once and in order, and every bad one is dead with its
reason. (A function that dies at random twice in a row while the same single entry runs looks like one that kills it.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from parcelq.errors import AwsError, StepError
from parcelq.lineage.lineage import Lineage
from parcelq.process.dead import KILLED
from parcelq.steps.data import Given
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner
from parcelq.store.folder import FolderStore
from parcelq.topics.attributes import DEAD, FAILURES, LINEAGE, REASON
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message
from process_stage import FunctionDied, Stage, messages_of, neighbours

SECONDS = 60
"""How long an invocation may take."""
REASONS = {b"bad": "no such atom (step 'step' exited with 3)", b"kill": KILLED}


@dataclass
class World:
    """What goes wrong.

    Attributes:
        stage: the step and its topics.
        rng: decides when.
        throttled: the share of deliveries for which there is no function.
        dies: the share of calls after which a function dies, or before which it does.
        lost: the share of calls that are carried out, but whose reply is lost.
        refused: the share of calls that are refused.
        inputs: what the step was run over.
        faults: how much went wrong so far.
        on: whether anything goes wrong now.
        seen_failures: bodies of messages that were published with failures.
    """

    stage: Stage
    rng: random.Random
    throttled: float = 0.0
    dies: float = 0.0
    lost: float = 0.0
    refused: float = 0.0
    inputs: list[bytes] = field(default_factory=list)
    faults: int = 0
    on: bool = True
    seen_failures: set[bytes] = field(default_factory=set)

    def call(self, carry_out: Callable[[], Any]) -> Any:
        """A call of the function to the outside."""
        chance = self.rng.random() if self.on else 1.0
        shares = (self.dies / 2, self.dies / 2, self.lost, self.refused)
        kinds = ("dies before", "dies after", "lost", "refused")
        limits = list(accumulate(shares))
        kind = next((kind for kind, limit in zip(kinds, limits, strict=True) if chance < limit), None)
        if kind is None:
            return carry_out()
        self.faults += 1
        if kind == "dies before":
            raise FunctionDied
        if kind == "refused":
            raise AwsError("Call", "ServiceUnavailable", "try again", 503)
        answer = carry_out()
        if kind == "dies after":
            raise FunctionDied
        raise AwsError("Call", "ReadTimeoutError", "no reply") if answer is not None else FunctionDied

    def invoke(self, workers: int) -> None:
        """Deliver messages to a function, if there is one."""
        pulled = self.stage.receive(10)
        if self.on and self.rng.random() < self.throttled:
            return  # SQS counted a receive, and nobody saw the messages
        until = self.stage.clock.now + SECONDS
        processor = self.stage.processor(workers=workers, batch_size=8, parcel_size=8)
        try:
            outcome = processor.handle(pulled, lambda: until - self.stage.clock.now)
            processor.back_off([one for one, _ in outcome.failed])
        except FunctionDied:
            self.stage.clock.now += self.rng.uniform(0, 5)
            return
        failed = {one.receipt_handle for one, _ in outcome.failed}
        done = {one.receipt_handle for one in outcome.done}
        assert done | failed == {one.receipt_handle for one in pulled}
        assert not done & failed
        MemoryTopic.acknowledge.__wrapped__(self.stage.input, outcome.done)  # type: ignore[attr-defined]

    def run(self, workers: int = 1, most: int = 4000) -> None:
        """Go on until the input topic is empty."""
        for number in range(most):
            self.on = number < most // 2
            counts = self.stage.input.counts()
            if not any(counts):
                return
            if counts.visible:
                self.invoke(workers)
            else:
                self.stage.clock.now += 5
        raise AssertionError(f"not done: {self.stage.input.counts()}")


@pytest.fixture
def make_world(make_step: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Makes a world whose step is a function of this process: it dies of `kill` and fails on `bad`."""

    def make(seed: int, **shares: float) -> World:
        stage = Stage(make_step, tmp_path, last=True, deadline=6 * SECONDS)
        stage.input = stage.topic("in", max_receive_count=1000, dead_letter_topic=stage.dead_letters)
        world = World(stage, random.Random(seed), **shares)
        output = tmp_path / "output"

        def run_all(_: Runner, inputs: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
            given = b"".join(inputs[0].bodies)
            world.inputs.append(given)
            stage.clock.now += 1
            if b"kill" in given:
                raise FunctionDied
            if b"bad" in given:
                return [StepError("step", "exited with 3", exit_code=3, stderr_tail="no such atom")]
            path = output.with_name(f"output-{len(world.inputs)}")
            path.write_bytes(given.upper())
            return [Ran(path)]

        def through(method: Callable[..., Any]) -> Callable[..., Any]:
            def called(target: Any, *args: Any, **more: Any) -> Any:
                if method.__name__ == "publish":
                    args = (list(args[0]),)
                    world.seen_failures.update(one.body for one in args[0] if FAILURES in one.attributes)
                return world.call(lambda: method(target, *args, **more))

            called.__wrapped__ = method  # type: ignore[attr-defined]
            return called

        monkeypatch.setattr(Runner, "run_all", run_all)
        for owner, names in (
            (MemoryTopic, ("publish", "acknowledge", "refresh_deadline")),
            (FolderStore, ("put", "delete")),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, through(getattr(owner, name)))
        return world

    return make


def fill(world: World, entries: list[bytes], parcel_size: int) -> None:
    """Publish entries as parcels of one source."""
    parcels = [[one.decode() for one in entries[at : at + parcel_size]] for at in range(0, len(entries), parcel_size)]
    messages = neighbours(*parcels)
    total = sum(len(one.body) for one in messages)
    world.on = False
    world.stage.publish(
        *(
            Message(one.body, {**one.attributes, LINEAGE: one.attributes[LINEAGE].replace("/1000", f"/{total}")})
            for one in messages
        )
    )


def check(world: World, entries: list[bytes]) -> None:
    """Every good entry is there once and in order, and every bad one is dead with its reason and nothing else."""
    world.on = False
    wanted = b"".join(one + b"\n" for one in entries)
    places: dict[tuple[int, int], bytes | None] = {}
    for one in messages_of(world.stage.output):
        span = Lineage.parse(one.attributes[LINEAGE]).root
        if DEAD in one.attributes:
            assert one.body == wanted[span.start : span.end]
            places.setdefault((span.start, span.end), None)
            kind = next(kind for kind in REASONS if kind in one.body)
            assert (one.attributes[DEAD], one.body.count(b"\n")) == (REASONS[kind], 1)
        else:
            assert one.body == wanted[span.start : span.end].upper()
            places[span.start, span.end] = one.body
    at, result, dead = 0, b"", []
    for (start, end), body in sorted(places.items(), key=lambda item: (item[0][0], -item[0][1])):
        if start < at:  # a whole message and its parts, which stand for the same bytes
            assert end <= at
            continue
        assert start == at, f"bytes {at} to {start} are missing"
        result += body or b""
        dead += [wanted[start:end].rstrip(b"\n")] if body is None else []
        at = end
    assert at == len(wanted)
    is_bad = [any(kind in one for kind in REASONS) for one in entries]
    assert result == b"".join(one.upper() + b"\n" for one, bad in zip(entries, is_bad, strict=True) if not bad)
    assert dead == [one for one, bad in zip(entries, is_bad, strict=True) if bad]
    letters = {one.body.rstrip(b"\n"): one.attributes.get(REASON) for one in messages_of(world.stage.dead_letters)}
    assert letters == {one: REASONS[next(kind for kind in REASONS if kind in one)] for one in dead}


def entries_of(rng: random.Random, number: int, bad: float, kill: float = 0.0) -> list[bytes]:
    kinds = rng.choices([b"good", b"bad", b"kill"], [1 - bad - kill, bad, kill], k=number)
    return [b"%s%04d" % (kind, at) for at, kind in enumerate(kinds)]


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_throttled_deliveries_cost_no_entry_and_no_run(
    make_world: Callable[..., World], seed: int, share: float
) -> None:
    world = make_world(seed, throttled=share)
    entries = entries_of(world.rng, 60, 0.0)
    fill(world, entries, 8)
    world.run()
    check(world, entries)
    assert len(world.inputs) == 8, "a message was run twice, or cut"
    assert world.seen_failures == set(), "a receive was taken for a failure"


@pytest.mark.parametrize("seed", range(10))
def test_with_throttling_only_bad_entries_are_dead_and_no_good_message_is_halved(
    make_world: Callable[..., World], seed: int
) -> None:
    world = make_world(seed, throttled=0.5)
    entries = entries_of(world.rng, 80, 0.04)
    fill(world, entries, 8)
    world.run(workers=2)
    check(world, entries)
    wholes = [b"".join(one + b"\n" for one in entries[at : at + 8]) for at in range(0, 80, 8)]
    good = [whole for whole in wholes if b"bad" not in whole]
    assert not any(one in whole and one != whole for one in world.inputs for whole in good)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", range(15))
def test_the_model_gives_an_exact_result_whatever_goes_wrong(
    make_world: Callable[..., World], seed: int, workers: int
) -> None:
    shares = random.Random(seed)
    world = make_world(
        seed,
        throttled=shares.choice([0.0, 0.5]),
        dies=shares.choice([0.0, 0.01, 0.02]),
        lost=shares.choice([0.0, 0.05, 0.1]),
        refused=shares.choice([0.0, 0.05, 0.1]),
    )
    entries = entries_of(world.rng, 60, 0.05)
    fill(world, entries, 8)
    world.run(workers)
    check(world, entries)


@pytest.mark.parametrize("seed", range(6))
def test_killers_among_bad_and_good_entries_are_dead_alone(make_world: Callable[..., World], seed: int) -> None:
    world = make_world(seed, throttled=0.3)
    entries = entries_of(world.rng, 60, 0.03, 0.03)
    fill(world, entries, 8)
    world.run()
    check(world, entries)
