"""What each function may do, statement by statement, so that a change of a policy needs a change here too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from conftest import Deployed

SQS = "arn:aws:sqs:us-east-1:123456789012:"
BUCKET = "arn:aws:s3:::parcelq-123456789012-us-east-1"
KEY = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d"

STEP_ROLE = "arn:aws:iam::123456789012:role/steps"
SECRETS = (
    "arn:aws:ssm:us-east-1:123456789012:parameter/parcelq/score/API_KEY",
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:parcelq/score/TOKEN-AbCdEf",
)
Statement = tuple[set[str], set[str]]


def log(function: str) -> dict[str, Statement]:
    group = f"arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/parcelq-{function}"
    return {
        "Log": ({"logs:CreateLogStream", "logs:PutLogEvents"}, {group}),
        "Trace": ({"xray:PutTraceSegments", "xray:PutTelemetryRecords"}, {"*"}),
    }


def processor(stage: str) -> dict[str, Statement]:
    return {
        **log(f"processor-{stage}"),
        "TakeMessages": (
            {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"},
            {f"{SQS}parcelq-{stage}"},
        ),
        "Publish": ({"sqs:SendMessage", "sqs:GetQueueUrl"}, {f"{SQS}parcelq-*"}),
        "Overflow": ({"s3:GetObject", "s3:PutObject"}, {f"{BUCKET}/overflow/*"}),
        "Mark": ({"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}, {f"{BUCKET}/marks/*"}),
        "Jobs": ({"s3:GetObject", "s3:PutObject"}, {f"{BUCKET}/jobs/*"}),
        "Headers": ({"s3:GetObject", "s3:PutObject"}, {f"{BUCKET}/segments/.headers/*"}),
        "Workflows": ({"s3:GetObject"}, {f"{BUCKET}/workflows/*"}),
        "SeeMissingObjects": ({"s3:ListBucket"}, {BUCKET}),
    }


UPLOADER: dict[str, Statement] = {
    **log("uploader"),
    "TakeRanges": (
        {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"},
        {f"{SQS}parcelq-ranges"},
    ),
    "Publish": ({"sqs:SendMessage", "sqs:GetQueueUrl"}, {f"{SQS}parcelq-*"}),
    "ReadInbox": ({"s3:GetObject", "s3:GetObjectVersion"}, {f"{BUCKET}/inbox/*"}),
    "PutBodies": ({"s3:PutObject"}, {f"{BUCKET}/{folder}/*" for folder in ("overflow", "segments/.headers")}),
    "State": (
        {"s3:GetObject", "s3:PutObject"},
        {f"{BUCKET}/{folder}/*" for folder in ("jobs", "segments/.uploads", "segments/.scans", "segments/.versions")},
    ),
    "Workflows": ({"s3:GetObject"}, {f"{BUCKET}/workflows/*"}),
    "SeeMissingObjects": ({"s3:ListBucket"}, {BUCKET}),
}
TAKE: Statement = (
    {
        "sqs:GetQueueUrl",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
    },
    {f"{SQS}parcelq-*"},
)
DOWNLOADER: dict[str, Statement] = {
    **log("downloader"),
    "TakeMessages": TAKE,
    "Segments": ({"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}, {f"{BUCKET}/segments/*"}),
    "PublishLooks": ({"sqs:SendMessage"}, {f"{SQS}parcelq-looks", f"{SQS}parcelq-ranges"}),
    "Jobs": ({"s3:GetObject", "s3:PutObject"}, {f"{BUCKET}/jobs/*"}),
    "Results": (
        {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"},
        {f"{BUCKET}/results/*"},
    ),
    "ReadBodies": ({"s3:GetObject"}, {f"{BUCKET}/overflow/*"}),
    "ListObjects": ({"s3:ListBucket"}, {BUCKET}),
    "TellThatAJobEnded": ({"events:PutEvents"}, {"arn:aws:events:us-east-1:123456789012:event-bus/default"}),
}
TOPIC_ADMIN: dict[str, Statement] = {
    **log("topic-admin"),
    "ListTopics": ({"sqs:ListQueues"}, {"*"}),
    "ManageTopics": (
        {"sqs:CreateQueue", "sqs:DeleteQueue", "sqs:PurgeQueue", "sqs:ListDeadLetterSourceQueues"},
        {f"{SQS}parcelq-*"},
    ),
    "TakeMessages": TAKE,
    "Publish": ({"sqs:SendMessage", "sqs:GetQueueUrl"}, {f"{SQS}parcelq-*"}),
    "Overflow": ({"s3:GetObject", "s3:PutObject"}, {f"{BUCKET}/overflow/*"}),
    "ReadProgress": ({"s3:GetObject"}, {f"{BUCKET}/segments/*", f"{BUCKET}/results/*.report.json"}),
    "ListProgress": ({"s3:ListBucket"}, {BUCKET}),
}


def expected(*stages: str) -> dict[str, dict[str, Statement]]:
    """Statements of all roles of functions, without a key."""
    return {
        **{f"StageRole{stage}": processor(stage) for stage in stages},
        "UploaderRole": UPLOADER,
        "DownloaderRole": DOWNLOADER,
        "TopicAdminRole": TOPIC_ADMIN,
    }


EXPECTED = expected("clean", "score")
PREFIXES = {
    ("StageRoleclean", "SeeMissingObjects"): {"overflow/*", "marks/*", "segments/.headers/*", "workflows/*"},
    ("StageRolescore", "SeeMissingObjects"): {"overflow/*", "marks/*", "segments/.headers/*", "workflows/*"},
    ("UploaderRole", "SeeMissingObjects"): {
        "inbox/*",
        "segments/.uploads/*",
        "segments/.scans/*",
        "segments/.versions/*",
        "workflows/*",
    },
    ("DownloaderRole", "ListObjects"): {"jobs/*", "segments/*", "results/*"},
    ("TopicAdminRole", "ListProgress"): {"segments/*"},
}
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords", "sqs:ListQueues"}
"""Actions that AWS has no resource for: https://docs.aws.amazon.com/service-authorization/latest/reference/"""


