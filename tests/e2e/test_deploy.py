"""`sam deploy` and `sam delete`, the real commands with the project's samconfig.toml, against a local server.

The server knows no transforms, so what is deployed is the transformed template, with the code that `sam build` made. It
makes most resources; of those that it leaves out, the template that it was given is looked at.
"""

from __future__ import annotations

import io
import json
import os
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from building import ROOT, SAM, STAGES, Built, Once, run
from parcelq_emulator.pipeline import environment
from parcelq_emulator.server import Server
from parcelq_emulator.template import REGION, load
from samtranslator.yaml_helper import yaml_parse

CONFIG = ROOT / "samconfig.toml"
MANAGED_STACK = "aws-sam-cli-managed-default"
ARN = "arn:aws:sqs:us-east-1:123456789012:"
PROCESSOR = "StageFunction"
CODE = {"AWS::Lambda::Function": "Code", "AWS::Lambda::LayerVersion": "Content"}
"""Which property of a resource has its code."""


@dataclass(frozen=True)
class Account:
    """An account that is a local server.

    Attributes:
        url: its endpoint.
        folder: for the templates that are deployed, and as a home.
        built: the code.
    """

    url: str
    folder: Path
    built: Built

    def client(self, service: str) -> Any:
        """A client of boto3."""
        return boto3.client(service, REGION, endpoint_url=self.url, aws_access_key_id="x", aws_secret_access_key="x")

    def sam(self, command: str, config: str, *options: str | Path, file: Path = CONFIG, answers: str = "") -> str:
        """Run a command of SAM in an environment of samconfig.toml, and return what it printed."""
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "SAM_CLI_POLL_DELAY": "1"}
        given = ["--config-file", file, "--config-env", config, *options]
        return run([SAM, command, *given], {**variables, **environment(self.url), "SAM_CLI_TELEMETRY": "0"}, answers)

    def deploy(self, config: str, changed: Mapping[str, str] | None = None) -> Made:
        """Deploy an environment of samconfig.toml, with some of its parameters changed."""
        self.sam("deploy", config, "--no-confirm-changeset", *self.options(config, changed or {}))
        return self.made()

    def deploy_guided(self, config: str, answers: str) -> tuple[Made, str, dict[str, Any]]:
        """Deploy by answering questions; what was made, what was shown, and which answers were saved."""
        file = self.folder / "samconfig.toml"
        file.write_text(CONFIG.read_text())
        shown = self.sam("deploy", config, "--guided", *self.options(config, {}), file=file, answers=answers)
        return self.made(), shown, tomllib.loads(file.read_text())[config]

    def options(self, config: str, changed: Mapping[str, str]) -> list[str | Path]:
        """What to deploy."""
        # Defaults are given as well as what the file says: the server neither splits a list's default, nor knows that a
        # parameter which is not given again is as it was.
        values = defaults() | parameters(config) | changed
        template = self.folder / "template.json"
        template.write_text(json.dumps(transformed(values, self.built)))
        overrides = [f'{name}="{value}"' for name, value in values.items()]
        return ["--template", template, "--parameter-overrides", *overrides]

    def delete(self, config: str) -> Made:
        """Delete what was deployed."""
        self.sam("delete", config, "--no-prompts")
        return self.made()

    def made(self) -> Made:
        """The stack as it is now."""
        functions, sqs, s3, iam, logs = map(self.client, ("lambda", "sqs", "s3", "iam", "logs"))
        stacks = self.client("cloudformation")
        listed = functions.list_functions()["Functions"]
        dashboards = self.client("cloudwatch")
        return Made(
            stacks={one["StackName"]: one["StackStatus"] for one in stacks.list_stacks()["StackSummaries"]},
            functions={one["FunctionName"]: one for one in listed},
            concurrency={
                one["FunctionName"]: functions.get_function_concurrency(FunctionName=one["FunctionName"]).get(
                    "ReservedConcurrentExecutions"
                )
                for one in listed
            },
            mappings={
                one["EventSourceArn"].removeprefix(ARN): one
                for one in functions.list_event_source_mappings()["EventSourceMappings"]
            },
            topics={
                url.rpartition("/")[2]: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
                for url in sqs.list_queues().get("QueueUrls", [])
            },
            objects={
                one["Name"]: [key["Key"] for key in s3.list_objects_v2(Bucket=one["Name"]).get("Contents", [])]
                for one in s3.list_buckets()["Buckets"]
            },
            roles={
                one["Arn"]: iam.list_role_policies(RoleName=one["RoleName"])["PolicyNames"]
                for one in iam.list_roles()["Roles"]
            },
            logs={one["logGroupName"]: one.get("retentionInDays") for one in logs.describe_log_groups()["logGroups"]},
            dashboards={
                one["DashboardName"]: json.loads(
                    dashboards.get_dashboard(DashboardName=one["DashboardName"])["DashboardBody"]
                )
                for one in dashboards.list_dashboards()["DashboardEntries"]
            },
            alarm_topics=[one["TopicArn"] for one in self.client("sns").list_topics()["Topics"]],
        )

    def deployed(self, config: str) -> tuple[dict[str, Any], dict[str, set[str]]]:
        """The template of a stack, and names of the files in each archive of code, by logical ids."""
        s3 = self.client("s3")
        body = self.client("cloudformation").get_template(StackName=stack_name(config))["TemplateBody"]
        template, files = yaml_parse(body), {}
        for key, resource in template["Resources"].items():
            if name := CODE.get(resource["Type"]):
                code = resource["Properties"][name]
                archive = s3.get_object(Bucket=code["S3Bucket"], Key=code["S3Key"])["Body"].read()
                files[key] = set(zipfile.ZipFile(io.BytesIO(archive)).namelist())
        return template, files


