"""Gets what a stack gives its steps besides their input: credentials of the IAM role for steps, and secrets of
workflows.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from parcelq.errors import SettingsError
from parcelq.steps.find import Step

_SECRET_SECONDS: Final = 900
"""How many seconds a value is used before it is read again."""
_LEFT_SECONDS: Final = 1200
"""If credentials are valid for fewer seconds than this, they are renewed. The number is larger than the 15 minutes of
the longest invocation.
"""
_SECRET: Final = re.compile(
    r"arn:aws[a-z-]*:(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:|ssm:[a-z0-9-]+:[0-9]{12}:parameter/)([^/:]+/)*"
    r"(?P<workflow>[A-Za-z0-9_-]+)/(?P<variable>[A-Za-z_][A-Za-z0-9_]*)(?P<suffix>-[A-Za-z0-9]{6})?"
)


class Secret(NamedTuple):
    """A secret of a workflow, whose steps get its value in the environment variable `variable`. The secret of a
    built-in step has the name of the stage as `workflow`.
    """

    arn: str
    workflow: str
    variable: str


def read_secrets(arns: Sequence[str]) -> tuple[Secret, ...]:
    """Read the workflows and variables of secrets from their ARNs.

    The name of a secret ends in `/<workflow>/<VARIABLE>`. Raises SettingsError with every text that is not such an ARN.
    """
    found, problems = [], []
    for arn in arns:
        match = _SECRET.fullmatch(arn)
        if match and bool(match["suffix"]) == (":secret:" in arn):
            found.append(Secret(arn, match["workflow"], match["variable"]))
        else:
            wanted = "the full ARN of a secret or an SSM parameter whose name ends in /<workflow>/<VARIABLE>"
            problems.append(f"{arn!r} must be {wanted}")
    if problems:
        raise SettingsError("the stack's parameter Secrets", problems)
    return tuple(found)


class Grants:
    """Gets credentials of `role`, if there is one, and secrets when a step first needs them, and renews old values.
    Raises SettingsError if a secret has a wrong name; see `read_secrets`.
    """

    def __init__(self, role: str, secrets: Sequence[str], session: str, now: Callable[[], float] = time.time) -> None:
        self._role = role
        self._secrets = read_secrets(secrets)
        self._session = session
        self._now = now
        self._kept: dict[str, tuple[Any, float]] = {}
        self._lock = threading.Lock()

    def to(self, step: Step, workflow: str) -> Step:
        """Return the step with a function that gets the credentials and secrets of a workflow, never those of this
        process.

        Raises SettingsError if the step's settings ask for credentials, but the stack has no role for steps.
        """
        if step.settings.aws_credentials and not self._role:
            reason = "its settings have aws_credentials: true, but the stack has no StepRole"
            raise SettingsError(f"step {step.name}", [reason])
        return step._replace(granted=partial(self._granted, workflow, credentials=step.settings.aws_credentials))

    def _granted(self, workflow: str, *, credentials: bool) -> Mapping[str, str]:
        with self._lock:
            secrets = [one for one in self._secrets if one.workflow == workflow]
            granted = {one.variable: self._fresh(one.arn, partial(self._value, one.arn)) for one in secrets}
            return {**granted, **self._fresh(self._role, self._credentials)} if credentials else granted

    def _fresh(self, key: str, fetch: Callable[[], tuple[Any, float]]) -> Any:
        """Return the value that is cached under a key, fetched again if it is too old."""
        # guard[key not in self._kept]: credentials are renewed before they expire
        if key not in self._kept or self._now() >= self._kept[key][1]:
            self._kept[key] = fetch()
        return self._kept[key][0]

    def _value(self, arn: str) -> tuple[str, float]:
        from parcelq.aws.secrets import secret_value

        return secret_value(arn), self._now() + _SECRET_SECONDS

    def _credentials(self) -> tuple[Mapping[str, str], float]:
        from parcelq.aws.secrets import credentials_of

        variables, expires = credentials_of(self._role, self._session)
        return variables, expires - _LEFT_SECONDS
