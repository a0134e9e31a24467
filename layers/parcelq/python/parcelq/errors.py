"""All errors that Parcelq raises on purpose: one root class, and subclasses that have attributes."""

from __future__ import annotations

from collections.abc import Sequence

_MISTAKES = frozenset({"NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ParamValidationError"})
"""The names of botocore's errors for requests that were never sent because they are wrong. A retry cannot help."""

_FORBIDDEN = 403
_CREDENTIALS = ("Signature", "Token", "AccessKey", "Expired", "ClientTokenId")
"""Parts of error codes that mean wrong credentials, not missing permissions."""


class ParcelqError(Exception):
    """The root class of all errors of Parcelq. The text of an error is one sentence that can be shown to a user."""


class InvalidValueError(ParcelqError, ValueError):
    """A value from a caller or a file is invalid; `wanted` says what it must be."""

    def __init__(self, name: str, value: object, wanted: str) -> None:
        super().__init__(f"{name} is {value!r}, but must be {wanted}")
        self.name = name
        self.value = value
        self.wanted = wanted


class RecordError(ParcelqError, ValueError):
    """Bytes do not match their record format, so the boundaries of their records are unknown.

    Attributes:
        reason: what is wrong; the position is not part of this text.
        record: the number of the invalid record, from 1; 0 is the header.
        line: the number of the record's first line, from 1.
        offset: the offset of the record's first byte in the decompressed source, from 0.
        counted_from: the offset from which records and lines are counted; 0 is the source's first byte.
    """

    def __init__(self, fmt: str, reason: str, *, record: int, line: int, offset: int, counted_from: int = 0) -> None:
        what = f"record {record}" if record else "the header"
        since = f", counted from byte {counted_from}" if counted_from else ""
        super().__init__(f"{fmt}: {what} (line {line}{since}; byte {offset}) {reason}")
        self.format = fmt
        self.reason = reason
        self.record = record
        self.line = line
        self.offset = offset
        self.counted_from = counted_from


class CompressionError(ParcelqError, ValueError):
    """A compressed source cannot be decompressed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} {reason}")
        self.name = name
        self.reason = reason


class SourceError(ParcelqError):
    """A source (a name, path or address) can never be processed: it does not match its record format or is damaged."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be processed: {reason}")
        self.source = source
        self.reason = reason


class LineageError(ParcelqError, ValueError):
    """A text is not a valid lineage, or lineages do not belong together."""


class MessageError(ParcelqError, ValueError):
    """A message cannot be read (unknown encoding, broken pointer) or cannot be sent (too large, bad attributes)."""


class TopicError(ParcelqError):
    """An operation on a topic (an SQS queue), given by its name or URL, failed."""

    usual_reason = ""

    def __init__(self, topic: str, reason: str = "") -> None:
        super().__init__(f"topic {topic!r}: {reason or self.usual_reason}")
        self.topic = topic


class TopicNotFoundError(TopicError):
    """The topic does not exist."""

    usual_reason = "there is no topic of that name in this account and region"


class TopicExistsError(TopicError):
    """A topic cannot be created, because a topic of that name already exists with other attributes."""

    usual_reason = "it already exists, with other attributes"


class TopicBlockedError(TopicError):
    """The topic was deleted less than 60 s ago; SQS refuses to create the topic again within that time."""

    usual_reason = "it was deleted less than 60 seconds ago; until then SQS refuses the name"


class AwsError(ParcelqError):
    """AWS refused a request, or could not be reached.

    Attributes:
        operation: the API's operation, such as `SendMessageBatch`.
        code: AWS's error code, such as `AccessDenied`; the exception's class name if there was no answer.
        status: the HTTP status; None if there was no answer.
    """

    def __init__(self, operation: str, code: str, message: str, status: int | None = None) -> None:
        # If there is no status, AWS did not answer. Then the message is enough, and the name of an exception would not
        # help.
        super().__init__(f"{operation} failed" + (f" with {code}" if status else "") + f": {message}")
        self.operation = operation
        self.code = code
        self.status = status

    @property
    def is_denied(self) -> bool:
        """Whether AWS refused the request because a permission is missing."""
        return self.status == _FORBIDDEN and not any(word in self.code for word in _CREDENTIALS)

    @property
    def server_fault(self) -> bool:
        """Whether a retry may help, because AWS throttled the request, failed, or did not answer."""
        if self.status is None:
            return self.code not in _MISTAKES
        return (
            self.status >= 500
            or self.status == 429
            or "Throttl" in self.code
            or self.code in {"RequestLimitExceeded", "SlowDown", "OverLimit", "KmsThrottled"}
        )


class StoreError(ParcelqError):
    """An operation on an object of a store failed."""

    usual_reason = ""

    def __init__(self, key: str, reason: str = "") -> None:
        super().__init__(f"object {key!r}: {reason or self.usual_reason}")
        self.key = key


class NotFoundError(StoreError):
    """An object of a store, or the object's unfinished multipart upload, does not exist."""

    usual_reason = "it does not exist"


class ConflictError(StoreError):
    """An object was not written because another process created, replaced or deleted it first."""

    usual_reason = "another process wrote or deleted it in the meantime"


class PublishError(ParcelqError):
    """Messages could not be published, so the messages from which they were made must not be acknowledged.

    `reasons` has one text for each message that failed.
    """

    def __init__(self, topic: str, reasons: Sequence[str]) -> None:
        super().__init__(
            f"{len(reasons)} message(s) could not be published to {topic!r}; reason of the first: {reasons[0]}"
        )
        self.topic = topic
        self.reasons = tuple(reasons)


class SettingsError(ParcelqError, ValueError):
    """A settings file, an environment or the path of a step is wrong; `problems` has a sentence for every mistake."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        super().__init__(f"{where}: {'; '.join(problems)}")
        self.where = where
        self.problems = tuple(problems)


class WorkflowError(ParcelqError):
    """A workflow or a version of it (`name@version`) does not exist or cannot be used."""

    def __init__(self, workflow: str, reason: str) -> None:
        super().__init__(f"workflow {workflow!r}: {reason}")
        self.workflow = workflow
        self.reason = reason


class BundleError(ParcelqError):
    """A bundle of files (its SHA-256, or its file's name) is damaged, or cannot be made or unpacked."""

    def __init__(self, bundle: str, reason: str) -> None:
        super().__init__(f"bundle {bundle[:16]}: {reason}")
        self.bundle = bundle
        self.reason = reason


class StepError(ParcelqError):
    """A run of a step failed.

    Attributes:
        exit_code: the step's exit code; minus the number of the signal that ended the step; None if the step never
            started or timed out.
        timed_out: whether the step took too long and was killed.
        no_room: whether the failure is not the input's fault: the machine had too little disk, memory or processes for
            the step, or AWS did not deliver the step's secrets.
        stderr_tail: the end of what the step wrote to stderr.
    """

    def __init__(
        self,
        step: str,
        reason: str,
        *,
        exit_code: int | None = None,
        timed_out: bool = False,
        no_room: bool = False,
        stderr_tail: str = "",
    ) -> None:
        super().__init__(f"step {step!r} {reason}" + (f": {stderr_tail.strip()}" if stderr_tail.strip() else ""))
        self.step = step
        self.reason = reason
        self.exit_code = exit_code
        self.timed_out = timed_out
        self.no_room = no_room
        self.stderr_tail = stderr_tail


class JobError(ParcelqError):
    """A job cannot continue."""

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(f"job {job}: {reason}")
        self.job = job
        self.reason = reason