@dataclass(frozen=True)
class Made:
    """All that an account has, as AWS's APIs tell it."""

    stacks: dict[str, str]
    functions: dict[str, dict[str, Any]]
    concurrency: dict[str, int | None]
    mappings: dict[str, dict[str, Any]]
    topics: dict[str, dict[str, str]]
    objects: dict[str, list[str]]
    roles: dict[str, list[str]]
    logs: dict[str, int]
    dashboards: dict[str, dict[str, Any]]
    alarm_topics: list[str]


def parameters(config: str) -> dict[str, str]:
    """What samconfig.toml gives the template in an environment."""
    given = tomllib.loads(CONFIG.read_text())[config]["global"]["parameters"]
    return dict(one.split("=", 1) for one in given["parameter_overrides"])


def defaults() -> dict[str, str]:
    """The template's parameters as it has them itself."""
    declared = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]
    return {name: str(parameter["Default"]) for name, parameter in declared.items()}


def stack_name(config: str) -> str:
    """What samconfig.toml calls the stack in an environment."""
    return str(tomllib.loads(CONFIG.read_text())[config]["global"]["parameters"]["stack_name"])


def transformed(values: Mapping[str, str], built: Built) -> dict[str, Any]:
    """The template as AWS's transforms leave it, with the folders of the code for `sam deploy` to upload."""
    template = load(ROOT / "template.yaml", values)
    for name, resource in template["Resources"].items():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::Lambda::Function":
            # All stages have the same code, which was built once.
            properties["Code"] = str(built.folder / ("StageFunctionstep" if name.startswith(PROCESSOR) else name))
            # The server makes functions without layers, and cannot update one that should have any.
            assert properties.pop("Layers") == [{"Ref": key} for key in layers(template)]
        elif resource["Type"] == "AWS::Lambda::LayerVersion":
            properties["Content"] = str(built.folder / "Library")
    # AWS chooses by the condition, which the server takes for the policy itself.
    bucket = template["Resources"]["Bucket"]
    assert template["Conditions"]["RetainsResults"] == {"Fn::Equals": [{"Ref": "RetainResults"}, "true"]}
    assert bucket["DeletionPolicy"] == {"Fn::If": ["RetainsResults", "Retain", "Delete"]}
    bucket["DeletionPolicy"] = "Retain" if values.get("RetainResults") == "true" else "Delete"
    return template


def layers(template: Mapping[str, Any]) -> list[str]:
    """Logical ids of the layers."""
    return [key for key, one in template["Resources"].items() if one["Type"] == "AWS::Lambda::LayerVersion"]


@contextmanager
def account(built: Built, folder: Path) -> Iterator[Account]:
    """An account in which SAM has been used before, so that it has its bucket for code."""
    with Server() as server:
        # By this name, because SAM addresses buckets by host names, and the server knows them under this one.
        made = Account(server.url.replace("127.0.0.1", "localhost"), folder, built)
        template = {
            "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
            "Outputs": {"SourceBucket": {"Value": {"Ref": "Bucket"}}},
        }
        made.client("cloudformation").create_stack(
            StackName=MANAGED_STACK,
            TemplateBody=json.dumps(template),
            Tags=[{"Key": "ManagedStackSource", "Value": "AwsSamCli"}],
        )
        yield made


