"""What runs in a function's process: it takes events from stdin and gives the handler's answers back.

It is started as a script, with nothing of the command line on its path: a handler sees what it would see in Lambda.
Events and answers are JSON, each with its length in front; what the handler prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from typing import IO, Any

CHAOS = "PARCELQ_LOCAL_CHAOS"
"""A variable with a seed, with which functions die now and then."""
DEATHS = 0.05
"""Share of the invocations that do not survive."""
MOST_CALLS = 24
"""They die at one of so many moments, if they have so many."""


class Context:
    """Lambda's context object, as far as handlers use it: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

    def __init__(self, name: str, memory: int, timeout: float) -> None:
        self.function_name = name
        self.function_version = "$LATEST"
        self.invoked_function_arn = f"arn:aws:lambda:{os.environ['AWS_REGION']}:123456789012:function:{name}"
        self.memory_limit_in_mb = memory
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = "local"
        self._until = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is killed."""
        return max(0, int((self._until - time.monotonic()) * 1000))


def read_frame(pipe: IO[bytes]) -> Any:
    """Read one JSON value; EOFError where the other side is gone."""
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    return json.loads(pipe.read(int.from_bytes(head, "big")))


def write_frame(pipe: IO[bytes], value: Any) -> None:
    """Write one JSON value."""
    data = json.dumps(value).encode()
    pipe.write(len(data).to_bytes(8, "big"))
    pipe.write(data)
    pipe.flush()


def die_somewhere(seed: str) -> Callable[[], None]:
    """Let the process die in some invocations, just before or after a request to AWS; returns what begins one."""
    import boto3

    choice = random.Random(seed)  # nosec B311 # not a secret
    left = -1

    def count(**_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(137)

    def begin() -> None:
        nonlocal left
        left = choice.randint(1, MOST_CALLS) if choice.random() < DEATHS else -1

    boto3.DEFAULT_SESSION = session = boto3.Session()
    for moment in ("before-send", "after-call"):
        session.events.register(f"{moment}.*.*", count)
    return begin


def main() -> None:
    """Import the handler once, then answer one event after another until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    name, memory, timeout = os.environ["AWS_LAMBDA_FUNCTION_NAME"], int(sys.argv[2]), float(sys.argv[3])
    module, _, function = sys.argv[1].rpartition(".")
    handler = None
    seed = os.environ.get(CHAOS)
    begin = die_somewhere(f"{seed} {os.getpid()}") if seed else lambda: None
    while True:
        try:
            event = read_frame(sys.stdin.buffer)
        except EOFError:
            return
        begin()
        try:
            # Imported at the first event, as a cold start is.
            handler = handler or getattr(importlib.import_module(module), function)
            answer = {"result": handler(event, Context(name, memory, timeout))}
        except Exception as error:  # noqa: BLE001 - what Lambda does: the event failed, the process goes on
            traceback.print_exc()
            answer = {"error": {"type": type(error).__name__, "message": str(error)}}
        write_frame(answers, answer)


if __name__ == "__main__":
    main()
