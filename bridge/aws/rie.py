"""AWS's local emulator and its relatives: what they answer differently from Lambda (`quirks: rie`).

They know one function, and tell a failure by the reply's text alone: without X-Amz-Function-Error, with HTTP 200, or
502 if its process ended.
"""

from __future__ import annotations

import re
from dataclasses import replace

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from bridge.aws.arn import FunctionName
from bridge.rpc.json_text import without_mark

ENDPOINT = "http://127.0.0.1:8080"
"""Where the emulator listens unless told otherwise."""

_TIMED_OUT = re.compile(rb'\s*"?Task timed out after \d').match


class _Failure(Struct, gc=False):
    errorType: str  # noqa: N815 - the wire's names
    errorMessage: str  # noqa: N815


_decode = Decoder(_Failure).decode


def as_invoked(function: FunctionName) -> FunctionName:
    """Return the name in the path: `function`, whatever runs there, without account and qualifier."""
    return replace(function, name="function", qualifier=None, account=None)


def is_failure(payload: bytes) -> bool:
    """Whether what came is a function's failure."""
    if _TIMED_OUT(payload):
        return True
    try:
        _decode(without_mark(payload))
    except (DecodeError, UnicodeDecodeError, RecursionError):
        # ValidationError is a DecodeError: not both texts are there.
        return False
    return True
