"""The limits that stop a job of a workflow."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from parcelq.errors import InvalidValueError

LEAST_SEEN: Final = 1000
"""A limit for the share of dead entries applies only after this many entries."""
_LIMIT: Final = re.compile(r"([0-9]{1,12})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


class Limits(NamedTuple):
    """The limits that stop a job of a workflow.

    Attributes:
        max_dead: how many entries may be dead; None for no limit.
        max_dead_share: largest share of dead entries among the processed entries, from 0 to 1; None for no limit.
        max_seconds: how many seconds the job may take; None for no limit.
    """

    max_dead: int | None = None
    max_dead_share: float | None = None
    max_seconds: int | None = None

    def exceeded(self, dead: int, seen: float, seconds: float, reason: str = "") -> str:
        """Return a sentence about the limit that a job exceeds; empty if it exceeds no limit. `seen` entries were
        processed, including the dead entries, and `reason` says why one of these failed.
        """
        because = f": {reason}" if reason else ""
        if self.max_dead is not None and dead > self.max_dead:
            return f"{dead} records failed, more than {self.max_dead}{because}"
        share = self.max_dead_share
        if share is not None and seen >= LEAST_SEEN and dead > share * seen:
            return f"{dead} of {seen:.0f} records failed, more than {share:.3%}{because}"
        if self.max_seconds is not None and seconds > self.max_seconds:
            return f"the job took longer than {self.max_seconds} s"
        return ""

    def to_document(self) -> dict[str, Any]:
        """Return the limits that are set, in the form of `workflow.yaml`."""
        share = self.max_dead_share
        dead = self.max_dead if share is None else f"{100 * share:.10g}%"
        limits = {"max_dead": dead, "max_seconds": self.max_seconds}
        return {name: value for name, value in limits.items() if value is not None}

    @classmethod
    def of_dead(cls, text: str) -> Limits:
        """Read a number of dead entries such as `10` or a share such as `1%`, or raise InvalidValueError."""
        found = _LIMIT.fullmatch(text)
        if not found or (found[2] and float(found[2]) > 100):
            raise InvalidValueError("limit", text, "a number such as 10, or a share such as 1%")
        return cls(max_dead=int(found[1])) if found[1] else cls(max_dead_share=float(found[2]) / 100)


NO_LIMITS: Final = Limits()
