"""The properties of a stack with the template's default parameters. A test compares them with the template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setup:
    """The parameters of the template that estimates vary. Memory is in MB, and the timeout is in seconds.

    `uploads` and `collects` are the parameters UploadConcurrency and CollectConcurrency.
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
    """The properties of a stack that estimates do not vary.

    Attributes:
        alarms: how many CloudWatch alarms the stack has.
        dashboards: how many CloudWatch dashboards the stack has.
        mappings: how many event source mappings poll SQS.
        collect_seconds: how many seconds pass between two starts of the downloader by its schedule.
        uploader_mb: the memory of the uploader in MB.
        downloader_mb: the memory of the downloader in MB.
        disk_gb: the size of a processor's /tmp in GB.
        range_bytes: the size in bytes of a range, and above which an object is uploaded in ranges.
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
