"""What the template makes: topics, functions, the bucket, alarms and the dashboard."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from parcelq.config import load as load_config
from parcelq.limits import MAX_DEADLINE_SECONDS, MAX_MESSAGE_BYTES, MAX_RETENTION_SECONDS
from parcelq.names import check_topic, dead_letter

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Deployed

ROOT = Path(__file__).parents[2]
COMMON = {"PARCELQ_PREFIX", "PARCELQ_BUCKET", "PARCELQ_STAGES", "PARCELQ_PARCEL_SIZE", "PARCELQ_BATCH_SIZE"}
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}
PROCESSOR = {
    "PARCELQ_STAGE",
    "PARCELQ_STEP_PATH",
    "PARCELQ_SETTINGS_FILE",
    "PARCELQ_WORKFLOW_ID",
    "PARCELQ_MAX_FAILURES",
    "PARCELQ_BACK_OFF_SECONDS",
    "PARCELQ_HALVING",
    "PARCELQ_STORAGE_MIB",
    "PARCELQ_STEP_ROLE",
    "PARCELQ_SECRETS",
}
NAMES = {
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Lambda::LayerVersion": "LayerName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::Scheduler::Schedule": "Name",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
}


def of_type(deployed: Deployed, kind: str) -> dict[str, dict[str, Any]]:
    resources = deployed.template["Resources"].items()
    found = {key: one["Properties"] for key, one in resources if one["Type"] == kind}
    assert found
    return found


# ---- Parameters.


def test_every_parameter_says_what_it_is_for_and_what_it_may_be(source: dict[str, Any]) -> None:
    for name, parameter in source["Parameters"].items():
        assert parameter["Description"].endswith("."), name
        assert "Default" in parameter, name
        assert parameter.keys() & {"AllowedPattern", "AllowedValues", "MinValue"}, name


def test_the_rule_of_the_template_refuses_large_batches_without_a_window(source: dict[str, Any]) -> None:
    (rule,) = source["Rules"]["LargeBatchesNeedAWindow"]["Assertions"]
    small, window = rule["Assert"]["Fn::Or"]
    assert small == {"Fn::Contains": [[str(count) for count in range(1, 11)], {"Ref": "MessagesPerInvocation"}]}
    assert window == {"Fn::Not": [{"Fn::Equals": [{"Ref": "BatchingWindow"}, "0"]}]}


# ---- Topics.


def test_a_template_with_one_stage_has_its_topics(one_stage: Deployed) -> None:
    topics = {"parcelq-step", "parcelq-output", "parcelq-ranges", "parcelq-looks"}
    assert one_stage.topics.keys() == topics | set(map(dead_letter, topics))


def test_a_template_with_two_stages_has_topics_for_each(two_stages: Deployed) -> None:
    topics = {"parcelq-clean", "parcelq-score", "parcelq-output", "parcelq-ranges", "parcelq-looks"}
    assert two_stages.topics.keys() == topics | set(map(dead_letter, topics))


def test_sqs_moves_a_message_only_after_more_receives_than_throttling_makes(two_stages: Deployed) -> None:
    counts = {}
    for name, attributes in two_stages.topics.items():
        if "RedrivePolicy" in attributes:
            policy = json.loads(attributes["RedrivePolicy"])
            assert policy["deadLetterTargetArn"] == two_stages.topics[dead_letter(name)]["QueueArn"]
            counts[name] = int(policy["maxReceiveCount"])
    assert counts == {
        "parcelq-clean": 1000,
        "parcelq-score": 1000,
        "parcelq-output": 1000,
        "parcelq-ranges": 200,
        "parcelq-looks": 100,
    }


def test_a_range_that_always_fails_is_dead_lettered_before_sqs_deletes_it(two_stages: Deployed) -> None:
    ranges = two_stages.topics["parcelq-ranges"]
    receives = int(json.loads(ranges["RedrivePolicy"])["maxReceiveCount"])
    assert receives * int(ranges["VisibilityTimeout"]) < int(ranges["MessageRetentionPeriod"])


def test_a_dead_letter_topic_serves_its_topic_alone(two_stages: Deployed) -> None:
    arn = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:"
    for queue in of_type(two_stages, "AWS::SQS::Queue").values():
        name = queue["QueueName"]["Fn::Sub"]
        if name.endswith("-dead-letter"):
            topic = {"Fn::Sub": arn + name.removesuffix("-dead-letter")}
            assert queue["RedriveAllowPolicy"] == {"redrivePermission": "byQueue", "sourceQueueArns": [topic]}
        else:
            assert "RedriveAllowPolicy" not in queue


def test_topics_keep_messages_as_large_and_as_long_as_sqs_can(two_stages: Deployed) -> None:
    for name, attributes in two_stages.topics.items():
        assert int(attributes["MessageRetentionPeriod"]) == MAX_RETENTION_SECONDS, name
        assert int(attributes["MaximumMessageSize"]) == MAX_MESSAGE_BYTES, name


def test_topics_are_encrypted_by_sqs_or_with_the_key(one_stage: Deployed, two_stages: Deployed) -> None:
    for attributes in one_stage.topics.values():
        assert attributes["SqsManagedSseEnabled"] == "true"
        assert "KmsMasterKeyId" not in attributes
    for attributes in two_stages.topics.values():
        assert attributes["KmsMasterKeyId"].startswith("arn:aws:kms:")


def test_a_deadline_is_six_times_the_timeout_and_the_longest_window(source: dict[str, Any]) -> None:
    timeouts = source["Parameters"]["ProcessorTimeout"]["AllowedValues"]
    deadlines = {int(key): int(source["Mappings"]["Deadline"][key]["Seconds"]) for key in timeouts}
    for timeout, deadline in deadlines.items():
        assert 6 * timeout + source["Parameters"]["BatchingWindow"]["MaxValue"] <= deadline <= MAX_DEADLINE_SECONDS


def test_the_deadline_of_each_mapped_topic_follows_from_its_functions_timeout(two_stages: Deployed) -> None:
    timeouts = {one.name: one.timeout for one in two_stages.stack.functions}
    for mapping in two_stages.stack.mappings:
        deadline = two_stages.stack.deadlines[mapping.topic_url.rpartition("/")[2]]
        assert deadline >= 6 * timeouts[mapping.function] + mapping.window


def test_every_topic_and_the_bucket_refuse_plain_http(two_stages: Deployed) -> None:
    refusing: list[str] = []
    for policy in of_type(two_stages, "AWS::SQS::QueuePolicy").values():
        for url in policy["Queues"]:
            queue, attribute = url["Fn::GetAtt"]
            assert attribute == "QueueUrl"
            refusing.append(queue)
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Action"] == "sqs:*"
        assert statement["Resource"] == "*"  # SQS refuses a policy that names another queue beside its own
        assert_tls_only(statement)
    assert sorted(refusing) == sorted(of_type(two_stages, "AWS::SQS::Queue"))

    (policy,) = of_type(two_stages, "AWS::S3::BucketPolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert policy["Bucket"] == {"Ref": "Bucket"}
    assert statement["Action"] == "s3:*"
    assert statement["Resource"] == [{"Fn::GetAtt": ["Bucket", "Arn"]}, {"Fn::Sub": "${Bucket.Arn}/*"}]
    assert_tls_only(statement)


def assert_tls_only(statement: dict[str, Any]) -> None:
    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}


# ---- Functions.


def test_functions_get_exactly_the_variables_that_the_configuration_reads(two_stages: Deployed) -> None:
    found = {one.name: one.environment.keys() - POWERTOOLS for one in two_stages.stack.functions}
    assert found == {
        "parcelq-processor-clean": COMMON | PROCESSOR,
        "parcelq-processor-score": COMMON | PROCESSOR,
        "parcelq-uploader": COMMON | {"PARCELQ_RANGE_BYTES", "PARCELQ_FORMAT"},
        "parcelq-downloader": COMMON,
        "parcelq-topic-admin": COMMON | {"PARCELQ_KMS_KEY_ARN"},
    }
    assert all(one.environment.keys() >= POWERTOOLS for one in two_stages.stack.functions)


def test_functions_can_read_the_configuration_that_the_template_gives(two_stages: Deployed) -> None:
    for one in two_stages.stack.functions:
        config = load_config(one.environment)
        assert config.bucket == two_stages.stack.bucket
        assert config.stages == ("clean", "score")
        assert config.own_topics == two_stages.topics.keys()
        assert config.stage == (one.name.rpartition("-")[2] if "processor" in one.name else "")


def test_functions_and_their_layer_have_one_runtime_and_one_architecture(one_stage: Deployed) -> None:
    (layer,) = of_type(one_stage, "AWS::Lambda::LayerVersion").values()
    for function in of_type(one_stage, "AWS::Lambda::Function").values():
        assert [function["Runtime"]] == layer["CompatibleRuntimes"] == [{"Ref": "Runtime"}]
        assert function["Architectures"] == layer["CompatibleArchitectures"] == [{"Ref": "Architecture"}]
        assert len(function["Layers"]) == 1
        assert function["TracingConfig"] == {"Mode": "Active"}


def test_the_layer_is_built_for_that_runtime(source: dict[str, Any]) -> None:
    wanted = {"BuildMethod": {"Ref": "Runtime"}, "BuildArchitecture": {"Ref": "Architecture"}}
    assert source["Resources"]["Library"]["Metadata"] == wanted


@pytest.mark.parametrize(
    ("parameters", "python", "platform"),
    [
        ({}, "3.13", "x86_64-manylinux_2_34"),
        ({"Runtime": "python3.11"}, "3.11", "x86_64-manylinux_2_17"),
        ({"Runtime": "python3.14", "Architecture": "arm64"}, "3.14", "aarch64-manylinux_2_34"),
    ],
)
def test_packages_of_workflows_are_for_the_runtime_and_the_architecture(
    deploy_with: Callable[[dict[str, str]], Deployed], parameters: dict[str, str], python: str, platform: str
) -> None:
    outputs = deploy_with(parameters).stack.outputs
    assert (outputs["PythonVersion"], outputs["Platform"]) == (python, platform)


def test_a_stage_with_the_name_of_a_size_has_its_memory_its_time_and_a_deadline_that_follows(
    deploy_with: Callable[[dict[str, str]], Deployed],
) -> None:
    stack = deploy_with({"Stages": "step,small,large,long,huge", "ProcessorTimeout": "60"}).stack
    sizes = {
        one.name.rpartition("-")[2]: (one.memory, one.timeout) for one in stack.functions if "processor" in one.name
    }
    assert sizes == {
        "step": (1769, 60),
        "small": (512, 60),
        "large": (7076, 60),
        "long": (1769, 900),
        "huge": (10240, 900),
    }
    deadlines = {name: stack.deadlines[f"parcelq-{name}"] for name in ("step", "large", "long", "huge")}
    assert deadlines == {"step": 660, "large": 660, "long": 5700, "huge": 5700}


def test_functions_may_send_to_themselves_only_where_they_do(two_stages: Deployed) -> None:
    loops = {key for key, one in of_type(two_stages, "AWS::Lambda::Function").items() if "RecursiveLoop" in one}
    assert loops == {"StageFunctionclean", "StageFunctionscore", "Uploader", "Downloader"}


def test_every_function_logs_to_a_group_that_forgets(two_stages: Deployed) -> None:
    groups = {one["LogGroupName"]["Fn::Sub"]: one for one in of_type(two_stages, "AWS::Logs::LogGroup").values()}
    used = set()
    for function in of_type(two_stages, "AWS::Lambda::Function").values():
        group = function["LoggingConfig"]["LogGroup"]
        if "Ref" in group:
            group = two_stages.template["Resources"][group["Ref"]]["Properties"]["LogGroupName"]
        assert group["Fn::Sub"] == f"/aws/lambda/{function['FunctionName']['Fn::Sub']}"
        used.add(group["Fn::Sub"])
    assert used == groups.keys()
    assert all(one["RetentionInDays"] == {"Ref": "LogRetentionDays"} for one in groups.values())


def test_every_mapping_reports_failures_and_is_bounded(two_stages: Deployed) -> None:
    for mapping in of_type(two_stages, "AWS::Lambda::EventSourceMapping").values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        bounds = {"Downloader": "CollectConcurrency", "Uploader": "UploadConcurrency"}
        bound = bounds.get(mapping["FunctionName"]["Ref"], "Concurrency")
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": {"Ref": bound}}


@pytest.mark.parametrize("environment", ["default", "dev", "prod"])
def test_a_new_account_has_room_for_all_functions_and_for_one_more_file(
    deploy_with: Callable[[dict[str, str]], Deployed], environment: str
) -> None:
    with (ROOT / "samconfig.toml").open("rb") as file:
        given = tomllib.load(file)[environment]["global"]["parameters"].get("parameter_overrides", [])
    stack = deploy_with(dict(one.split("=", 1) for one in given)).stack
    assert sum(one.maximum_concurrency or 1000 for one in stack.mappings) + 1 <= 10


def test_looks_come_without_a_window_for_which_lambda_would_wait(two_stages: Deployed) -> None:
    mappings = of_type(two_stages, "AWS::Lambda::EventSourceMapping").values()
    (looks,) = (one for one in mappings if one["FunctionName"] == {"Ref": "Downloader"})
    assert "MaximumBatchingWindowInSeconds" not in looks


def test_events_of_jobs_that_ended_are_mailed(two_stages: Deployed) -> None:
    (rule,) = of_type(two_stages, "AWS::Events::Rule").values()
    assert rule["EventPattern"] == {"source": ["parcelq"], "resources": [{"Fn::GetAtt": ["Bucket", "Arn"]}]}
    assert rule["Targets"] == [{"Id": "mail", "Arn": {"Ref": "JobTopic"}}]


def test_an_event_of_the_bucket_that_fails_permanently_is_kept(one_stage: Deployed) -> None:
    function = one_stage.template["Resources"]["Uploader"]["Properties"]
    assert function["DeadLetterConfig"] == {"TargetArn": {"Fn::GetAtt": ["DeadLettersOfranges", "Arn"]}}


def test_lost_looks_are_looked_for_on_schedule(one_stage: Deployed) -> None:
    (schedule,) = of_type(one_stage, "AWS::Scheduler::Schedule").values()
    assert schedule["ScheduleExpression"] == {"Ref": "CollectSchedule"}
    assert schedule["State"] == {"Ref": "CollectEnabled"}
    assert schedule["Target"]["Arn"] == {"Fn::GetAtt": ["Downloader", "Arn"]}
    assert schedule["Target"]["Input"] == "{}"


# ---- The bucket.


def test_the_bucket_is_private_and_encrypted_and_belongs_to_its_owner(one_stage: Deployed) -> None:
    (bucket,) = of_type(one_stage, "AWS::S3::Bucket").values()
    assert bucket["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    }
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == {"Fn::If": ["HasKey", "aws:kms", "AES256"]}


def test_a_bucket_with_a_name_of_the_account_is_made_in_its_namespace(
    deploy_with: Callable[[dict[str, str]], Deployed], one_stage: Deployed
) -> None:
    deployed = deploy_with({"BucketSuffix": "-an"})
    assert deployed.stack.bucket == f"{one_stage.stack.bucket}-an"
    assert {one.environment["PARCELQ_BUCKET"] for one in deployed.stack.functions} == {deployed.stack.bucket}
    (bucket,) = of_type(deployed, "AWS::S3::Bucket").values()
    assert bucket["BucketNamespace"] == {"Fn::If": ["HasOwnNames", "account-regional", {"Ref": "AWS::NoValue"}]}
    assert deployed.template["Conditions"]["HasOwnNames"] == {"Fn::Equals": [{"Ref": "BucketSuffix"}, "-an"]}


def test_the_bucket_outlives_the_stack_if_asked_to(one_stage: Deployed) -> None:
    bucket = one_stage.template["Resources"]["Bucket"]
    assert bucket["DeletionPolicy"] == {"Fn::If": ["RetainsResults", "Retain", "Delete"]}
    assert bucket["UpdateReplacePolicy"] == "Retain"


def test_the_bucket_forgets_what_nobody_can_need_any_more(one_stage: Deployed) -> None:
    (bucket,) = of_type(one_stage, "AWS::S3::Bucket").values()
    rules = bucket["LifecycleConfiguration"]["Rules"]
    days = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    retention = MAX_RETENTION_SECONDS // 86400
    assert days.keys() == {"overflow/", "marks/", "segments/", "jobs/"}
    assert days["overflow/"] > retention
    assert days["marks/"] > retention
    assert days["segments/"] >= 90
    assert days["jobs/"] >= days["segments/"] + retention  # it decides what messages mean that come late
    assert [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule and "Prefix" not in rule]


def test_only_puts_into_the_inbox_start_a_function(two_stages: Deployed) -> None:
    (bucket,) = of_type(two_stages, "AWS::S3::Bucket").values()
    assert bucket["NotificationConfiguration"] == {
        "LambdaConfigurations": [
            {
                "Event": "s3:ObjectCreated:*",
                "Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": "inbox/"}]}},
                "Function": {"Fn::GetAtt": ["Uploader", "Arn"]},
            }
        ]
    }


# ---- Names, alarms, dashboard.


def test_two_stacks_with_different_prefixes_share_no_name(two_stages: Deployed) -> None:
    for kind, property_name in NAMES.items():
        for key, properties in of_type(two_stages, kind).items():
            name = json.dumps(properties[property_name])
            assert re.search(r'\$\{Prefix\}|"Ref": "Prefix"|parcelq-', name), key


def test_the_longest_names_that_parameters_allow_are_names_that_aws_takes(
    deploy_with: Callable[[dict[str, str]], Deployed],
) -> None:
    stack = deploy_with({"Prefix": "p" * 20, "Stages": "s" * 32, "BucketSuffix": "-an"})
    assert all(check_topic(name) for name in stack.topics)
    assert max(len(one.name) for one in stack.stack.functions) <= 64
    assert len(stack.stack.bucket) - len("us-east-1") + len("ap-southeast-1") <= 63


def test_every_dead_letter_topic_and_every_function_has_its_alarms(two_stages: Deployed) -> None:
    functions = {one.name for one in two_stages.stack.functions}
    dead = {name for name in two_stages.topics if name.endswith("-dead-letter")}
    wanted = (
        {("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", name) for name in dead}
        | {("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name) for name in two_stages.topics.keys() - dead}
        | {("AWS/Lambda", metric, "FunctionName", name) for metric in ("Errors", "Throttles") for name in functions}
        | {("Parcelq", "SourcesRefused", "service", "parcelq-uploader")}
    )
    alarms = list(of_type(two_stages, "AWS::CloudWatch::Alarm").values())
    watched = [
        (one["Namespace"], one["MetricName"], dimension["Name"], named(dimension["Value"]))
        for one in alarms
        for dimension in one["Dimensions"]
    ]
    assert sorted(watched) == sorted(wanted)
    assert len({named(one["AlarmName"]) for one in alarms}) == len(alarms)
    for alarm in alarms:
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        age = alarm["MetricName"] == "ApproximateAgeOfOldestMessage"
        assert alarm["Threshold"] == ({"Ref": "AlarmAge"} if age else 0)


def named(value: dict[str, Any]) -> str:
    """The text that CloudFormation makes of an alarm's `Fn::Sub` in a stack of the default prefix."""
    text, parts = value["Fn::Sub"]
    for name, part in {"Prefix": "parcelq", **parts}.items():
        text = text.replace(f"${{{name}}}", part)
    return str(text)


