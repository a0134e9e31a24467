"""Attributes of topics that encrypt their messages in transit and at rest."""

from __future__ import annotations

import json


def guarded(kms_key_arn: str = "") -> dict[str, str]:
    """Return the attributes with which a topic refuses plain HTTP, and encrypts its messages with SQS's key or a KMS
    key.
    """
    refusal = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": "*",  # the queue with this policy; its ARN is unknown before it exists
        "Condition": {"Bool": {"aws:SecureTransport": False}},
    }
    key = {"KmsMasterKeyId": kms_key_arn} if kms_key_arn else {"SqsManagedSseEnabled": "true"}
    return {**key, "Policy": json.dumps({"Version": "2012-10-17", "Statement": [refusal]})}