@dataclass(frozen=True)
class Story:
    """What an account had after each command, and what was deployed first.

    Attributes:
        deployed: after the first deployment.
        template: the stack's template.
        code: names of the files in each archive of code, by logical ids.
        asked: what a guided deployment showed.
        saved: what it saved in samconfig.toml.
        updated: after the second deployment, if there was any.
        deleted: in the end.
    """

    deployed: Made
    template: dict[str, Any]
    code: dict[str, set[str]]
    deleted: Made
    asked: str = ""
    saved: dict[str, Any] = field(default_factory=dict)
    updated: Made | None = None

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties of the template's resources of a type, by logical id."""
        return {key: one["Properties"] for key, one in self.template["Resources"].items() if one["Type"] == kind}


@pytest.fixture(scope="session")
def dev(built: Built, once: Once) -> Story:
    """Deployed by taking what is proposed, deployed again with other parameters, and deleted."""

    def story_of_dev(folder: Path) -> Story:
        with account(built, folder) as made:
            deployed, asked, saved = made.deploy_guided("dev", "\n" * 100)
            first = deployed, *made.deployed("dev")
            changed = {"Stages": ",".join(STAGES), "Concurrency": "33", "ProcessorTimeout": "60", "ParcelSize": "7"}
            updated = made.deploy("dev", changed)
            return Story(*first, asked=asked, saved=saved, updated=updated, deleted=made.delete("dev"))

    return once(story_of_dev)


@pytest.fixture(scope="session")
def prod(built: Built, once: Once) -> Story:
    """Deployed and, when there was a result in the bucket, deleted."""

    def story_of_prod(folder: Path) -> Story:
        with account(built, folder) as made:
            first = made.deploy("prod"), *made.deployed("prod")
            made.client("s3").put_object(Bucket="parcelqprod-123456789012-us-east-1", Key="results/a.txt", Body=b"a\n")
            return Story(*first, deleted=made.delete("prod"))

    return once(story_of_prod)


# ---- What deploying makes.


def test_the_stack_has_the_name_of_its_environment(dev: Story, prod: Story) -> None:
    assert dev.deployed.stacks == {MANAGED_STACK: "CREATE_COMPLETE", "parcelqdev": "CREATE_COMPLETE"}
    assert prod.deployed.stacks == {MANAGED_STACK: "CREATE_COMPLETE", "parcelqprod": "CREATE_COMPLETE"}


def test_every_deployed_topic_moves_dead_letters_to_its_own_dead_letter_topic(dev: Story) -> None:
    topics = dev.deployed.topics
    counts = {
        name: json.loads(attributes["RedrivePolicy"])
        for name, attributes in topics.items()
        if "RedrivePolicy" in attributes
    }
    wanted = {"parcelqdev-step": 1000, "parcelqdev-output": 1000, "parcelqdev-ranges": 200, "parcelqdev-looks": 100}
    assert counts == {
        name: {"deadLetterTargetArn": f"{ARN}{name}-dead-letter", "maxReceiveCount": count}
        for name, count in wanted.items()
    }
    assert topics.keys() == wanted.keys() | {f"{name}-dead-letter" for name in wanted}
    assert topics["parcelqdev-step"]["VisibilityTimeout"] == "2100"
    assert {one["SqsManagedSseEnabled"] for one in topics.values()} == {"true"}


