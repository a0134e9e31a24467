"""The emulated stack: creates the template's resources through the CloudFormation API, and reads their properties from
the server.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from parcelq.aws.clients import translated
from parcelq.names import topic_of_arn, topic_of_url
from parcelq.topics.admin import Topics

from parcelq_emulator.lambda_events import EventsOfBucket, Mapped
from parcelq_emulator.template import CODE_BUCKET

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_EVENTS_TOPIC: Final = "s3-events"
_CODE: Final = {"AWS::Lambda::Function": "Code", "AWS::Lambda::LayerVersion": "Content"}


@dataclass(frozen=True, slots=True)
class Clients:
    """The boto3 clients for one endpoint and region."""

    cloudformation: CloudFormationClient
    functions: LambdaClient
    s3: S3Client
    sqs: SQSClient


@dataclass(frozen=True, slots=True)
class Function:
    """A Lambda function of the stack.

    Attributes:
        name: the function's name.
        folder: the folder of the function's code, relative to the template's folder.
        handler: the handler's name, as `module.function`.
        environment: the function's environment variables.
        timeout: how many seconds an invocation may take.
        memory: the function's memory in MB.
        reserved_concurrency: how many invocations may run at a time; None if the function has no own limit.
        dead_letters_url: the URL of the topic for asynchronous events that failed too often; empty if there is none.
    """

    name: str
    folder: str
    handler: str
    environment: Mapping[str, str]
    timeout: int
    memory: int
    reserved_concurrency: int | None
    dead_letters_url: str = ""


@dataclass(frozen=True, slots=True)
class EventSource(Mapped):
    """An event source mapping of the stack.

    Attributes:
        function: the name of the function that gets the messages.
        maximum_concurrency: how many invocations the mapping may start at a time; None if it has no own limit.
    """

    function: str
    maximum_concurrency: int | None


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification from the bucket to a function.

    Attributes:
        function: the name of the function.
        event: the types of the events, such as `s3:ObjectCreated:*`.
        prefix: the prefix of the objects' keys.
    """

    function: str
    event: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Stack:
    """The created resources.

    Attributes:
        bucket: the name of the stack's bucket.
        library: the folder of the layer's code, relative to the template's folder.
        functions: all functions of the stack.
        mappings: all event source mappings of the stack.
        notifications: all notifications of the bucket.
        deadlines: maps each topic's name to its acknowledgement deadline in seconds.
        outputs: the values of the template's outputs.
    """

    bucket: str
    library: str
    functions: tuple[Function, ...]
    mappings: tuple[EventSource, ...]
    notifications: tuple[Notification, ...]
    deadlines: Mapping[str, int]
    outputs: Mapping[str, str]


