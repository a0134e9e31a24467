"""The limits of AWS that concern Parcelq, each with the page that documents the limit.

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
"""The most bytes of a message: the body and the attributes together, in UTF-8."""
MAX_REQUEST_BYTES: Final = MIB
"""The most bytes of all messages of a SendMessageBatch request together, including attributes."""
MAX_REQUEST_MESSAGES: Final = 10
"""The most messages of a request to send, receive or delete messages, or to change their visibility."""
MAX_ATTRIBUTES: Final = 10
"""The most attributes of one message."""
MAX_LONG_POLL_SECONDS: Final = 20
"""The largest WaitTimeSeconds of a ReceiveMessage."""
MAX_DEADLINE_SECONDS: Final = 12 * 60 * 60
"""The longest acknowledgement deadline (visibility timeout) in seconds, counted from the receipt of the message."""
MAX_DELAY_SECONDS: Final = 15 * 60
"""The largest DelaySeconds of a message."""
MAX_RETENTION_SECONDS: Final = 14 * 24 * 60 * 60
"""The longest time in seconds for which a queue keeps a message."""
BILLING_UNIT_BYTES: Final = 64 * KIB
"""SQS bills every 64 KiB of a request's payload as one request: https://aws.amazon.com/sqs/pricing/"""

# SQS, quotas-queues, and the reference of DeleteQueue and CreateQueue.
MAX_TOPIC_NAME: Final = 80
"""Characters of a queue name: letters, digits, hyphen, underscore."""
DELETED_NAME_SECONDS: Final = 60
"""For how many seconds after a queue's deletion SQS refuses to create a queue of the same name."""
MAX_LIST_RESULTS: Final = 1000
"""The most queues in one page of the reply to ListQueues."""
COUNT_SETTLES_SECONDS: Final = 60
"""How many seconds after the last send the approximate counts are right: the reference of GetQueueAttributes."""

# Lambda.
MAX_LAMBDA_EVENT_BYTES: Final = 6 * MIB
"""The most bytes of the payload of a synchronous invocation, and so of a batch that SQS passes to a function."""

# S3.
MAX_MULTIPART_PARTS: Final = 10_000
"""The most parts of a multipart upload."""
MAX_KEY_BYTES: Final = 1024
"""The most bytes of an object's key in UTF-8: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""

# File systems.
MAX_FILE_NAME_BYTES: Final = 255
"""The most bytes of one part of a path (NAME_MAX of ext4, XFS, Btrfs and APFS)."""
