"""Topics (SQS queues): messages, publishing, pulling, leases, administration."""
