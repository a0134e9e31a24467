"""The pipeline on one machine: an uploader, processors and a collector on threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from parcelq.collect.drain import Drainer
from parcelq.errors import ParcelqError
from parcelq.limits import MAX_DEADLINE_SECONDS, MIB
from parcelq.lineage.lineage import Lineage
from parcelq.local.progress import Ledger, WorkMeter, source_bytes
from parcelq.names import OUTPUT
from parcelq.process.apply import Route
from parcelq.process.broken import BrokenStep, FirstFailures
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.process.runs import OnPrinted, log_printed
from parcelq.steps.find import Step
from parcelq.store.store import Store
from parcelq.topics.attributes import LINEAGE, REASON
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import Published

_WORKER_BYTES: Final = 4 * MIB
"""How much memory the messages of a stage may take per worker before the uploader waits. Publishing more would only
keep Python busy while the first steps start.
"""
_TOGETHER: Final = 16
"""The most messages that a fast step gets with one request. Each message is a run of its own."""
_PREPARED: Final = 2
"""How many runs of each step are prepared before the first message arrives. A small job needs no more."""
_PULL_SECONDS: Final = 0.5
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
"""The most seconds between two segments. The pause grows with the job's age, so that a long job has few segments."""
_PAUSE_SHARE: Final = 0.02
_OUTPUT_BYTES: Final = 16 * MIB
"""How many bytes of output may wait in memory. If there are more, the output is stored at once."""


class _Stage(NamedTuple):
    """A running step, which reads messages from one topic and publishes its output on another topic.

    Attributes:
        share: the fraction of the job's work that this stage does, from 0 to 1.
    """

    step: Step
    topic: MemoryTopic
    processor: Processor
    share: float