def as_set(value: Any) -> set[str]:
    return {value} if isinstance(value, str) else set(value)


def table(statements: list[dict[str, Any]]) -> dict[str, Statement]:
    assert all(one["Effect"] == "Allow" for one in statements)
    found = {one["Sid"]: (as_set(one["Action"]), as_set(one["Resource"])) for one in statements}
    assert len(found) == len(statements)
    return found


@pytest.mark.parametrize(
    ("stages", "key", "retained", "step_role", "secrets"),
    [
        ("step", "", "true", "", ""),
        ("clean,score", KEY, "false", "", ""),
        ("step", KEY, "true", STEP_ROLE, ""),
        ("step", "", "false", STEP_ROLE, ",".join(SECRETS)),
        ("clean,score", "", "false", "", SECRETS[0]),
    ],
)
def test_functions_may_do_exactly_this_whatever_the_conditions(
    deploy_with: Callable[[Mapping[str, str]], Deployed],
    stages: str,
    key: str,
    retained: str,
    step_role: str,
    secrets: str,
) -> None:
    given = {"Stages": stages, "KmsKeyArn": key, "RetainResults": retained, "StepRole": step_role, "Secrets": secrets}
    roles = deploy_with(given).roles
    use: dict[str, Statement] = {"UseKey": ({"kms:Decrypt", "kms:GenerateDataKey"}, {key})} if key else {}
    wanted = expected(*stages.split(","))
    for stage in stages.split(","):
        if step_role:
            wanted[f"StageRole{stage}"]["AssumeStepRole"] = ({"sts:AssumeRole"}, {step_role})
        if secrets:
            actions = {"secretsmanager:GetSecretValue", "ssm:GetParameter"}
            wanted[f"StageRole{stage}"]["ReadSecrets"] = (actions, set(secrets.split(",")))
    assert roles.keys() == {*wanted, "DownloaderCollectRole"}
    for role, statements in wanted.items():
        found = {sid: (actions, trimmed(resources)) for sid, (actions, resources) in table(roles[role]).items()}
        assert found == statements | use, role


def test_only_statements_for_keys_step_roles_and_secrets_depend_on_parameters(source: dict[str, Any]) -> None:
    use = {
        "Sid": "UseKey",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": {"Ref": "KmsKeyArn"},
    }
    roles = [node for node in mappings(source) if node.get("Type") == "AWS::IAM::Role"]
    assert len(roles) == 4
    no_value = {"Ref": "AWS::NoValue"}
    for role in roles:
        conditional = {name: [then["Sid"], other] for name, then, other in conditionals(role)}
        processor = {"HasStepRole": ["AssumeStepRole", no_value], "HasSecrets": ["ReadSecrets", no_value]}
        wanted = {"HasKey": ["UseKey", no_value]}
        assert conditional in (wanted, wanted | processor)
        assert use in [then for _, then, _ in conditionals(role)]
        assert "Condition" not in role


def conditionals(node: Any) -> list[list[Any]]:
    return [one["Fn::If"] for one in mappings(node) if "Fn::If" in one]


