"""Every error that Parcelq raises on purpose: one root, and subclasses that carry what they are about."""

from __future__ import annotations

from collections.abc import Sequence

_MISTAKES = frozenset({"NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ParamValidationError"})
"""botocore's errors for a request that it never sent; sending it again cannot help."""

_FORBIDDEN = 403
_CREDENTIALS = ("Signature", "Token", "AccessKey", "Expired", "ClientTokenId")
"""Parts of error codes that say that the credentials are wrong, not that they lack a right."""


class ParcelqError(Exception):
    """Root of all errors raised by Parcelq. Its text is one sentence that is fit to be shown to a user."""


class InvalidValueError(ParcelqError, ValueError):
    """A value that a caller gave, or that a file holds, is not acceptable.

    Attributes:
        name: what the value was for.
        value: the value itself.
        wanted: what it must be.
    """

    def __init__(self, name: str, value: object, wanted: str) -> None:
        super().__init__(f"{name} is {value!r}, but must be {wanted}")
        self.name = name
        self.value = value
        self.wanted = wanted


class RecordError(ParcelqError, ValueError):
    """Some bytes do not fit their record format, so nobody knows where their records begin and end.

    Attributes:
        format: the format's short text, such as `csv`.
        reason: what is wrong, without the place.
        record: number of the record, from 1; 0 is the header.
        line: number of its first line, from 1.
        offset: of its first byte, from 0, in the source as it is when decompressed.
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
    """A compressed source cannot be decompressed.

    Attributes:
        name: the source's name.
        reason: what is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} {reason}")
        self.name = name
        self.reason = reason


class SourceError(ParcelqError):
    """A source cannot be uploaded, however often it is tried: it does not fit its record format or is broken.

    Attributes:
        source: the source's name, path or address.
        reason: what is wrong with it.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be uploaded: {reason}")
        self.source = source
        self.reason = reason


class LineageError(ParcelqError, ValueError):
    """A text is no lineage, or lineages do not fit together."""


class MessageError(ParcelqError, ValueError):
    """A message cannot be read (unknown encoding, broken pointer) or cannot be sent (too large, bad attributes)."""


class TopicError(ParcelqError):
    """Something is wrong with a topic.

    Attributes:
        topic: the topic's name or URL, as far as it is known.
    """

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"topic {topic!r}: {reason}")
        self.topic = topic


class TopicNotFoundError(TopicError):
    """There is no such topic."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic, "there is no topic of that name in this account and region")


class TopicExistsError(TopicError):
    """There is a topic of that name already, with other attributes."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic, "it exists already, with other attributes")


class TopicBlockedError(TopicError):
    """The name was deleted less than 60 s ago, so SQS refuses to create it again yet."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic, "it was deleted less than 60 seconds ago; SQS refuses the name until then")


class AwsError(ParcelqError):
    """AWS refused a request, or could not be reached.

    Attributes:
        operation: the API's operation, such as `SendMessageBatch`.
        code: AWS's error code, such as `AccessDenied`; the exception's class name where no answer came.
        status: the HTTP status, or None where no answer came.
    """

    def __init__(self, operation: str, code: str, message: str, status: int | None = None) -> None:
        # Without a status no answer came. Then the message is enough, and the name of an exception would not help.
        super().__init__(f"{operation} failed" + (f" with {code}" if status else "") + f": {message}")
        self.operation = operation
        self.code = code
        self.status = status

    @property
    def is_denied(self) -> bool:
        """Whether AWS refuses because a right is missing."""
        return self.status == _FORBIDDEN and not any(word in self.code for word in _CREDENTIALS)

    @property
    def server_fault(self) -> bool:
        """Whether a retry may help: throttling, a fault on AWS's side, or no answer at all."""
        if self.status is None:
            return self.code not in _MISTAKES
        return (
            self.status >= 500
            or self.status == 429
            or "Throttl" in self.code
            or self.code in {"RequestLimitExceeded", "SlowDown", "OverLimit", "KmsThrottled"}
        )


class StoreError(ParcelqError):
    """Something is wrong with an object of a store.

    Attributes:
        key: the object's key.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"object {key!r}: {reason}")
        self.key = key


class NotFoundError(StoreError):
    """There is no such object, or no such unfinished upload of it."""

    def __init__(self, key: str, reason: str = "it does not exist") -> None:
        super().__init__(key, reason)


class ConflictError(StoreError):
    """An object was not written because someone else created, replaced or deleted it first."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "someone else wrote or deleted it in the meantime")


class PublishError(ParcelqError):
    """Messages could not be published, so what they came from must not be acknowledged.

    Attributes:
        reasons: one text for each message that failed.
    """

    def __init__(self, topic: str, reasons: Sequence[str]) -> None:
        super().__init__(
            f"{len(reasons)} message(s) could not be published to {topic!r}; the first because {reasons[0]}"
        )
        self.topic = topic
        self.reasons = tuple(reasons)


class SettingsError(ParcelqError, ValueError):
    """A settings file, an environment or the path of a step is wrong; the text names every mistake.

    Attributes:
        problems: one text for each thing that is wrong.
    """

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        super().__init__(f"{where}: {'; '.join(problems)}")
        self.where = where
        self.problems = tuple(problems)


class WorkflowError(ParcelqError):
    """A workflow, or a version of it, is not there or cannot be used.

    Attributes:
        workflow: the workflow's name, perhaps with `@` and the version.
        reason: why not.
    """

    def __init__(self, workflow: str, reason: str) -> None:
        super().__init__(f"workflow {workflow!r}: {reason}")
        self.workflow = workflow
        self.reason = reason


class BundleError(ParcelqError):
    """A bundle of files is damaged, or cannot be made or unpacked.

    Attributes:
        bundle: the SHA-256 that names it, or its file's name.
        reason: what is wrong.
    """

    def __init__(self, bundle: str, reason: str) -> None:
        super().__init__(f"bundle {bundle[:16]}: {reason}")
        self.bundle = bundle
        self.reason = reason


class StepError(ParcelqError):
    """A step failed.

    Attributes:
        step: the step's name.
        exit_code: what it exited with; negative is the signal that ended it; None if it never started or timed out.
        timed_out: whether it was killed because its time was up.
        no_room: whether the machine lacked room, memory or processes for it, or AWS did not give its secrets. That says
            nothing against its input.
        stderr_tail: the end of what it wrote to stderr.
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
    """A job cannot continue.

    Attributes:
        job: the job's id.
        reason: why not.
    """

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(f"job {job}: {reason}")
        self.job = job
        self.reason = reason
