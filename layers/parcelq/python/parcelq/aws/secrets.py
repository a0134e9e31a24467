"""Gets the credentials of a role, or the value of a secret, with one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from parcelq.aws.clients import other_client, translated
from parcelq.aws.replies import needed
from parcelq.errors import AwsError

_SESSION_SECONDS: Final = 3600
"""The longest session that AWS allows if a role assumes another role:
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""
_VARIABLES: Final = {
    "AWS_ACCESS_KEY_ID": "AccessKeyId",
    "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",  # nosec B105 # a name
    "AWS_SESSION_TOKEN": "SessionToken",  # nosec B105 # a name
}
_PARAMETER: Final = ":parameter/"


def credentials_of(role: str, session: str) -> tuple[Mapping[str, str], float]:
    """Assume an IAM role and return credentials.

    The session's name, which CloudTrail shows, has 2 to 64 letters, digits and hyphens.

    Returns:
        The credentials as the environment variables that AWS clients read, and the time when the credentials expire, in
        seconds since the epoch.

    Raises:
        AwsError: if STS refused the request or could not be reached.
    """
    with translated():
        reply = other_client("sts").assume_role(RoleArn=role, RoleSessionName=session, DurationSeconds=_SESSION_SECONDS)
    given = needed(reply, "AssumeRole", "Credentials")
    variables = {variable: needed(given, "AssumeRole", member) for variable, member in _VARIABLES.items()}
    return variables, needed(given, "AssumeRole", "Expiration").timestamp()


def secret_value(arn: str) -> str:
    """Return the decrypted text of a secret of Secrets Manager or of a parameter of Systems Manager.

    Raises AwsError if the secret does not exist or may not be read, or if the service could not be reached.
    """
    _, is_parameter, name = arn.partition(_PARAMETER)
    with translated():
        if is_parameter:
            reply = other_client("ssm").get_parameter(Name=f"/{name}", WithDecryption=True)
            return str(needed(needed(reply, "GetParameter", "Parameter"), "GetParameter", "Value"))
        reply = other_client("secretsmanager").get_secret_value(SecretId=arn)
    if "SecretBinary" in reply:
        raise AwsError(
            "GetSecretValue", "BinarySecret", f"{arn} contains bytes, but must contain a text (SecretString)"
        )
    return str(needed(reply, "GetSecretValue", "SecretString"))
