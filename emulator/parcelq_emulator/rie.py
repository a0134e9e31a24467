"""Runs functions with AWS's own runtime, without Docker: the Lambda Runtime Interface Emulator with `awslambdaric`.

https://github.com/aws/aws-lambda-runtime-interface-emulator. The emulator is part of aws-sam-cli, for Linux only.
"""

from __future__ import annotations

import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from parcelq.errors import ParcelqError

from parcelq_emulator.function import DIED, FunctionSpec, Instance, InvocationError
from parcelq_emulator.leftovers import end_processes_below

_HOST: Final = "127.0.0.1"
_PATH: Final = "/2015-03-31/functions/function/invocations"
_EMULATORS: Final = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
_START_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.01
_ATTEMPTS: Final = 3
"""How many ports to try, because another process may take a free port before the emulator opens the port."""
_GRACE_SECONDS: Final = 30.0
"""How many seconds after the timeout the process counts as hung, if the emulator has not enforced the timeout."""
_TIMED_OUT: Final = "Task timed out"
_SHOWN: Final = 200


class EmulatorNotFoundError(ParcelqError):
    """The emulator of AWS's runtime is not installed, or not available for this machine."""


def emulator() -> Path:
    """Return the path of the Lambda Runtime Interface Emulator.

    Raises:
        EmulatorNotFoundError: if the emulator or the runtime's Python package is not installed; the message says what
            to install.
    """
    name = _EMULATORS.get(platform.machine())
    if sys.platform != "linux" or name is None:
        machine = f"{platform.system()} on {platform.machine()}"
        raise EmulatorNotFoundError(f"AWS's runtime emulator runs on Linux on {' or '.join(_EMULATORS)}, not {machine}")
    samcli = find_spec("samcli")
    if samcli is None or samcli.origin is None or find_spec("awslambdaric") is None:
        raise EmulatorNotFoundError(
            "AWS's runtime emulator needs the packages aws-sam-cli and awslambdaric; "
            "install them with: pip install 'parcelq[rie]'"
        )
    path = Path(samcli.origin).parent / "local" / "rapid" / name
    if not os.access(path, os.X_OK):
        raise EmulatorNotFoundError(f"this aws-sam-cli has no executable emulator at {path}")
    return path


class EmulatedFunction(Instance):
    """An instance of a function in AWS's emulator, which starts the runtime and enforces the timeout.

    Args:
        spec: the configuration of the instance.
        log: the file to which the handler's and the emulator's logs are written.
        interpreter: the Python that runs the function; `awslambdaric` and boto3 must be installed for it.

    Raises:
        EmulatorNotFoundError: if there is no emulator on this machine.
    """

    def __init__(self, spec: FunctionSpec, log: IO[bytes], interpreter: str | Path = sys.executable) -> None:
        super().__init__(spec, log)
        self._emulator = emulator()
        self._interpreter = interpreter
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """Give an event to the handler and return the answer."""
        if self._process is None:
            self._start()
        connection = HTTPConnection(_HOST, self._port, timeout=_START_SECONDS + self._spec.timeout + _GRACE_SECONDS)
        try:
            connection.request("POST", _PATH, json.dumps(event))
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, HTTPException) as error:
            self.stop()
            raise self._failed(DIED, f"its emulator gave no answer ({type(error).__name__})") from None
        finally:
            connection.close()
        if response.status != HTTPStatus.OK or text.startswith(_TIMED_OUT):
            self.stop()  # Lambda would end the step with the sandbox, but the emulator leaves the step running
        return self._answer(text)

    def stop(self) -> None:
        """End the emulator, the runtime and all processes that the handler started."""
        if self._process is not None:
            end_processes_below(self._spec.scratch)
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answer(self, text: str) -> Any:
        """Return the handler's answer from the text of the emulator's reply. Only this text says whether the handler
        failed.
        """
        if text.startswith(_TIMED_OUT):
            raise self._failed("Timeout", text)
        try:
            answer = json.loads(text)
        except ValueError:
            raise self._failed(DIED, f"its emulator answered {text[:_SHOWN]!r}") from None
        if isinstance(answer, dict) and {"errorType", "errorMessage"} <= answer.keys():
            raise self._failed(answer["errorType"], answer["errorMessage"])
        return answer

    def _failed(self, kind: str, message: str) -> InvocationError:
        return InvocationError(self._spec.name, kind, message)

    def _start(self) -> None:
        for _ in range(_ATTEMPTS):
            self._port, api_port = _free_ports()
            self._process = subprocess.Popen(
                [
                    str(self._emulator),
                    *("--runtime-interface-emulator-address", f"{_HOST}:{self._port}"),
                    *("--runtime-api-address", f"{_HOST}:{api_port}"),  # each instance needs its own address
                    *(str(self._interpreter), "-P", "-m", "awslambdaric", self._spec.handler),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd=self._spec.folder,
                env={**self._spec.variables(), "AWS_LAMBDA_FUNCTION_TIMEOUT": str(math.ceil(self._spec.timeout))},
                start_new_session=True,  # Ctrl-C is for the command line, which ends its functions itself
            )
            if self._listens():
                return
            self.stop()
        raise self._failed(DIED, "its emulator could not be started; its log says more")

    def _listens(self) -> bool:
        """Wait until the emulator accepts connections; return False if the emulator ended without accepting any."""
        until = time.monotonic() + _START_SECONDS
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection((_HOST, self._port), timeout=_START_SECONDS).close()
            except OSError:
                time.sleep(_LOOK_SECONDS)
            else:
                return True
        return False


def _free_ports() -> tuple[int, int]:
    with ExitStack() as both:
        first, second = (both.enter_context(socket.create_server((_HOST, 0))) for _ in range(2))
        return first.getsockname()[1], second.getsockname()[1]
