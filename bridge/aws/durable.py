"""Durable executions: an invocation with a name runs once, and another one with the same name gets its result.

https://docs.aws.amazon.com/lambda/latest/dg/durable-functions.html
"""

from __future__ import annotations

import re

from bridge.aws.sigv4 import HeaderPairs

NAME_HEADER = "x-amz-durable-execution-name"
ARN_HEADER = "x-amz-durable-execution-arn"

NAME_RULE = "1 to 64 of A-Z a-z 0-9 - _"

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Lambda's API model, DurableExecutionName."""


def is_execution_name(text: str) -> bool:
    """Whether AWS takes this as the name of an execution."""
    return _NAME.fullmatch(text) is not None


def name_header(name: str) -> HeaderPairs:
    """Return the header that an invocation with this name has."""
    return ((NAME_HEADER, name),)
