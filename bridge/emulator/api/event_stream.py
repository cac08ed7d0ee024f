"""InvokeWithResponseStream: what a function gives, sent to its invoker as it comes, as AWS's event stream over HTTP.

The response begins at once, so a function that fails, at whatever moment, says so in the last event. A client that
reads slowly holds the function back; one that goes away does not stop it, as on AWS.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import aclosing

import msgspec
from aiohttp import web

from bridge.aws.arn import LATEST
from bridge.aws.event_stream_encoder import EVENT_STREAM_TYPE, encode_event
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.function import Function
from bridge.emulator.instances.invocation import Invocation, Reply

UNNAMED = "Unhandled"
"""The ErrorCode of a failure that has no type."""


async def run(request: web.Request, function: Function, invocation: Invocation) -> web.StreamResponse:
    """Invoke, and answer event by event. Raise Throttled."""
    reply = function.streamed_reply()
    task = function.begin(invocation, reply)
    response = web.StreamResponse(
        headers={
            "Content-Type": EVENT_STREAM_TYPE,
            "X-Amz-Executed-Version": LATEST,
            "X-Amzn-Trace-Id": invocation.trace_id,
            "x-amzn-RequestId": invocation.request_id,
        }
    )
    try:
        await response.prepare(request)
        await _send_payload(response, reply)
        log_tail = await asyncio.shield(task)
        await response.write(_complete(reply.failure, log_tail, wants_log=invocation.wants_log))
        await response.write_eof()
    except ConnectionError:
        return response  # The client has gone.
    finally:
        reply.abandon()
    return response


async def _send_payload(response: web.StreamResponse, reply: Reply) -> None:
    unstreamed = bytearray()
    async with aclosing(reply.chunks()) as chunks:
        async for chunk in chunks:
            if reply.is_streamed:
                await response.write(_payload_chunk(chunk))
            else:
                unstreamed += chunk
    if unstreamed and reply.failure is None:
        await response.write(_payload_chunk(bytes(unstreamed)))


def _payload_chunk(chunk: bytes) -> bytes:
    return encode_event("PayloadChunk", chunk, content_type="application/octet-stream")


def _complete(failure: Failure | None, log_tail: bytes, *, wants_log: bool) -> bytes:
    members: dict[str, str] = {}
    if failure is not None:
        members["ErrorCode"] = failure.error_type or UNNAMED
        members["ErrorDetails"] = failure.body.decode("utf-8", "replace")
    if wants_log:
        members["LogResult"] = b64encode(log_tail).decode()
    return encode_event("InvokeComplete", msgspec.json.encode(members), content_type="application/json")
