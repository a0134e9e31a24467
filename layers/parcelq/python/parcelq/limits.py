"""The limits of AWS that Parcelq works within, each in one place with the page that it comes from.

SQS:    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
queues: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
Lambda: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
S3:     https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# SQS, quotas-messages.
MAX_MESSAGE_BYTES: Final = MIB
"""Body and attributes of one message, in UTF-8 bytes."""
MAX_REQUEST_BYTES: Final = MIB
"""All messages of one SendMessageBatch together, attributes included."""
MAX_REQUEST_MESSAGES: Final = 10
"""Messages in one SendMessageBatch, DeleteMessageBatch or ChangeMessageVisibilityBatch, or one ReceiveMessage."""
MAX_ATTRIBUTES: Final = 10
"""Attributes of one message."""
MAX_IN_FLIGHT: Final = 120_000
"""Messages of one standard queue that are pulled and neither acknowledged nor visible again."""
MAX_LONG_POLL_SECONDS: Final = 20
"""WaitTimeSeconds of one ReceiveMessage."""
MAX_DEADLINE_SECONDS: Final = 12 * 60 * 60
"""Acknowledgement deadline (visibility timeout), counted from the receive."""
MAX_DELAY_SECONDS: Final = 15 * 60
"""DelaySeconds of one message."""
MAX_RETENTION_SECONDS: Final = 14 * 24 * 60 * 60
"""How long SQS can keep a message."""
BILLING_UNIT_BYTES: Final = 64 * KIB
"""Every 64 KiB of a request's payload is billed as one request: https://aws.amazon.com/sqs/pricing/"""

# SQS, quotas-queues, and the reference of DeleteQueue, CreateQueue and PurgeQueue.
MAX_TOPIC_NAME: Final = 80
"""Characters of a queue name: letters, digits, hyphen, underscore."""
DELETED_NAME_SECONDS: Final = 60
"""How long SQS refuses to create a queue again after its deletion."""
PURGE_INTERVAL_SECONDS: Final = 60
"""SQS allows one PurgeQueue in this time."""
MAX_LIST_RESULTS: Final = 1000
"""Queues in one page of ListQueues."""
COUNT_SETTLES_SECONDS: Final = 60
"""How long after the last send the approximate counts need to be right: the reference of GetQueueAttributes."""

# Lambda.
MAX_LAMBDA_EVENT_BYTES: Final = 6 * MIB
"""Payload of one synchronous invocation, so also of one SQS batch."""

# S3.
MIN_MULTIPART_BYTES: Final = 5 * MIB
"""Every part of a multipart upload but the last."""
MAX_MULTIPART_PARTS: Final = 10_000
"""Parts of one multipart upload."""
MAX_KEY_BYTES: Final = 1024
"""Bytes of a key in UTF-8: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""

# File systems.
MAX_FILE_NAME_BYTES: Final = 255
"""Bytes of one part of a path (NAME_MAX of ext4, XFS, Btrfs and APFS)."""
