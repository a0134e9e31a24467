"""The template, and what becomes of it on moto."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from parcelq_emulator.stack import Clients, Stack, deploy
from parcelq_emulator.template import REGION, load
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template.yaml"
KEY = f"arn:aws:kms:{REGION}:123456789012:key/0a1b2c3d"


@dataclass(frozen=True)
class Deployed:
    """A stack on moto, with its intrinsic functions resolved as far as moto makes the resources.

    Attributes:
        template: the template without transforms.
        stack: what `deploy` returned.
        roles: statements of the functions' roles, by logical id.
        topics: attributes of the topics, by name.
        subscriptions: protocols and endpoints that alarms, and what is known of jobs that ended, are sent to.
        dashboard: the dashboard's body.
    """

    template: dict[str, Any]
    stack: Stack
    roles: dict[str, list[dict[str, Any]]]
    topics: dict[str, dict[Any, str]]
    subscriptions: list[tuple[str, str]]
    dashboard: dict[str, Any]


def new_session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name=REGION)


def new_clients(session: boto3.Session) -> Clients:
    return Clients(
        session.client("cloudformation"), session.client("lambda"), session.client("s3"), session.client("sqs")
    )


def deployed(parameters: Mapping[str, str]) -> Deployed:
    template = load(TEMPLATE, parameters)
    with mock_aws(), warnings.catch_warnings(action="ignore"):  # moto warns of what it does not make
        session = new_session()
        clients = new_clients(session)
        stack = deploy(template, parameters, clients, "parcelq")
        iam, sns, cloudwatch = session.client("iam"), session.client("sns"), session.client("cloudwatch")
        dashboard = parameters.get("Prefix", "parcelq")
        listed = clients.cloudformation.list_stack_resources(StackName="parcelq")["StackResourceSummaries"]
        roles = {}
        for made in (one for one in listed if one.get("ResourceType") == "AWS::IAM::Role"):
            role = made["PhysicalResourceId"]
            assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
            (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            # Moto keeps Python's text of what CloudFormation gave it, with None for AWS::NoValue.
            statements = ast.literal_eval(str(document))["Statement"]
            roles[made["LogicalResourceId"]] = [one for one in statements if one is not None]
        urls = {url.rpartition("/")[2]: url for url in clients.sqs.list_queues()["QueueUrls"]}
        return Deployed(
            template=template,
            stack=stack,
            roles=roles,
            topics={
                name: clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
                for name, url in urls.items()
            },
            subscriptions=[(one["Protocol"], one["Endpoint"]) for one in sns.list_subscriptions()["Subscriptions"]],
            dashboard=json.loads(cloudwatch.get_dashboard(DashboardName=dashboard)["DashboardBody"]),
        )


@pytest.fixture(scope="session")
def source() -> dict[str, Any]:
    """The template as it is written."""
    template: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    return template


@pytest.fixture
def clients() -> Iterator[Clients]:
    with mock_aws():
        yield new_clients(new_session())


@pytest.fixture
def deploy_with() -> Callable[[Mapping[str, str]], Deployed]:
    return deployed


@pytest.fixture(scope="session")
def one_stage() -> Deployed:
    """All defaults."""
    return deployed({})


@pytest.fixture(scope="session")
def two_stages() -> Deployed:
    """As much as possible that is no default."""
    return deployed(
        {
            "Stages": "clean,score",
            "ProcessorTimeout": "60",
            "MessagesPerInvocation": "50",
            "BatchingWindow": "2",
            "MaxFailures": "3",
            "Concurrency": "7",
            "UploadConcurrency": "4",
            "CollectConcurrency": "3",
            "AlarmEmail": "ops@example.org",
            "NotifyEmail": "lab@example.org",
            "KmsKeyArn": KEY,
        }
    )
