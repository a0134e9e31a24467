"""The roles in the template, and whether they allow the calls that the functions make.

Moto's policy class evaluates statements. Not checked: conditions other than the prefix of a listing, the use of a KMS
key, and what the Lambda service does itself, such as writing logs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from parcelq_emulator.template import load

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
ACCOUNT, REGION, PREFIX = "123456789012", "us-east-1", "parcelq"
SQS = f"arn:aws:sqs:{REGION}:{ACCOUNT}:"
STEP_ROLE = f"arn:aws:iam::{ACCOUNT}:role/steps"
SECRETS = (
    f"arn:aws:ssm:eu-central-1:{ACCOUNT}:parameter/parcelq/step/API_KEY",
    f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:parcelq/step/TOKEN-*",  # moto makes up the end
)
ROLES = {
    "uploader": "UploaderRole",
    "processor": "StageRole{}",
    "downloader": "DownloaderRole",
    "topic_admin": "TopicAdminRole",
}
BY_LAMBDA = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
"""What Lambda does in a function's name with the topics that its events come from."""
UNCHECKED = {"logs", "xray", "kms"}
"""Services that no handler calls by itself: Lambda writes logs and traces, S3 and SQS use the key."""
_OBJECTS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
}
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""


@dataclass(frozen=True)
class Asked:
    """A call, as IAM sees it: https://docs.aws.amazon.com/service-authorization/latest/reference/"""

    action: str
    resource: str
    prefix: str | None = None


@dataclass
class Role:
    """A function's role.

    Attributes:
        statements: by their ids.
        used: ids of statements and the actions of each that were asked for.
    """

    statements: Mapping[str, Mapping[str, Any]]
    used: set[tuple[str, str]] = field(default_factory=set)

    def allows(self, asked: Asked) -> bool:
        """Whether a statement allows a call; which one is noted."""
        found = [sid for sid, statement in self.statements.items() if _permits(statement, asked)]
        self.used.update((sid, asked.action) for sid in found)
        return bool(found)

    def in_vain(self) -> set[tuple[str, str]]:
        """Ids of statements and those of their actions that nobody asked for."""
        every = {(sid, action) for sid, one in self.statements.items() for action in _listed(one["Action"])}
        return {(sid, action) for sid, action in every - self.used if action.partition(":")[0] not in UNCHECKED}


def _permits(statement: Mapping[str, Any], asked: Asked) -> bool:
    plain = {name: value for name, value in statement.items() if name != "Condition"}
    answer = IAMPolicyStatement(plain).is_action_permitted(asked.action, asked.resource)
    prefixes = statement.get("Condition", {}).get("StringLikeIfExists", {}).get("s3:prefix", ["*"])
    return answer is PermissionResult.PERMITTED and (
        asked.prefix is None or any(fnmatchcase(asked.prefix, one) for one in prefixes)
    )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@cache
def template(stage: str) -> Mapping[str, Any]:
    return load(TEMPLATE, {"Stages": stage})  # its conditions are open: what depends on one is there


def roles(stage: str = "step") -> dict[str, Role]:
    """The functions' roles in a stack of one stage, with nothing used of them."""
    resources = template(stage)["Resources"]

    def arn(value: Any) -> Any:
        match value:
            case {"Fn::Sub": str(text)}:
                return sub(text)
            case {"Ref": "StepRole"}:
                return STEP_ROLE
            case {"Ref": "Secrets"}:
                return list(SECRETS)
            case {"Fn::GetAtt": [{"Fn::Sub": str(name)}, "Arn"]} | {"Fn::GetAtt": [str(name), "Arn"]}:
                properties = resources[sub(name)]["Properties"]
                if resources[sub(name)]["Type"] == "AWS::SQS::Queue":
                    return SQS + sub(properties["QueueName"]["Fn::Sub"])
                return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}"
            case list():
                return [arn(one) for one in value]
        return value

    def sub(text: str) -> str:
        known = {
            "Bucket.Arn": f"arn:aws:s3:::{PREFIX}-{ACCOUNT}-{REGION}",
            "Prefix": PREFIX,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "BucketSuffix": "",
        }
        for name, value in known.items():
            text = text.replace(f"${{{name}}}", value)
        return text

    def role(name: str) -> Role:
        (policy,) = resources[name]["Properties"]["Policies"]
        written = policy["PolicyDocument"]["Statement"]
        given = [one["Fn::If"][1] if "Fn::If" in one else one for one in written]
        bucket = {"Fn::GetAtt": ["Bucket", "Arn"]}
        made = {}
        for one in given:
            resource = sub("${Bucket.Arn}") if one["Resource"] == bucket else arn(one["Resource"])
            made[one["Sid"]] = json.loads(json.dumps({**one, "Resource": resource}))
        return Role(made)

    return {function: role(name.format(stage)) for function, name in ROLES.items()}


def asked_for(operation: str, params: Mapping[str, Any]) -> list[Asked]:
    """What a call asks for; several things where it names several objects."""
    if operation == "PutEvents":
        return [Asked("events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default")]
    if operation == "AssumeRole":
        return [Asked("sts:AssumeRole", params["RoleArn"])]
    if operation == "GetSecretValue":
        return [Asked("secretsmanager:GetSecretValue", params["SecretId"])]
    if operation == "GetParameter":
        return [Asked("ssm:GetParameter", f"arn:aws:ssm:eu-central-1:{ACCOUNT}:parameter{params['Name']}")]
    if operation == "ListQueues":
        return [Asked("sqs:ListQueues", "*")]
    if "Bucket" in params:
        bucket = f"arn:aws:s3:::{params['Bucket']}"
        if operation == "ListObjectsV2":
            return [Asked("s3:ListBucket", bucket, params.get("Prefix", ""))]
        if operation == "DeleteObjects":
            return [Asked("s3:DeleteObject", f"{bucket}/{one['Key']}") for one in params["Delete"]["Objects"]]
        if operation == "CopyObject":
            source = params["CopySource"]
            return [
                Asked("s3:GetObject", f"arn:aws:s3:::{source['Bucket']}/{source['Key']}"),
                Asked("s3:PutObject", f"{bucket}/{params['Key']}"),
            ]
        action = _OBJECTS[operation] + ("Version" if "VersionId" in params else "")
        return [Asked(action, f"{bucket}/{params['Key']}")]
    name = params.get("QueueName") or params["QueueUrl"].rpartition("/")[2]
    return [Asked(f"sqs:{operation.removesuffix('Batch')}", SQS + name)]


@contextmanager
def checking(function: str, role: Role, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail at any call in this context that a function's role does not allow."""
    real: Callable[..., Any] = BaseClient._make_api_call  # type: ignore[attr-defined]

    def call(client: Any, operation: str, params: dict[str, Any]) -> Any:
        for asked in asked_for(operation, params):
            if not role.allows(asked):
                pytest.fail(f"the role of {function} does not allow {operation}: {asked}")
        try:
            return real(client, operation, params)
        except ClientError as error:
            # Without the right to list, S3 answers that the object is forbidden.
            if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                asked = Asked("s3:ListBucket", f"arn:aws:s3:::{params['Bucket']}")
                if not role.allows(asked):
                    pytest.fail(f"the role of {function} does not let it see that {params['Key']} is missing")
            raise

    with monkeypatch.context() as patched:
        patched.setattr(BaseClient, "_make_api_call", call)
        yield
