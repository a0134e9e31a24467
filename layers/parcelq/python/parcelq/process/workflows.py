"""Loads a workflow into an instance of a stage's Lambda function when a message needs the workflow, and keeps the
workflow for later messages.

Each message names the version of its workflow. So an instance may run several workflows with different packages. If
there are too many processes or too many bytes on disk, the least recently used workflow is removed first.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from parcelq.errors import BundleError, NotFoundError, ParcelqError, SettingsError, WorkflowError
from parcelq.jobs.version import Version, packages_are_for
from parcelq.jobs.versions import Versions
from parcelq.jobs.workflow_file import steps_of
from parcelq.process.apply import Outcome, Route
from parcelq.process.chain import Chain, Onward, refuse
from parcelq.process.job_failures import JobFailures
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.steps.bundle_cache import BundleCache
from parcelq.steps.find import Step
from parcelq.steps.grants import Grants
from parcelq.store.store import Store
from parcelq.topics.header import Headers
from parcelq.topics.message import Pulled
from parcelq.topics.topic import Publisher, Topic

_log = logging.getLogger(__name__)
_MOST_CHAINS: Final = 2
"""How many workflows' processes are kept, at most. Each workflow may have one process, with a model, per CPU."""


class Stage(NamedTuple):
    """The objects that the Lambda function of a stage works with. `topic` returns the topic of a stage."""

    name: str
    names: Sequence[str]
    topic: Callable[[str], Topic]
    dead_letters: Publisher
    output: Publisher
    rules: Rules
    store: Store
    grants: Grants


class Workflows:
    """Loads the workflows that run in a stage. All bundles together take at most `bundle_bytes` on disk."""

    def __init__(self, stage: Stage, bundle_bytes: int) -> None:
        self._stage = stage
        self._versions = Versions(stage.store)
        self._cache = BundleCache(bundle_bytes, self._versions.opened, self._close_those_with)
        self._loaded: OrderedDict[str, tuple[Version, Chain]] = OrderedDict()
        self._last = ""

    def handle(
        self, attribute: str, pulled: Iterable[Pulled], time_left: Callable[[], float], *, invocation: str
    ) -> Outcome:
        """Run a version of a workflow over messages, whose attribute `Workflow` names the version.

        If the version cannot run, its messages become dead letters with the reason, and can be redriven later.
        """
        try:
            chain = self.chain(attribute)
        # guard[(WorkflowError, SettingsError)]: a workflow that can never be run does not keep its messages waiting
        except (WorkflowError, SettingsError, BundleError) as error:
            _log.error("%s", error)
            stage = self._stage
            route = Route(stage.topic(stage.name), stage.output, stage.dead_letters, stage.output)
            return refuse(route, stage.rules, attribute, error, Headers(stage.store), pulled)
        except (ParcelqError, OSError) as error:
            _log.warning("workflow %s cannot be loaded now: %s", attribute, error)
            return Outcome(failed=[(one, str(error)) for one in pulled])
        return chain.handle(pulled, time_left, invocation)

    def close(self) -> None:
        """End the processes of all warm steps."""
        for attribute in list(self._loaded):
            self._close(attribute)

    def chain(self, attribute: str) -> Chain:
        """Return the chain that runs the steps of a version of a workflow.

        Raises:
            WorkflowError, SettingsError, BundleError: the version can never run.
            ParcelqError, OSError: the version cannot be loaded now.
        """
        # guard[False]: files that another workflow may have changed are not run
        if attribute in self._loaded and attribute != self._last:
            version, _ = self._loaded[attribute]
            self._cache.check([one.digest for one in version.bundles])
        if attribute not in self._loaded:
            self._load(attribute)
        self._loaded.move_to_end(attribute)
        self._last = attribute
        return self._loaded[attribute][1]

    def _load(self, attribute: str) -> None:
        version = self._versions.read(attribute)
        stages = version.workflow.stages(self._stage.names)
        here = packages_are_for(f"{sys.version_info.major}.{sys.version_info.minor}", os.uname().machine)
        if version.python and version.python != here:
            reason = f"its packages are for Python {version.python}, but the function has {here}; put it again"
            raise WorkflowError(attribute, reason)
        while len(self._loaded) >= _MOST_CHAINS:
            self._close(next(iter(self._loaded)))
        self._cache.check([one.digest for one in version.bundles])
        steps = self._steps(version)
        self._loaded[attribute] = version, self._chain(version, steps, stages)

    def _steps(self, version: Version) -> list[Step]:
        in_use = [one.digest for one in version.bundles]
        try:
            folder = self._cache.folder(version.code, in_use)
            packages = [self._cache.folder(one, in_use) if one else None for one in version.packages]
        except NotFoundError:
            raise WorkflowError(version.attribute, "its files were deleted; put the workflow again") from None
        steps = steps_of(version.workflow, folder, version.attribute)
        found = (step._replace(packages=one) for step, one in zip(steps, packages, strict=True))
        return [self._stage.grants.to(step, version.name) for step in found]

    def _chain(self, version: Version, steps: Sequence[Step], stages: Sequence[str]) -> Chain:
        """Connect the steps, beginning with the last step: each step gets the receiver of its output."""
        stage, workflow = self._stage, version.workflow
        topic = stage.topic(stage.name)
        processors: list[Processor] = []
        onward: list[Onward] = []
        following: Publisher = stage.output
        for number in reversed(range(len(steps))):
            size = workflow.batch_size_of(workflow.steps[number], stage.rules.batch_size)
            parcel_size = workflow.parcel_size or stage.rules.parcel_size
            rules = stage.rules._replace(batch_size=size, parcel_size=parcel_size)
            route = Route(topic, following, stage.dead_letters, stage.output)
            # The header of the result is stored under the output topic's name, each other header under another name.
            outputs = following.name if number == len(steps) - 1 else f"{following.name}.{number + 1}"
            step = steps[number]
            first = JobFailures(stage.store, time.time)
            processors.append(Processor(route, step, rules, stage.store, outputs=outputs, first=first))
            if stages[number - 1] == stages[number] == stage.name:
                following = Onward(topic, processors[-1])
                onward.append(following)
            else:
                following = stage.topic(stages[number])
        return Chain(tuple(reversed(processors)), tuple(onward))

    def _close_those_with(self, digest: str) -> None:
        """End the processes of workflows that use a bundle, before the bundle is removed."""
        for attribute, (version, _) in list(self._loaded.items()):
            if digest in {one.digest for one in version.bundles}:
                self._close(attribute)

    def _close(self, attribute: str) -> None:
        self._loaded.pop(attribute)[1].close()
