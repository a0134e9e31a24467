"""The limits of AWS that concern Parcelq, each with the page that documents it.

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
"""Most bytes of a message: body and attributes, in UTF-8."""
MAX_REQUEST_BYTES: Final = MIB
"""Most bytes of all messages of a SendMessageBatch together, including attributes."""
MAX_REQUEST_MESSAGES: Final = 10
"""Most messages of a SendMessageBatch, DeleteMessageBatch, ChangeMessageVisibilityBatch or ReceiveMessage."""
MAX_ATTRIBUTES: Final = 10
"""Most attributes of one message."""
MAX_IN_FLIGHT: Final = 120_000
"""Most messages of a standard queue that are pulled, and neither acknowledged nor visible again."""
MAX_LONG_POLL_SECONDS: Final = 20
"""Most WaitTimeSeconds of a ReceiveMessage."""
MAX_DEADLINE_SECONDS: Final = 12 * 60 * 60
"""Longest acknowledgement deadline (visibility timeout), counted from the receive."""
MAX_DELAY_SECONDS: Final = 15 * 60
"""Most DelaySeconds of a message."""
MAX_RETENTION_SECONDS: Final = 14 * 24 * 60 * 60
"""Longest retention of a message."""
BILLING_UNIT_BYTES: Final = 64 * KIB
"""SQS bills every 64 KiB of a request's payload as one request: https://aws.amazon.com/sqs/pricing/"""

# SQS, quotas-queues, and the reference of DeleteQueue, CreateQueue and PurgeQueue.
MAX_TOPIC_NAME: Final = 80
"""Characters of a queue name: letters, digits, hyphen, underscore."""
DELETED_NAME_SECONDS: Final = 60
"""Seconds for which SQS refuses to create a queue again after its deletion."""
PURGE_INTERVAL_SECONDS: Final = 60
"""SQS allows one PurgeQueue in this many seconds."""
MAX_LIST_RESULTS: Final = 1000
"""Queues in one page of ListQueues."""
COUNT_SETTLES_SECONDS: Final = 60
"""Seconds after the last send until the approximate counts are right: the reference of GetQueueAttributes."""

# Lambda.
MAX_LAMBDA_EVENT_BYTES: Final = 6 * MIB
"""Most bytes of the payload of a synchronous invocation, and so of an SQS batch."""

# S3.
MIN_MULTIPART_BYTES: Final = 5 * MIB
"""Fewest bytes of every part of a multipart upload except the last."""
MAX_MULTIPART_PARTS: Final = 10_000
"""Most parts of a multipart upload."""
MAX_KEY_BYTES: Final = 1024
"""Most bytes of a key in UTF-8: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""

# File systems.
MAX_FILE_NAME_BYTES: Final = 255
"""Most bytes of one part of a path (NAME_MAX of ext4, XFS, Btrfs and APFS)."""
