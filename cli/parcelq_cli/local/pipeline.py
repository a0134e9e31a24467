"""The deployed pipeline on this machine: the template's resources on the local server, the functions as processes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parcelq.names import INBOX, RESULTS, dead_letter
from parcelq.redrive import peek
from parcelq.report import REPORT_SUFFIX
from parcelq.steps import Step
from parcelq.topics import Topics
from parcelq_cli.local import stack as deployed
from parcelq_cli.local.function import FunctionProcess, FunctionSpec, InvocationError
from parcelq_cli.local.leftovers import end_processes_below
from parcelq_cli.local.pump import Mapped, Pump
from parcelq_cli.local.server import Server
from parcelq_cli.local.template import REGION, load

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from parcelq.message import Pulled

ROOT: Final = Path(__file__).resolve().parents[3]
"""Where the template, the functions and the layer lie: the checkout that this is installed from."""
_LIBRARY: Final = ROOT / "layers" / "parcelq" / "python"
_EVENTS_TOPIC: Final = "s3-events"
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user of the embedded stack chooses.

    Attributes:
        steps: the steps, in a row; each gets a stage of its own.
        batch_size: how many entries a step should get at a time.
        parcel_size: most entries of a message.
        range_bytes: files larger than this are uploaded range by range.
        instances: processes of each processor.
    """

    steps: Sequence[Step]
    batch_size: int = 1000
    parcel_size: int = 1000
    range_bytes: int = 256 * 1024 * 1024
    instances: int = os.cpu_count() or 1

    @property
    def stages(self) -> dict[str, Step]:
        """The steps by the names of their stages."""
        if len(self.steps) == 1:
            return {"step": self.steps[0]}
        return {f"step{number}": step for number, step in enumerate(self.steps, 1)}

    def parameters(self) -> dict[str, str]:
        """The template's parameters that follow from it."""
        return {
            "Stages": ",".join(self.stages),
            "BatchSize": str(self.batch_size),
            "ParcelSize": str(self.parcel_size),
            "RangeBytes": str(self.range_bytes),
            "WorkflowId": self.steps[0].workflow_id,
            # A message that failed comes again after about a second: nobody here waits for a cloud to recover.
            "BackOffSeconds": "1",
        }


def environment(url: str) -> dict[str, str]:
    """The variables with which any client of AWS talks to the local server, and to nobody else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Pipeline:
    """A running stack. Use `running` to make one.

    Attributes:
        url: the local server's endpoint.
        errors: invocations that ended without an answer, so far.
    """

    def __init__(self, url: str, stack: deployed.Stack, sqs: SQSClient, s3: S3Client) -> None:
        self.url = url
        self.errors: list[InvocationError] = []
        self._stack = stack
        self._topics = Topics(sqs)
        self._s3 = s3
        self._pump = Pump(sqs, self.errors.append)
        self._events_url = self._topics.create_queue(_EVENTS_TOPIC, {"VisibilityTimeout": "900"})

    def put(self, file: Path, name: str) -> None:
        """Put a file into the inbox."""
        self._s3.upload_file(str(file), self._stack.bucket, INBOX + name)

    def waiting(self) -> int:
        """Messages that the functions have not dealt with yet, those under way included.

        Raises:
            ParcelqError: the pump stands still.
        """
        self._pump.check()
        urls = {mapping.topic_url for mapping in self._stack.mappings} | {self._events_url}
        return sum(int(self._topics.attributes(url)[name]) for url in urls for name in _COUNTS)

    def collect(self, quiet_seconds: float = 1) -> dict[str, Any]:
        """Run the downloader once; it ends when nothing came for so many seconds.

        Raises:
            InvocationError: it ended without an answer; nothing is lost by that.
        """
        answer: dict[str, Any] = self._downloader.invoke({"receive_message_timeout": quiet_seconds})
        return answer

    def fetch(self, name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
        """Bring a result into a folder, with the report beside it, and return its path and the report."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("", REPORT_SUFFIX):
            self._s3.download_file(self._stack.bucket, RESULTS + name + suffix, str(path) + suffix)
        return path, json.loads(Path(str(path) + REPORT_SUFFIX).read_bytes())

    def dead_letters(self) -> list[Pulled]:
        """What failed for good, on all stages."""
        found: list[Pulled] = []
        for mapping in self._stack.mappings:
            topic = dead_letter(mapping.topic_url)
            found += peek(self._topics.sqs, topic)
        return found