def mappings(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a part of a template."""
    if isinstance(node, dict):
        yield node
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from mappings(one)


def trimmed(resources: set[str]) -> set[str]:
    """A log group's ARN ends with `:*` on AWS, and without on moto."""
    return {one.removesuffix(":*") for one in resources}


def test_only_listing_is_conditional_and_only_below_the_prefixes_that_are_read(two_stages: Deployed) -> None:
    conditions = {
        (role, one["Sid"]): one["Condition"]
        for role in EXPECTED
        for one in two_stages.roles[role]
        if "Condition" in one
    }
    # IfExists: a request for one object has no prefix. Only a role that may list can tell missing from forbidden.
    assert {
        key: {**one, "StringLikeIfExists": as_set(one["StringLikeIfExists"]["s3:prefix"])}
        for key, one in conditions.items()
    } == {key: {"StringLikeIfExists": prefixes} for key, prefixes in PREFIXES.items()}


def test_the_schedule_may_only_invoke_the_downloader(two_stages: Deployed) -> None:
    (statement,) = two_stages.roles["DownloaderCollectRole"]
    assert statement == {
        "Action": "lambda:InvokeFunction",
        "Effect": "Allow",
        "Resource": "arn:aws:lambda:us-east-1:123456789012:function:parcelq-downloader",
    }


def test_no_action_is_a_wildcard_and_only_actions_without_resource_have_all(two_stages: Deployed) -> None:
    for statements in two_stages.roles.values():
        for one in statements:
            assert not any("*" in action for action in as_set(one["Action"]))
            assert "NotAction" not in one
            assert "NotResource" not in one
            if "*" in as_set(one["Resource"]):
                assert as_set(one["Action"]) <= WITHOUT_RESOURCE


def test_roles_are_assumed_by_the_service_that_needs_them_alone(two_stages: Deployed) -> None:
    resources = two_stages.template["Resources"]
    for role in EXPECTED:
        (statement,) = resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert statement == {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        assert "ManagedPolicyArns" not in resources[role]["Properties"]


def test_every_function_has_its_own_role(two_stages: Deployed) -> None:
    roles = {name: one["Role"]["Fn::GetAtt"] for name, one in of_type(two_stages, "AWS::Lambda::Function").items()}
    assert roles == {
        "StageFunctionclean": ["StageRoleclean", "Arn"],
        "StageFunctionscore": ["StageRolescore", "Arn"],
        "Uploader": ["UploaderRole", "Arn"],
        "Downloader": ["DownloaderRole", "Arn"],
        "TopicAdmin": ["TopicAdminRole", "Arn"],
    }


def test_the_schedules_role_is_the_schedulers_alone(two_stages: Deployed) -> None:
    role = two_stages.template["Resources"]["DownloaderCollectRole"]["Properties"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": ["scheduler.amazonaws.com"]},
        "Action": ["sts:AssumeRole"],
    }


def test_nobody_but_the_bucket_of_this_account_may_invoke_a_function(two_stages: Deployed) -> None:
    assert list(of_type(two_stages, "AWS::Lambda::Permission").values()) == [
        {
            "Action": "lambda:InvokeFunction",
            "FunctionName": {"Ref": "Uploader"},
            "Principal": "s3.amazonaws.com",
            "SourceAccount": {"Ref": "AWS::AccountId"},
        }
    ]


def test_only_the_rule_for_jobs_sends_what_is_known_of_them(two_stages: Deployed) -> None:
    policy = two_stages.template["Resources"]["JobTopicPolicy"]["Properties"]
    assert policy["Topics"] == [{"Ref": "JobTopic"}]
    sends, _ = policy["PolicyDocument"]["Statement"]
    assert sends == {
        "Sid": "Jobs",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": {"Ref": "JobTopic"},
        "Condition": {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["JobRule", "Arn"]}}},
    }


def test_only_cloudwatch_of_this_account_publishes_alarms(two_stages: Deployed) -> None:
    policy = two_stages.template["Resources"]["AlarmTopicPolicy"]["Properties"]
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Sid": "Alarms",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": {"Ref": "AlarmTopic"},
            "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
        },
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sns:Publish",
            "Resource": {"Ref": "AlarmTopic"},
            "Condition": {"Bool": {"aws:SecureTransport": False}},
        },
    ]


def test_nothing_else_is_there_that_could_let_anybody_in(two_stages: Deployed) -> None:
    """Function URLs, permissions of layers, further policies: none, or a test here would have to know of them."""
    assert {one["Type"].removeprefix("AWS::") for one in two_stages.template["Resources"].values()} == {
        "CloudWatch::Alarm",
        "CloudWatch::Dashboard",
        "Events::Rule",
        "IAM::Role",
        "Lambda::EventInvokeConfig",
        "Lambda::EventSourceMapping",
        "Lambda::Function",
        "Lambda::LayerVersion",
        "Lambda::Permission",
        "Logs::LogGroup",
        "S3::Bucket",
        "S3::BucketPolicy",
        "SNS::Topic",
        "SNS::TopicPolicy",
        "SQS::Queue",
        "SQS::QueuePolicy",
        "Scheduler::Schedule",
    }


def test_everything_is_encrypted_with_the_key_where_there_is_one(two_stages: Deployed) -> None:
    key = {"Fn::If": ["HasKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}
    for topic in of_type(two_stages, "AWS::SQS::Queue").values():
        assert topic["KmsMasterKeyId"] == key
        assert topic["SqsManagedSseEnabled"] == {"Fn::If": ["HasKey", {"Ref": "AWS::NoValue"}, True]}
    for group in of_type(two_stages, "AWS::Logs::LogGroup").values():
        assert group["KmsKeyId"] == key
    (bucket,) = of_type(two_stages, "AWS::S3::Bucket").values()
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": {"Fn::If": ["HasKey", "aws:kms", "AES256"]},
        "KMSMasterKeyID": key,
    }


def of_type(deployed: Deployed, kind: str) -> dict[str, dict[str, Any]]:
    resources = deployed.template["Resources"].items()
    return {name: one["Properties"] for name, one in resources if one["Type"] == kind}
