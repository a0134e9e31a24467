"""The rest of a source that is one stream: a task for another invocation, which continues at an entry."""

from __future__ import annotations

import json
from typing import NamedTuple, Self

from parcelq.errors import InvalidValueError, MessageError
from parcelq.lineage.source import Source
from parcelq.records import Format, parse
from parcelq.upload.ranges import MAX_HEADER, MAX_OBJECT_BYTES, RangeTask
from parcelq.upload.sources import Rest


class StreamTask(NamedTuple):
    """The rest of a source that is uploaded as one stream.

    Attributes:
        source: the object's source.
        topic: name of the topic to publish its entries on.
        format: the record format's short text.
        rest: where it goes on.
        workflow: the attribute `Workflow` of the messages; empty for the built-in step.
    """

    source: str
    topic: str
    format: str
    rest: Rest
    workflow: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a task again.

        Raises:
            MessageError: it is none.
        """
        try:
            told = json.loads(text)
            task = cls(**{**told, "rest": Rest(**told["rest"])})
            Source.parse(task.source)
            task._check()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise MessageError(f"{text[:200]!r} is not the rest of an object: {error}") from None
        return task

    def __str__(self) -> str:
        return json.dumps({**self._asdict(), "rest": self.rest._asdict()})

    @property
    def records(self) -> Format:
        """The record format."""
        return parse(self.format)

    def _check(self) -> None:
        rest = self.rest
        texts = {"topic": self.topic, "format": self.format, "header": rest.header, "workflow": self.workflow}
        for name, value in texts.items():
            if not isinstance(value, str) or len(value) > MAX_HEADER:
                raise InvalidValueError(name, value, f"a text of at most {MAX_HEADER} characters")
        for name, number in (("start", rest.start), ("record", rest.record), ("line", rest.line)):
            if type(number) is not int or not 1 <= number <= MAX_OBJECT_BYTES:
                raise InvalidValueError(name, number, f"a whole number from 1 to {MAX_OBJECT_BYTES}")
        if type(rest.coded) is not bool:
            raise InvalidValueError("coded", rest.coded, "true or false")
        parse(self.format)


def task_of(text: str) -> RangeTask | StreamTask:
    """Read a task of the topic of ranges.

    Raises:
        MessageError: it is none.
    """
    return StreamTask.parse(text) if '"rest"' in text else RangeTask.parse(text)