def test_messages_go_to_functions_that_report_failures(dev: Story) -> None:
    functions = {
        "parcelqdev-step": "parcelqdev-processor-step",
        "parcelqdev-ranges": "parcelqdev-uploader",
        "parcelqdev-looks": "parcelqdev-downloader",
    }
    assert {name: one["FunctionArn"].rpartition(":")[2] for name, one in dev.deployed.mappings.items()} == functions
    for one in dev.deployed.mappings.values():
        assert one["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    most = {name: one["ScalingConfig"]["MaximumConcurrency"] for name, one in dev.deployed.mappings.items()}
    assert most == {"parcelqdev-step": 5, "parcelqdev-ranges": 2, "parcelqdev-looks": 2}
    assert dev.deployed.mappings["parcelqdev-step"]["BatchSize"] == 10
    assert dev.deployed.mappings["parcelqdev-ranges"]["BatchSize"] == 1


def test_deployed_functions_have_the_limits_and_settings_of_the_template(dev: Story, prod: Story) -> None:
    functions = dev.deployed.functions
    names = {f"parcelqdev-{name}" for name in ("processor-step", "uploader", "downloader", "topic-admin")}
    assert functions.keys() == names
    assert {one["Handler"] for one in functions.values()} == {"app.handler"}
    assert {one["Runtime"] for one in functions.values()} == {"python3.13"}
    assert functions["parcelqdev-processor-step"]["Timeout"] == 300
    assert functions["parcelqdev-processor-step"]["MemorySize"] == 1769
    for name, one in functions.items():
        variables = one["Environment"]["Variables"]
        assert variables["PARCELQ_BUCKET"] == "parcelqdev-123456789012-us-east-1"
        assert variables["PARCELQ_STAGES"] == "step"
        assert variables["POWERTOOLS_LOG_LEVEL"] == "DEBUG"
        assert variables["POWERTOOLS_SERVICE_NAME"] == name
    assert set(dev.deployed.concurrency.values()) == {None}
    assert set(prod.deployed.concurrency.values()) == {None}


def test_deployed_functions_run_the_code_that_was_built(dev: Story) -> None:
    (library,) = layers(dev.template)
    assert {"python/parcelq/__init__.py", "python/yaml/__init__.py"} <= dev.code[library]
    assert {"app.py", "steps/step/step.py"} <= dev.code["StageFunctionstep"]
    assert {"app.py", "actions.py"} <= dev.code["TopicAdmin"]
    assert {"app.py"} <= dev.code["Uploader"] & dev.code["Downloader"]
    assert not any(name.startswith("parcelq/") for files in dev.code.values() for name in files)


def test_each_function_has_a_role_of_its_own(dev: Story) -> None:
    roles = [one["Role"] for one in dev.deployed.functions.values()]
    assert len(set(roles)) == 4
    policies = {one["FunctionName"]: dev.deployed.roles[one["Role"]] for one in dev.deployed.functions.values()}
    assert policies == {
        "parcelqdev-processor-step": ["processor"],
        "parcelqdev-uploader": ["uploader"],
        "parcelqdev-downloader": ["downloader"],
        "parcelqdev-topic-admin": ["topic-admin"],
    }
    assert len(dev.deployed.roles) == 5  # and the schedule's


def test_logs_alarms_and_the_dashboard_have_their_places(dev: Story, prod: Story) -> None:
    assert dev.deployed.logs == {f"/aws/lambda/{name}": 7 for name in dev.deployed.functions}
    assert set(prod.deployed.logs.values()) == {90}
    assert dev.deployed.alarm_topics == ["arn:aws:sns:us-east-1:123456789012:parcelqdev-alarms"]
    (dashboard,) = dev.deployed.dashboards.items()
    assert dashboard[0] == "parcelqdev"
    assert dashboard[1]["variables"][0]["values"] == [{"value": "step"}]
    assert "parcelqdev-STAGE" in json.dumps(dashboard[1]["widgets"])


def test_resources_that_the_server_leaves_out_are_in_the_deployed_template(dev: Story) -> None:
    (bucket,) = dev.of_type("AWS::S3::Bucket").values()
    (notification,) = bucket["NotificationConfiguration"]["LambdaConfigurations"]
    assert notification["Event"] == "s3:ObjectCreated:*"
    assert notification["Filter"] == {"S3Key": {"Rules": [{"Name": "prefix", "Value": "inbox/"}]}}
    assert notification["Function"] == {"Fn::GetAtt": ["Uploader", "Arn"]}
    (schedule,) = dev.of_type("AWS::Scheduler::Schedule").values()
    assert schedule["Target"]["Arn"] == {"Fn::GetAtt": ["Downloader", "Arn"]}
    for alarm in dev.of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
    refusing = [*dev.of_type("AWS::SQS::QueuePolicy").values(), *dev.of_type("AWS::S3::BucketPolicy").values()]
    assert len(refusing) == 1 + len(dev.of_type("AWS::SQS::Queue")) // 2  # a topic and its dead-letter topic share one
    for policy in refusing:
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}


def test_a_guided_deployment_proposes_an_answer_to_every_question(dev: Story) -> None:
    for name, value in (defaults() | parameters("dev")).items():
        assert f"Parameter {name} [{value}]" in dev.asked
    assert "Stack Name [parcelqdev]" in dev.asked
    assert "Successfully created/updated stack" in dev.asked
    assert 'Concurrency="5"' in dev.saved["deploy"]["parameters"]["parameter_overrides"]


