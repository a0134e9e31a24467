"""What can go wrong at a call to AWS, each as something that stands between a function and AWS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, ClassVar, Final, Protocol

from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

Reply = dict[str, Any]


class Killed(BaseException):
    """The function's end in the middle of what it did."""


@dataclass
class Invocation:
    """One run of a handler.

    Attributes:
        until: when its time is up, by the world's clock.
        dead: whether it was killed; nothing that it still does has any effect.
        short: whether its time is nearly up, as the context says.
        struck: whether the fault struck in it.
    """

    until: float
    dead: bool = False
    short: bool = False
    struck: bool = False


@dataclass(frozen=True)
class Call:
    """A call that a function makes to AWS.

    Attributes:
        operation: its name.
        asked: its parameters.
        carry_out: does it, with these parameters or others.
        invocation: the invocation that makes it.
    """

    operation: str
    asked: Mapping[str, Any]
    carry_out: Callable[..., Reply]
    invocation: Invocation

    def reply(self, **changed: Any) -> Reply:
        """AWS's reply, to what was asked or something a little different."""
        return self.carry_out(**{**self.asked, **changed})


class Strike(Protocol):
    """What becomes of a call; the second argument tells how many calls ago the fault began."""

    def __call__(self, call: Call, since: int) -> Reply: ...


@dataclass
class Fault:
    """Something that goes wrong at the k-th call, and perhaps at those after it.

    Attributes:
        strike: what happens then.
        at: k, from 1; 0 for never.
        lasts: at how many calls it goes wrong; beyond that, and in every later invocation, no fault is injected.
        concerns: which operations count; empty for all.
        seen: calls so far.
        hits: calls that went wrong so far.
        told: the call at which it began.
    """

    strike: Strike
    at: int = 0
    lasts: float = 1
    concerns: frozenset[str] = frozenset()
    seen: int = 0
    hits: int = 0
    told: str = ""
    lock: Lock = field(default_factory=Lock, repr=False)

    def __call__(self, call: Call) -> Reply:
        """Carry out a call, unless it goes wrong."""
        invocation = call.invocation
        with self.lock:
            if invocation.dead:
                raise Killed
            if self.concerns and call.operation not in self.concerns:
                return call.reply()
            self.seen += 1
            since = self.seen - self.at
            if since == 0:
                invocation.struck = True
                self.told = call.operation
            strikes = bool(self.at) and invocation.struck and 0 <= since < self.lasts
            self.hits += strikes
            # Under the lock, so that no other thread gets anything done once the function is dead.
            return self.strike(call, since) if strikes else call.reply()

    @property
    def struck(self) -> bool:
        """Whether it came to pass."""
        return bool(self.told)


def killed_before(call: Call, _since: int) -> Reply:
    call.invocation.dead = True
    raise Killed


def killed_after(call: Call, _since: int) -> Reply:
    call.reply()
    call.invocation.dead = True
    raise Killed


def cut_off(call: Call, _since: int) -> Reply:
    """AWS does it, but its reply is lost on the way."""
    call.reply()
    raise ReadTimeoutError(endpoint_url="https://aws")


def unreachable(_call: Call, _since: int) -> Reply:
    raise ConnectTimeoutError(endpoint_url="https://aws")


def throttled(call: Call, _since: int) -> Reply:
    raise _error(call, "ThrottlingException", 400)


def unavailable(call: Call, _since: int) -> Reply:
    raise _error(call, "ServiceUnavailable", 503)


def out_of_time(call: Call, _since: int) -> Reply:
    call.invocation.short = True
    return call.reply()


def _error(call: Call, code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, call.operation)


BATCHES: Final = frozenset({"SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "DeleteObjects"})


@dataclass(frozen=True)
class Fails:
    """An entry of a batch that AWS does not do, and says so.

    Attributes:
        which: its place in the batch.
        sender_fault: whose fault it is.
    """

    which: int
    sender_fault: bool = False
    LISTS: ClassVar[Mapping[str, str]] = {"DeleteObjects": "Errors"}

    def __call__(self, call: Call, _since: int) -> Reply:
        if call.operation == "DeleteObjects":
            objects = list(call.asked["Delete"]["Objects"])
            failed = objects.pop(self.which)
            reply = call.reply(Delete={**call.asked["Delete"], "Objects": objects}) if objects else {}
            error = {"Key": failed["Key"], "Code": "InternalError", "Message": "We encountered an internal error."}
            return {**reply, "Errors": [error]}
        entries = list(call.asked["Entries"])
        failed = entries.pop(self.which)
        reply = call.reply(Entries=entries) if entries else {}
        code = "InvalidParameterValue" if self.sender_fault else "InternalError"
        return {
            **reply,
            "Failed": [{"Id": failed["Id"], "Code": code, "Message": "Failed", "SenderFault": self.sender_fault}],
        }


EVERY_FAULT: Final[Mapping[str, Callable[[], Fault]]] = {
    "killed before": lambda: Fault(killed_before),
    "killed after": lambda: Fault(killed_after),
    "cut off": lambda: Fault(cut_off),
    "throttled": lambda: Fault(throttled),
    "unreachable three times": lambda: Fault(unreachable, lasts=3),
    "unavailable to the end": lambda: Fault(unavailable, lasts=float("inf")),
    "out of time": lambda: Fault(out_of_time),
    "first entry fails": lambda: Fault(Fails(0), concerns=BATCHES),
    "last entry fails to the end": lambda: Fault(Fails(-1), concerns=BATCHES, lasts=float("inf")),
    "first entry refused": lambda: Fault(Fails(0, sender_fault=True), concerns=BATCHES),
    "last entry refused": lambda: Fault(Fails(-1, sender_fault=True), concerns=BATCHES),
}
"""What is tried at every call, by name. Each is a fresh one, whose `at` is still to be set."""
