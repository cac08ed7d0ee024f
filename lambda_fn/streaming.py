"""StreamingReply: a reply that leaves while it is made. Only `lambda_fn.runtime` can send one; AWS's managed Python
runtime cannot.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

HTTP_CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
PRELUDE_END = bytes(8)
"""The separator that AWS requires between the JSON head and the body."""


class StreamingReply:
    """Return this from a handler to send `chunks` one by one, as they come.

        def handler(event, context):
            return StreamingReply(lines(), content_type="text/plain")

    With `head` (`{"statusCode": 200, "headers": {…}}`) it is an HTTP reply. The head and eight NUL bytes go first, as
    function URLs and API Gateway expect. An exception raised by `chunks` before the first one fails the invocation as
    usual; a later one ends the stream and is reported in its trailers.
    """

    __slots__ = ("chunks", "content_type", "head")

    def __init__(
        self,
        chunks: Iterable[bytes] | AsyncIterable[bytes],
        *,
        content_type: str = "application/octet-stream",
        head: Mapping[str, Any] | None = None,
    ) -> None:
        """`content_type` is ignored if `head` is given, because its headers say the type."""
        self.chunks = chunks
        self.content_type = content_type
        self.head = head
