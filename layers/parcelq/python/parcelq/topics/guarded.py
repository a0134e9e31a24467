"""Attributes of topics that nobody can read on the way or on a disk."""

from __future__ import annotations

import json


def guarded(kms_key_arn: str = "") -> dict[str, str]:
    """Attributes of a topic that is encrypted, with a key of KMS or SQS's own, and refuses plain HTTP."""
    refusal = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": "*",  # the queue that has this policy; nobody knows its ARN before the queue exists
        "Condition": {"Bool": {"aws:SecureTransport": False}},
    }
    key = {"KmsMasterKeyId": kms_key_arn} if kms_key_arn else {"SqsManagedSseEnabled": "true"}
    return {**key, "Policy": json.dumps({"Version": "2012-10-17", "Statement": [refusal]})}