def test_all_code_of_what_was_built_is_uploaded(built: Built, tmp_path: Path) -> None:
    """The first half of `sam deploy` with the template that was built, here for two stages."""
    with account(built, tmp_path) as made:
        s3 = made.client("s3")
        s3.create_bucket(Bucket="code")
        options = ["--template", built.folder / "template.yaml", "--parameter-overrides", f"Stages={','.join(STAGES)}"]
        with pytest.raises(AssertionError, match="CreateChangeSet"):
            made.sam("deploy", "dev", *options, "--no-resolve-s3", "--s3-bucket", "code")
        keys = {one["Key"] for one in s3.list_objects_v2(Bucket="code")["Contents"]}
        (deployed,) = (key for key in keys if key.endswith(".template"))
        template = yaml_parse(s3.get_object(Bucket="code", Key=deployed)["Body"].read().decode())
    stages = template["Mappings"]["SAMCodeUriEachStage"]
    assert stages.keys() == set(STAGES)
    resources = {name: one["Properties"] for name, one in template["Resources"].items() if "Type" in one}
    code = {one["CodeUri"] for one in stages.values()}
    code |= {resources[name]["CodeUri"] for name in ("Uploader", "Downloader", "TopicAdmin")}
    code.add(resources["Library"]["ContentUri"])
    code.add(resources["Dashboard"]["DashboardBody"]["Fn::Transform"]["Parameters"]["Location"])
    assert {one.removeprefix("s3://code/") for one in code} == keys - {deployed}


# ---- What deploying again changes.


def test_a_second_deployment_changes_what_its_parameters_say(dev: Story) -> None:
    before, after = dev.deployed, dev.updated
    assert after
    assert after.stacks["parcelqdev"] == "UPDATE_COMPLETE"
    concurrency = {name: one["ScalingConfig"]["MaximumConcurrency"] for name, one in after.mappings.items()}
    assert (concurrency.pop("parcelqdev-looks"), concurrency.pop("parcelqdev-ranges")) == (2, 2)
    assert set(concurrency.values()) == {33}
    assert after.functions["parcelqdev-processor-step"]["Timeout"] == 60
    assert after.topics["parcelqdev-step"]["VisibilityTimeout"] == "660"
    for one in after.functions.values():
        assert str(one["Environment"]["Variables"]["PARCELQ_PARCEL_SIZE"]) == "7"
        assert one["Environment"]["Variables"]["PARCELQ_STAGES"] == "step,score"
    assert after.functions.keys() - before.functions.keys() == {"parcelqdev-processor-score"}
    assert after.topics.keys() - before.topics.keys() == {"parcelqdev-score", "parcelqdev-score-dead-letter"}
    assert after.mappings.keys() - before.mappings.keys() == {"parcelqdev-score"}


def test_a_second_deployment_leaves_the_rest_as_it_was(dev: Story) -> None:
    before, after = dev.deployed, dev.updated
    assert after
    assert after.objects.keys() == before.objects.keys()
    for name, attributes in before.topics.items():
        assert after.topics[name]["QueueArn"] == attributes["QueueArn"]
        assert after.topics[name]["CreatedTimestamp"] == attributes["CreatedTimestamp"]
    for name, one in before.functions.items():
        assert after.functions[name]["Role"] == one["Role"]
        assert after.functions[name]["CodeSha256"] == one["CodeSha256"]


# ---- What deleting leaves.


def test_deleting_the_stack_leaves_nothing_behind(dev: Story) -> None:
    left = dev.deleted
    assert left.stacks == {MANAGED_STACK: "CREATE_COMPLETE", "parcelqdev": "DELETE_COMPLETE"}
    assert of_the_stack(left) == []
    (objects,) = left.objects.values()  # of SAM's own bucket
    assert objects == []


def test_deleting_the_stack_leaves_results_where_they_are_to_be_retained(prod: Story) -> None:
    left = prod.deleted
    assert left.objects.pop("parcelqprod-123456789012-us-east-1") == ["results/a.txt"]
    assert list(left.objects.values()) == [[]]
    assert of_the_stack(left) == []


def test_nothing_but_the_bucket_is_ever_retained(dev: Story, prod: Story) -> None:
    for story in (dev, prod):
        policies = {key: one.get("DeletionPolicy", "Delete") for key, one in story.template["Resources"].items()}
        assert {key for key, policy in policies.items() if policy != "Delete"} <= {"Bucket"}
    assert prod.template["Resources"]["Bucket"]["DeletionPolicy"] == "Retain"
    assert dev.template["Resources"]["Bucket"]["DeletionPolicy"] == "Delete"


def of_the_stack(made: Made) -> list[str]:
    """Names of all that there is, but for buckets."""
    kinds = (made.functions, made.mappings, made.topics, made.roles, made.logs, made.dashboards, made.alarm_topics)
    return [name for kind in kinds for name in kind]
