"""The data of the Invoke API: the sizes that Lambda allows, and the reply. Carriers send and receive it."""

from __future__ import annotations

from bridge.rpc.value import FrozenValue

MAX_REQUEST = 6 << 20
"""An event must be smaller than this (bytes): 6,291,456."""

MAX_REPLY = MAX_REQUEST + 100
"""The largest payload that Lambda returns unstreamed (bytes): 6,291,556."""

MAX_STREAMED_REPLY = 200 << 20
"""The largest payload that Lambda returns streamed (bytes)."""

MAX_CLIENT_CONTEXT = 3_583
"""The largest X-Amz-Client-Context (bytes of base64)."""


class InvokeReply(FrozenValue, frozen=True):
    """What a function returned. A function that failed is an error, never a reply."""

    payload: bytes
    request_id: str
    """AWS's id of the invocation (x-amzn-RequestId)."""
    execution_arn: str = ""
    """Of the durable execution that it is."""


class InvocationWithLog(FrozenValue, frozen=True):
    """What a function returned, or its error, and the end of its log."""

    payload: bytes
    function_error: str
    """Empty if the function did not fail (X-Amz-Function-Error)."""
    log: str
    """The last 4 KB of the log (X-Amz-Log-Result). Empty without a log."""
