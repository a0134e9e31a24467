"""An instance of a Lambda function: a process that runs the deployed handler for one event at a time, as on Lambda."""

from __future__ import annotations

import os
import select
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from parcelq.errors import ParcelqError

from parcelq_emulator.forks import ForkedProcess, Forks
from parcelq_emulator.runtime import read_frame, write_frame
from parcelq_emulator.surroundings import inherited

_STOP_SECONDS: Final = 5.0
DIED: Final = "Died"
"""The `kind` of an InvocationError if the process ended."""


class Runtime(StrEnum):
    """The programs that can run Lambda functions on this machine."""

    EMBEDDED = "embedded"
    RIE = "rie"


class InvocationError(ParcelqError):
    """An invocation failed: the handler raised an error or took too long, or the process died.

    Attributes:
        kind: the class name of the handler's exception, `Timeout`, or `DIED`.
        text: the error message.
    """

    def __init__(self, function: str, kind: str, message: str) -> None:
        super().__init__(f"function {function}: {kind}: {message}")
        self.kind = kind
        self.text = message


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """The configuration of an instance of a Lambda function.

    Attributes:
        name: the function's name.
        folder: the folder of the function's code.
        handler: the handler's name, as `module.function`.
        environment: the function's environment variables, without the variables that Lambda itself sets.
        timeout: how many seconds an invocation may take.
        memory: the function's memory in MB, which the handler can read but which is not enforced here.
        library: the folder of the layer's library.
        scratch: the instance's own folder for temporary files; all processes that the instance started are identified
            by this path.
    """

    name: str
    folder: Path
    handler: str
    environment: Mapping[str, str]
    timeout: float
    memory: int
    library: Path
    scratch: Path

    def variables(self) -> dict[str, str]:
        """The environment of the process: the variables that Lambda sets, and the variables from the template."""
        own = {
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory),
            "LAMBDA_TASK_ROOT": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(self.library)]),
            "TMPDIR": str(self.scratch),
        }
        return {**inherited(), **own, **self.environment}


class Instance(ABC):
    """An instance of a Lambda function. The first event starts the instance, and the end of this context stops it.

    Args:
        spec: the configuration of the instance.
        log: the file to which the handler's logs are written.
    """

    def __init__(self, spec: FunctionSpec, log: IO[bytes]) -> None:
        self._spec = spec
        self._log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def invoke(self, event: Mapping[str, Any]) -> Any:
        """Give an event to the handler and return the answer. Only one call at a time is allowed.

        Raises:
            InvocationError: if the handler raised an error, the invocation timed out, or the process died. In the last
                two cases, the next event starts a new process.
        """

    @abstractmethod
    def stop(self) -> None:
        """Let the instance end, or kill the instance if ending takes too long."""


class FunctionProcess(Instance):
    """An instance that is a process of this Python. Each invocation has a time limit.

    Args:
        spec: the configuration of the instance.
        log: the file to which the handler's logs are written.
        forks: the object that starts the process.
    """

    def __init__(self, spec: FunctionSpec, log: IO[bytes], forks: Forks) -> None:
        super().__init__(spec, log)
        self._forks = forks
        self._process: ForkedProcess | None = None

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """Give an event to the handler and return the answer."""
        spec = self._spec
        try:
            if self._process is None or self._process.ended():
                environment = spec.variables()
                self._process = self._forks.start(
                    spec.handler, spec.memory, spec.timeout, spec.folder, environment, self._log
                )
            process = self._process
            write_frame(process.stdin, event)
            if not select.select([process.stdout], [], [], spec.timeout)[0]:
                process.kill()
                raise InvocationError(spec.name, "Timeout", f"timed out after {spec.timeout:g} seconds")
            answer = read_frame(process.stdout)
        except (EOFError, OSError, ValueError):
            raise InvocationError(spec.name, DIED, f"its process ended with {self._ended_with()}") from None
        if error := answer.get("error"):
            raise InvocationError(spec.name, error["type"], error["message"])
        return answer["result"]

    def stop(self) -> None:
        """Let the process end, or kill the process if ending takes too long."""
        if self._process is not None:
            with suppress(OSError, EOFError):  # the processes are already dead
                self._process.stop(_STOP_SECONDS)

    def _ended_with(self) -> int | None:
        with suppress(OSError, EOFError):
            if self._process is not None:
                self._process.kill()
        return self._process.returncode if self._process is not None else None
