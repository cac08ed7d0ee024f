"""LambdaContext: the second argument of a handler, as the managed Python runtimes give it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any


class Fields:
    """Attributes from a JSON object. A missing member reads as None."""

    def __init__(self, names: tuple[str, ...], found: Mapping[str, Any]) -> None:
        for name in names:
            setattr(self, name, found.get(name))

    def __getattr__(self, name: str) -> Any:  # only for names that __init__ did not set
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"Fields({vars(self)})"


_CLIENT = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class LambdaContext:
    """What Lambda tells of an invocation."""

    can_stream_replies = True
    """Whether the runtime sends a StreamingReply: `lambda_fn.runtime` does."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """From the headers of the Runtime API's `next`, names in lower case. Raises ValueError for a context that is
        not JSON.
        """
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id", "")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.xray_trace_id = headers.get("lambda-runtime-trace-id")
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.client_context = _client_context(headers.get("lambda-runtime-client-context"))
        self.identity = _identity(headers.get("lambda-runtime-cognito-identity"))
        self._deadline = int(headers.get("lambda-runtime-deadline-ms", "0"))

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation; 0 if they are over."""
        now = time.time()  # noqa: TID251 - the deadline comes as wall time
        return max(0, self._deadline - int(now * 1000))


def _client_context(text: str | None) -> Fields | None:
    if not text:
        return None
    found = json.loads(text)
    client = found.get("client")
    described = found | {"client": None if client is None else Fields(_CLIENT, client)}
    return Fields(("client", "custom", "env"), described)


def _identity(text: str | None) -> Fields:
    found = json.loads(text) if text else {}
    return Fields(
        ("cognito_identity_id", "cognito_identity_pool_id"),
        {
            "cognito_identity_id": found.get("cognitoIdentityId"),
            "cognito_identity_pool_id": found.get("cognitoIdentityPoolId"),
        },
    )
