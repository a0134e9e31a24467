"""A stack made from this version's template with default parameters; a test compares both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setup:
    """The template's parameters that are varied; memory in MB, timeout in seconds.

    `uploads` and `collects` are UploadConcurrency and CollectConcurrency.
    """

    parcel_size: int = 1000
    batch_size: int = 1000
    memory: int = 1769
    concurrency: int = 5
    timeout: int = 300
    uploads: int = 2
    collects: int = 2


@dataclass(frozen=True, slots=True)
class Stack:
    """The rest of a stack.

    Attributes:
        alarms: CloudWatch alarms.
        dashboards: CloudWatch dashboards.
        mappings: event source mappings, which poll SQS.
        collect_seconds: seconds between two starts of the downloader by its schedule.
        uploader_mb: memory of the uploader.
        downloader_mb: memory of the downloader.
        disk_gb: /tmp of a processor.
        range_bytes: objects above this size are uploaded in ranges of it.
        together: most messages of an invocation of the processor.
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