class Pipeline:
    """Runs steps over the messages of sources, and stores their outputs as segments.

    This is a context manager, and its threads run while the context lasts.

    Args:
        store: the store for segments.
        keep_going: whether to continue although every entry fails.
        workers: the number of parallel runs of a step; by default one for each CPU.
        on_printed: a function that is called with the text that a successful run printed.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        store: Store,
        rules: Sequence[Rules],
        meter: WorkMeter,
        *,
        keep_going: bool = False,
        workers: int = 0,
        on_printed: OnPrinted = log_printed,
    ) -> None:
        self.ledger = Ledger()
        self.broken: BrokenStep | None = None
        self.error: BaseException | None = None
        self._meter = meter
        self._workers = workers or os.cpu_count() or 1
        self._cpus = threading.BoundedSemaphore(self._workers)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        room = self._workers * _WORKER_BYTES
        topic = partial(MemoryTopic, deadline_seconds=MAX_DEADLINE_SECONDS, max_bytes=room, on_change=self.ledger.note)
        self._output = topic(OUTPUT)
        self._drainer = Drainer(self._output, store, receivers=1)
        topics = [topic(f"step{number}") for number in range(1, len(steps) + 1)]
        dead = _DeadLetters(self._count_dead)
        self._stages = [
            _Stage(
                step,
                topic,
                Processor(
                    Route(topic, following, dead, self._output),
                    step,
                    rule._replace(joins=False),
                    store,
                    marks=False,
                    workers=1,
                    together=_TOGETHER,
                    on_printed=on_printed,
                    first=None if keep_going else FirstFailures(),
                ),
                1 / len(steps),
            )
            for step, topic, following, rule in zip(steps, topics, [*topics[1:], self._output], rules, strict=True)
        ]
        self._threads: list[threading.Thread] = []

    def publish(self, messages: Iterable[Message]) -> Published:
        """Publish messages for the first step, each when there is room for it in memory."""
        topic = self._stages[0].topic
        return topic.publish(topic.when_there_is_room(messages))

    @property
    def stopped(self) -> bool:
        """Whether the pipeline was stopped, a thread failed, or a step is broken."""
        return self._stopping.is_set()

    @property
    def may_be_broken(self) -> bool:
        """Whether all runs of a step have failed so far."""
        return any(first.all_failed for stage in self._stages if (first := stage.processor.first))

    def __enter__(self) -> Pipeline:
        for stage in self._stages:
            for number in range(self._workers):
                self._start(self._work, stage, number < _PREPARED)
        self._collector = self._start(self._collect)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.abort()
        try:
            for thread in self._threads:
                if thread is not self._collector:
                    with suppress(RuntimeError):  # Ctrl-C interrupted the start of the thread
                        thread.join()
        finally:  # also if Ctrl-C interrupts the wait
            self._ended.set()
            self.ledger.wake()
        self._collector.join()
        for stage in self._stages:
            stage.processor.close()

    def stop(self) -> None:
        """Prevent further runs of steps. Outputs of finished runs are stored before the context ends."""
        self._stopping.set()
        for stage in self._stages:
            stage.topic.close()
        self.ledger.wake()

    def abort(self) -> None:
        """Stop the pipeline, and kill the steps that are running; only the work of these runs is lost."""
        self.stop()
        for stage in self._stages:
            stage.processor.abort()

    def upload(self, publish: Callable[[], object]) -> None:
        """Call a function that publishes messages, in a new thread. An error in the function stops the pipeline."""
        self._start(publish)

    def _start(self, target: Callable[..., object], *arguments: object) -> threading.Thread:
        def run() -> None:
            try:
                target(*arguments)
            except BaseException as error:  # noqa: BLE001 - the error is raised again where the pipeline is waited for
                self.error = self.error or error
                self.stop()

        thread = threading.Thread(target=run, name="parcelq", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _work(self, stage: _Stage, prepares: bool) -> None:
        if prepares:
            stage.processor.prepare()
        while not self._stopping.is_set():
            if pulled := stage.topic.pull(1, stage.processor.wanted, _PULL_SECONDS):
                with self._cpus:
                    if not self._stopping.is_set():
                        self._handle(stage, pulled)

    def _handle(self, stage: _Stage, pulled: Sequence[Pulled]) -> None:
        outcome = stage.processor.handle(pulled, acknowledges=True)
        if (first := stage.processor.first) and first.verdict:
            self.broken = first.verdict
            self.stop()
        if outcome.failed and self.stopped:
            return
        for _, reason in outcome.failed:
            raise ParcelqError(f"step {stage.step.name!r} could not be run: {reason}")
        if outcome.ended:
            texts = [one.attributes.get(LINEAGE) for one in outcome.ended]
            done = sum(source_bytes(Lineage.parse(text)) for text in texts if text) * stage.share
            self._meter.add(done, outcome.entries if stage is self._stages[-1] else 0)

    def _count_dead(self, dead: Message) -> None:
        self._meter.add_dead(dead.entries, dead.attributes.get(REASON, ""))

    def _collect(self) -> None:
        """Store outputs at regular intervals, and once more when no more output can follow."""
        began = time.monotonic()
        while not self._ended.is_set():
            self._drainer.drain(0)
            pause = max(_FIRST_PAUSE, min(_LONGEST_PAUSE, (time.monotonic() - began) * _PAUSE_SHARE))
            self._await_output(pause)
        self._drainer.drain(0)

    def _await_output(self, seconds: float) -> None:
        """Wait until the next segment is due: the pause is over, much output waits in memory, or no work is left."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._ended.is_set():
            if self._output.size >= _OUTPUT_BYTES or self._is_quiet():
                return
            self.ledger.wait(min(left, 0.05))

    def _is_quiet(self) -> bool:
        """Whether all messages in progress are outputs of the last step, so that no step has work."""
        counts = self._output.counts()
        return 0 < sum(counts) == self.ledger.total()


class _DeadLetters(NamedTuple):
    """A `Publisher` that calls a function with each dead letter and drops it: tombstones contain the dead entries."""

    on_dead: Callable[[Message], None]
    name: str = "dead-letters"

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:  # noqa: ARG002
        """Pass messages to `on_dead`, and drop them."""
        dead = list(messages)
        for message in dead:
            self.on_dead(message)
        return Published(len(dead), [])
