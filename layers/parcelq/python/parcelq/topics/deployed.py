"""The configuration, the topics and the bucket that all invocations of an instance of a deployed function share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from parcelq.aws.clients import s3_client, sqs_client
from parcelq.config import Config, load
from parcelq.store.bucket import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.cost import METER
from parcelq.topics.overflow import Overflow

if TYPE_CHECKING:
    from parcelq.topics.sqs import SqsTopic


class Deployed(NamedTuple):
    """The stack of a deployed function. `METER` counts all requests of its clients."""

    config: Config
    topics: Topics
    store: BucketStore
    overflow: Overflow

    @classmethod
    def connect(cls) -> Deployed:
        """Read the function's environment and create its clients. Raises SettingsError if a variable is wrong."""
        config, sqs, s3 = load(), sqs_client(), s3_client()
        METER.watch(sqs, s3)
        return cls(config, Topics(sqs), BucketStore(s3, config.bucket), Overflow(s3, config.bucket, only_own=True))

    def topic(self, name: str) -> SqsTopic:
        """Return the stack's topic with a name or URL."""
        from parcelq.topics.sqs import SqsTopic  # few actions of topic_admin need it

        return SqsTopic(self.topics.sqs, self.topics.url(name), self.overflow)