def test_alarms_are_mailed_only_where_there_is_an_address(one_stage: Deployed, two_stages: Deployed) -> None:
    assert one_stage.subscriptions == []
    assert sorted(two_stages.subscriptions) == [("email", "lab@example.org"), ("email", "ops@example.org")]


def test_cloudwatch_may_publish_alarms_which_no_key_of_aws_would_let_it(one_stage: Deployed) -> None:
    assert not any("KmsMasterKeyId" in topic for topic in of_type(one_stage, "AWS::SNS::Topic").values())
    policy = one_stage.template["Resources"]["AlarmTopicPolicy"]["Properties"]
    allowed = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert [one["Principal"] for one in allowed] == [{"Service": "cloudwatch.amazonaws.com"}]


@pytest.mark.parametrize("stage", ["clean", "score"])
def test_the_dashboard_shows_topics_and_functions_that_are_there(stage: str, two_stages: Deployed) -> None:
    (variable,) = two_stages.dashboard["variables"]
    assert variable["values"] == [{"value": "clean"}, {"value": "score"}]
    assert variable["defaultValue"] == "clean"
    text = json.dumps(two_stages.dashboard["widgets"]).replace(variable["pattern"], stage)
    shown = set(re.findall(r"\"(parcelq-[a-z-]+)\"", text.replace("\\", "")))
    existing = two_stages.topics.keys() | {one.name for one in two_stages.stack.functions}
    other = "score" if stage == "clean" else "clean"
    assert shown == {name for name in existing if other not in name}


def test_the_outputs_of_the_template_say_where_to_begin(two_stages: Deployed) -> None:
    bucket = two_stages.stack.bucket
    outputs = two_stages.stack.outputs
    assert outputs["BucketName"] == bucket
    assert outputs["InboxUri"] == f"s3://{bucket}/inbox/"
    assert outputs["ResultsUri"] == f"s3://{bucket}/results/"
    assert outputs["InputTopicUrl"].endswith("/parcelq-clean")
    assert outputs["OutputTopicUrl"].endswith("/parcelq-output")
    assert outputs["ProcessorFunctionscore"] == "parcelq-processor-score"
    assert outputs.keys() >= {"UploaderFunction", "DownloaderFunction", "TopicAdminFunction", "DashboardUrl"}


def test_no_output_is_called_like_a_parameter(source: dict[str, Any]) -> None:
    assert not source["Outputs"].keys() & source["Parameters"].keys(), "sam build takes it for the parameter"
