"""`parcelq doctor` says why jobs of a stack make no progress; `parcelq scale` sets how many functions run at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import typer
from parcelq.amounts import amount
from parcelq.aws.replies import needed
from parcelq.errors import AwsError, ParcelqError, WorkflowError
from parcelq.names import dead_letter
from parcelq.stack.lookup import Stack, look_up

from parcelq_cli.options import StackName
from parcelq_cli.output import Output, with_output

_LEAST, _MOST = 2, 1000
"""The smallest and the largest concurrency of an event source:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
"""
_NEW_ACCOUNT: Final = 10
"""How many invocations a new account may run at once:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""


class Finding(NamedTuple):
    """A problem that stops jobs or may stop jobs, and a sentence that says what the user can do about the problem."""

    what: str
    help: str


class Examined:
    """Finds problems of a stack that stop the stack's jobs."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.functions = _client("lambda")
        self.processors = {stage: f"{stack.prefix}-processor-{stage}" for stage in stack.stages}
        self.others = [f"{stack.prefix}-{name}" for name in ("uploader", "downloader")]

    def mapping(self, function: str) -> Mapping[str, Any]:
        """Return the event source of a function. Raises ParcelqError if the function has no event source."""
        found = self.functions.list_event_source_mappings(FunctionName=function).get("EventSourceMappings")
        if not found:
            raise ParcelqError(f"function {function} has no event source")
        mapping: Mapping[str, Any] = found[0]
        return mapping

    def concurrency(self) -> Iterator[Finding]:
        """Check that the account may run as many invocations at once as the stack needs."""
        account = needed(self.functions.get_account_settings(), "GetAccountSettings", "AccountLimit")
        limit = needed(account, "GetAccountSettings", "ConcurrentExecutions")
        mappings = map(self.mapping, (*self.processors.values(), *self.others))
        wanted = sum(one.get("ScalingConfig", {}).get("MaximumConcurrency", 0) for one in mappings)
        if wanted > limit:
            yield Finding(
                f"the account runs {limit} functions at once, and the stack may ask for {wanted}",
                "raise the quota of Lambda's concurrent executions, or lower the stack's: parcelq scale STAGE N"
                + (" (this is the quota of new accounts)" if limit <= _NEW_ACCOUNT else ""),
            )

    def event_sources(self) -> Iterator[Finding]:
        """Check that the functions' event sources are enabled."""
        for function in (*self.processors.values(), *self.others):
            state = self.mapping(function).get("State")
            if state != "Enabled":
                yield Finding(
                    f"the event source of {function} is {state}",
                    "enable it in Lambda's console, or with aws lambda update-event-source-mapping --enabled",
                )

    def dead_letters(self) -> Iterator[Finding]:
        """Check that the stack's topics have no dead letters."""
        from parcelq_cli.clients import topics

        every = topics()
        for name in (*self.stack.stages, "output", "ranges"):
            topic = dead_letter(f"{self.stack.prefix}-{name}")
            if count := every.count(topic):
                yield Finding(
                    f"{topic} has about {amount(count, 'message')}",
                    f"parcelq dead {self.stack.prefix}-{name} lists them with their reasons",
                )

    def alarms(self) -> Iterator[Finding]:
        """Check that no alarm is active."""
        alarms = _client("cloudwatch").describe_alarms
        reply = alarms(AlarmNamePrefix=f"{self.stack.prefix}-", StateValue="ALARM", MaxRecords=100)
        for one in reply.get("MetricAlarms", ()):
            yield Finding(f"the alarm {one['AlarmName']} went off", one.get("AlarmDescription") or "look at its metric")

    def workflows(self) -> Iterator[Finding]:
        """Check that the current versions of the stack's workflows can run."""
        versions = self.stack.versions
        for one in versions.all():
            if not one.current:
                continue
            try:
                version = versions.read(f"{one.name}@{one.current}")
                lost = versions.lacks(version)
            except WorkflowError as error:
                yield Finding(str(error), f"parcelq workflows put it again: {one.name}")
                continue
            if lost:
                yield Finding(f"workflow {one.name} lacks {amount(len(lost), 'bundle')}", "put it again")
            if version.python not in {"", self.stack.packages_are_for}:
                yield Finding(
                    f"workflow {one.name} is for Python {version.python}, and the functions have "
                    f"{self.stack.packages_are_for}",
                    "put it again",
                )


@with_output
def doctor(out: Output, stack: StackName) -> None:
    """Find out why jobs of a stack make no progress, and what you can do.

    The exit code is 1 if there is a problem.
    """
    from parcelq.aws.clients import translated

    examined = Examined(look_up(stack))
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("concurrency", examined.concurrency),
        ("event sources", examined.event_sources),
        ("dead letters", examined.dead_letters),
        ("alarms", examined.alarms),
        ("workflows", examined.workflows),
    )
    found = 0
    for name, check in checks:
        try:
            with translated():
                findings = list(check())
        except AwsError as error:
            advice = "ask an administrator for this permission" if error.is_denied else "try again"
            findings = [Finding(f"{error.operation} failed with {error.code}, so this could not be checked", advice)]
        except ParcelqError as error:
            findings = [Finding(str(error), "deploy the stack again")]
        for one in findings:
            out.result({"check": name, "problem": one.what, "help": one.help}, f"{name}: {one.what}; {one.help}")
        if not findings:
            out.note(f"{name}: no problem found")
        found += len(findings)
    if found:
        raise ParcelqError(f"{amount(found, 'problem')} found")


@with_output
def scale(
    out: Output,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Name of the stage.", show_default=False)],
    number: Annotated[
        int,
        typer.Argument(metavar="N", min=_LEAST, max=_MOST, help="The most processors at a time.", show_default=False),
    ],
    stack: StackName,
) -> None:
    """Set how many processors of a stage may run at the same time, while jobs run.

    The next sam deploy resets the number to the parameter Concurrency.
    """
    from parcelq.aws.clients import translated

    examined = Examined(look_up(stack))
    if stage not in examined.processors:
        raise ParcelqError(f"STAGE is {stage!r}, but must be one of {', '.join(examined.stack.stages)}")
    wanted = {"MaximumConcurrency": number}
    with translated():
        mapping = examined.mapping(examined.processors[stage])
        reply = examined.functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig=wanted)
    now = reply.get("ScalingConfig", {}).get("MaximumConcurrency")
    if now != number:
        raise ParcelqError(f"Lambda was asked for a concurrency of {number}, but reports {now}")
    before = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
    out.result({"stage": stage, "concurrency": number, "before": before}, f"{stage}: {number}, before {before}")


def _client(service: Literal["cloudwatch", "lambda"]) -> Any:
    from parcelq.aws.clients import other_client

    return other_client(service)