def deploy(template: Mapping[str, Any], parameters: Mapping[str, str], clients: Clients, name: str) -> Stack:
    """Create a stack on the emulated server.

    Args:
        template: the template that `parcelq_emulator.template.load` returned for these parameters.
        parameters: values for the template's parameters.
        clients: clients of the emulated server, in the template's region; never clients of AWS, because the functions
            get no code.
        name: the stack's name.

    Raises:
        AwsError: if the server refused a request.
    """
    with translated():
        _put_code(template, clients.s3)
        clients.cloudformation.create_stack(
            StackName=name,
            TemplateBody=json.dumps(template, separators=(",", ":")),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        return _read(template, clients, name)


def notify(stack: Stack, topics: Topics, s3: S3Client) -> tuple[str, Mapped]:
    """Let the bucket send its events to a topic, from which the pump moves the events to a function.

    Returns: The name of the function, and the topic.
    """
    (notification,) = stack.notifications
    url = topics.create_queue(_EVENTS_TOPIC, {"VisibilityTimeout": "900"})
    arn = topics.attributes(url)["QueueArn"]
    rule: Any = {
        "QueueArn": arn,
        "Events": [notification.event],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": notification.prefix}]}},
    }
    s3.put_bucket_notification_configuration(
        Bucket=stack.bucket, NotificationConfiguration={"QueueConfigurations": [rule]}
    )
    (function,) = (one for one in stack.functions if one.name == notification.function)
    events = EventsOfBucket(url, arn, 1, 0, reports_failures=False, dead_letters_url=function.dead_letters_url)
    return function.name, events


def _put_code(template: Mapping[str, Any], s3: S3Client) -> None:
    """Put an empty archive wherever the template expects code, because the server creates no function without code."""
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    s3.create_bucket(Bucket=CODE_BUCKET)
    for folder in {_folder(resource) for resource in template["Resources"].values() if resource["Type"] in _CODE}:
        s3.put_object(Bucket=CODE_BUCKET, Key=folder, Body=archive.getvalue())


def _folder(resource: Mapping[str, Any]) -> str:
    folder: str = resource["Properties"][_CODE[resource["Type"]]]["S3Key"]
    return folder


def _read(template: Mapping[str, Any], clients: Clients, name: str) -> Stack:
    pages = clients.cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    listed = [one for page in pages for one in page["StackResourceSummaries"]]
    # The server also lists resources that it does not support, without names.
    names = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in listed if "PhysicalResourceId" in one}

    def made(kind: str) -> list[tuple[str, Mapping[str, Any]]]:
        return [(names.get(key, ""), one) for key, one in template["Resources"].items() if one["Type"] == kind]

    ((bucket, bucket_resource),) = made("AWS::S3::Bucket")
    ((_, layer),) = made("AWS::Lambda::LayerVersion")
    (stack,) = clients.cloudformation.describe_stacks(StackName=name)["Stacks"]
    return Stack(
        bucket=bucket,
        library=_folder(layer),
        functions=tuple(_function(clients, name, one, names) for name, one in made("AWS::Lambda::Function")),
        mappings=tuple(_event_source(clients, uuid) for uuid, _ in made("AWS::Lambda::EventSourceMapping")),
        notifications=tuple(_notifications(bucket_resource, names)),
        deadlines=dict(_deadline(clients, topic_of_url(url)) for url, _ in made("AWS::SQS::Queue")),
        outputs={one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]},
    )


def _function(clients: Clients, name: str, resource: Mapping[str, Any], names: Mapping[str, str]) -> Function:
    made = clients.functions.get_function_configuration(FunctionName=name)
    concurrency = clients.functions.get_function_concurrency(FunctionName=name)
    return Function(
        name=name,
        folder=_folder(resource),
        handler=made["Handler"],
        # The server returns numbers as numbers; Lambda returns texts.
        environment={key: str(value) for key, value in made["Environment"]["Variables"].items()},
        timeout=made["Timeout"],
        memory=made["MemorySize"],
        reserved_concurrency=concurrency.get("ReservedConcurrentExecutions"),
        dead_letters_url=_dead_letters(resource, names),
    )


def _dead_letters(resource: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return the URL of a function's dead-letter topic. The URL is read from the template, because the server creates
    functions without a dead-letter topic.
    """
    match resource["Properties"].get("DeadLetterConfig"):
        case {"TargetArn": {"Fn::GetAtt": [str(queue), "Arn"]}}:
            return names[queue]
    return ""


def _event_source(clients: Clients, uuid: str) -> EventSource:
    made = clients.functions.get_event_source_mapping(UUID=uuid)
    arn = made["EventSourceArn"]
    return EventSource(
        topic_url=clients.sqs.get_queue_url(QueueName=topic_of_arn(arn))["QueueUrl"],
        topic_arn=arn,
        batch_size=made["BatchSize"],
        window=made.get("MaximumBatchingWindowInSeconds", 0),
        reports_failures="ReportBatchItemFailures" in made.get("FunctionResponseTypes", []),
        function=topic_of_arn(made["FunctionArn"]),
        maximum_concurrency=made.get("ScalingConfig", {}).get("MaximumConcurrency"),
    )


def _notifications(bucket: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Notification]:
    """Yield the bucket's notifications. They are read from the template, because the server creates buckets without
    them.
    """
    for one in bucket["Properties"]["NotificationConfiguration"]["LambdaConfigurations"]:
        function, _ = one["Function"]["Fn::GetAtt"]
        (prefix,) = (rule["Value"] for rule in one["Filter"]["S3Key"]["Rules"] if rule["Name"] == "prefix")
        yield Notification(names[function], one["Event"], prefix)


def _deadline(clients: Clients, topic: str) -> tuple[str, int]:
    return topic, int(Topics(clients.sqs).attributes(topic)["VisibilityTimeout"])
