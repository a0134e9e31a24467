"""Reads the CloudFormation outputs of a deployed stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from parcelq.errors import AwsError, ParcelqError

if TYPE_CHECKING:
    from parcelq.jobs.versions import Versions
    from parcelq.stack.jobs import StackJobs
    from parcelq.steps.packages import Target
    from parcelq.store.bucket import BucketStore

_NEEDED: Final = (
    "BucketName",
    "TopicPrefix",
    "StageNames",
    "OutputTopic",
    "PythonVersion",
    "Platform",
    "ProcessorDisk",
)


class Stack(NamedTuple):
    """A deployed stack of Parcelq.

    Attributes:
        prefix: the text with which the names of the stack's topics and Lambda functions begin.
        output_topic: name of the topic from which results are collected.
        python: the version of Python that runs steps.
        platform: the platform for which packages are built, as uv names it. The processors run on this platform.
        storage_mib: how many MiB of disk a processor has.
    """

    name: str
    bucket: str
    prefix: str
    stages: tuple[str, ...]
    output_topic: str
    python: str
    platform: str
    storage_mib: int

    @property
    def store(self) -> BucketStore:
        """The store that keeps its objects in the stack's bucket."""
        from parcelq.aws.clients import s3_client
        from parcelq.store.bucket import BucketStore

        return BucketStore(s3_client(), self.bucket)

    @property
    def versions(self) -> Versions:
        """The workflows of the stack."""
        from parcelq.jobs.versions import Versions

        return Versions(self.store)

    @property
    def jobs(self) -> StackJobs:
        """The jobs of the stack."""
        from parcelq.aws.clients import sqs_client
        from parcelq.stack.jobs import StackJobs
        from parcelq.topics.admin import Topics
        from parcelq.topics.sqs import SqsTopic

        sqs = sqs_client()

        def topic(name: str) -> SqsTopic:
            return SqsTopic(sqs, Topics(sqs).url(name))

        looks, ranges = (lambda: topic(f"{self.prefix}-looks")), (lambda: topic(f"{self.prefix}-ranges"))
        return StackJobs(self.store, looks, ranges, self.output_topic, self.topic(self.stages[0]))

    def topic(self, stage: str) -> str:
        """Return the name of a stage's topic."""
        return f"{self.prefix}-{stage}"

    @property
    def packages_are_for(self) -> str:
        """The platform for which this stack needs packages, as a text of `parcelq.jobs.version.packages_are_for`."""
        from parcelq.jobs.version import packages_are_for

        return packages_are_for(self.python, self.platform.partition("-")[0])

    @property
    def target(self) -> Target:
        """The platform and Python version for which packages of workflows are built."""
        from parcelq.steps.packages import Target

        return Target(self.python, self.platform)


def look_up(name: str) -> Stack:
    """Look up a stack in the account and region that boto3 is configured for. Raises ParcelqError if the stack does not
    exist, or if another version of Parcelq deployed it.
    """
    from parcelq.aws.clients import other_client, translated
    from parcelq.aws.replies import needed

    client = other_client("cloudformation")
    try:
        with translated():
            found, *_ = needed(client.describe_stacks(StackName=name), "DescribeStacks", "Stacks")
    except AwsError as error:
        if error.code == "ValidationError" and "does not exist" in str(error):
            region = client.meta.region_name
            raise ParcelqError(f"there is no stack {name!r} in {region}; sam deploy creates one") from None
        raise
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())}
    if missing := [one for one in _NEEDED if one not in outputs]:
        raise ParcelqError(
            f"stack {name!r} is {found['StackStatus']} and has no output {', '.join(missing)}; "
            "deploy this version of Parcelq with sam deploy"
        )
    bucket, prefix, stages, output_topic, python, platform, storage_mib = (outputs[one] for one in _NEEDED)
    return Stack(name, bucket, prefix, tuple(stages.split(",")), output_topic, python, platform, int(storage_mib))
