"""The properties of a stack with the template's default parameters. A test compares them with the template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setup:
    """The template's parameters that estimates vary. `uploads` is UploadConcurrency, and `collects` is
    CollectConcurrency. Memory is in MB. Without a batch size, the batch size is the parcel size.
    """

    parcel_size: int = 1000
    batch_size: int | None = None
    memory: int = 1769
    concurrency: int = 5
    timeout: int = 300
    uploads: int = 2
    collects: int = 2

    @property
    def batch(self) -> int:
        """How many entries each run of the step should get."""
        return self.batch_size or self.parcel_size


@dataclass(frozen=True, slots=True)
class StackFacts:
    """The properties of a stack that estimates do not vary.

    Attributes:
        mappings: how many event source mappings poll SQS.
        collect_seconds: how many seconds pass between two starts of the downloader by its schedule.
        disk_gb: the size of a processor's /tmp.
        range_bytes: the size of a range. A larger object is uploaded in ranges.
        together: the most messages that an invocation of the processor gets.
    """

    alarms: int = 17
    dashboards: int = 1
    mappings: int = 3
    collect_seconds: float = 3600
    uploader_mb: int = 1769
    downloader_mb: int = 1769
    disk_gb: float = 2.0
    range_bytes: int = 268435456
    together: int = 10
