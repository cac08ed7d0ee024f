"""The prelude of a streamed HTTP reply: a JSON head, eight NULs, then the raw body.

Both sides of AWS's rule use this module: the bridge that reads replies, and the local Lambda's function URLs.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

HTTP_CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
"""The content type of a streamed reply that begins with its HTTP head."""

SEPARATOR = b"\0" * 8
"""The bytes between a prelude and its body."""

MAX_PRELUDE = 64 << 10
"""Bytes searched for the end of a prelude. API Gateway wants it within 16 KiB, so no prelude is longer."""


def find_end_of_prelude(held: bytes | bytearray) -> int:
    """Where the JSON ends, which is where the separator begins; -1 if no NUL has come. JSON text cannot hold a NUL."""
    return held.find(b"\0", 0, MAX_PRELUDE)
