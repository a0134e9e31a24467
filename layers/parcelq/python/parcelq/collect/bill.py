"""The cost of a job: adds up the costs in messages, upload notes and the job's record, and applies list prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from parcelq.collect.indexes import Index
from parcelq.topics.cost import NOTHING, Cost, class_end
from parcelq.upload.notes import Note

_POLLS: Final = 2
"""How many requests Lambda itself (not Parcelq's code) sends to receive and delete the messages of one invocation."""


class Bill(NamedTuple):
    """The cost of a job, separately for each kind of Lambda function. The processors' cost includes duplicate messages,
    and the downloader's cost all looks at the job up to the look that wrote the report.
    """

    uploader: Cost = NOTHING
    processors: Cost = NOTHING
    downloader: Cost = NOTHING

    @classmethod
    def of(cls, indexes: Sequence[Index], notes: Iterable[Note], looks: Cost = NOTHING) -> Bill:
        """Return the sum of the known costs of a job."""
        return cls(
            sum((note.spent for note in notes), NOTHING),
            sum((index.processing for index in indexes), NOTHING),
            sum((index.draining for index in indexes), looks),
        )

    def document(self) -> dict[str, Any]:
        """Return the bill for the report. If the job ran without AWS, the bill contains only the runs."""
        runs = self.processors.runs
        document: dict[str, Any] = {
            "runs": {
                "count": sum(runs.values()),
                "seconds": self.processors.run_ms / 1000,
                "durations": [
                    [round(class_end(one) / 1000, 4), runs.get(one, 0)]
                    for one in range(min(runs, default=0), max(runs, default=-1) + 1)
                ],
            }
        }
        functions = {"uploader": self.uploader, "processors": self.processors, "downloader": self.downloader}
        if not any(cost.invocations for cost in functions.values()):
            return document
        for name, cost in functions.items():
            document[name] = {
                "invocations": cost.invocations,
                "seconds": cost.ms / 1000,
                "gb_seconds": round(cost.mb_ms / 1024 / 1000, 3),
                "requests": cost.requests,
            }
        document["usd"] = _dollars(sum(functions.values(), NOTHING))
        return document


def _dollars(cost: Cost) -> dict[str, Any]:
    from parcelq.prices import load_prices  # imported here, because only the end of a job needs prices

    prices = load_prices()
    usd = {name: price.usd for name, price in prices.of.items()}
    parts = {
        "lambda": cost.invocations * usd["lambda_requests"] + cost.mb_ms / 1024 / 1000 * usd["lambda_gb_seconds"],
        "sqs": (cost.sqs + _POLLS * cost.invocations) * usd["sqs_requests"],
        "s3": cost.puts * usd["s3_puts"] + cost.gets * usd["s3_gets"],
    }
    rounded = {name: round(value, 8) for name, value in parts.items()}
    days = prices.days
    dated = str(days[1]) if days else ""
    return {**rounded, "total": round(sum(parts.values()), 8), "region": prices.region, "prices_of": dated}
