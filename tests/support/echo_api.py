"""A stand-in for Lambda's API whose function echoes: it reads the event for real and does what each call's metadata
asks of it.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from tests.support.lambda_api import LambdaApi, answer, refusal

ID = "x-call-id"
FAULT = "x-fault"

LONGEST_DELAY = 0.05
"""Seconds an echo takes at most."""

AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "eu-west-1"}
"""The environment of a bridge that calls it."""

_LENGTH = re.compile(rb"content-length: (\d+)")


class EchoApi(LambdaApi):
    """Faults: `throttle` (the first attempt), `hang up`, `raise`, `status` (9), `silence`, `hold` (until `release`);
    none: the messages come back.
    """

    def __init__(self, seed: int) -> None:
        super().__init__({}, None)
        self.attempts: Counter[str] = Counter()
        """By call id."""
        self.aborted: Counter[str] = Counter()
        """Calls whose connection was closed while they waited for an answer that never comes, by id."""
        self._random = random.Random(seed)
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let the calls go on that are held."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        event = msgspec.json.decode(await reader.readexactly(int(length[1]) if length else 0))
        call_id, fault = event["headers"].get(ID, ""), event["headers"].get(FAULT, "")
        self.attempts[call_id] += 1
        if fault == "hang up":
            return False
        if fault == "silence":
            if await reader.read(1) == b"":
                self.aborted[call_id] += 1
            return False
        if fault == "hold":
            await self._released.wait()
        await asyncio.sleep(self._random.uniform(0, LONGEST_DELAY))
        writer.write(self._reply(call_id, fault, event))
        await writer.drain()
        return True

    def _reply(self, call_id: str, fault: str, event: dict[str, Any]) -> bytes:
        if fault == "throttle" and self.attempts[call_id] == 1:
            return refusal(429, "TooManyRequestsException")
        if fault == "raise":
            raised = json.dumps({"errorType": "ValueError", "errorMessage": call_id})
            return answer(200, raised, "x-amz-function-error: Unhandled")
        if fault == "status":
            trailers = f"grpc-status:9\r\ngrpc-message:{call_id}\r\n{ID}:{call_id}\r\n".encode()
            return answer(200, _web(b"", trailers, event))
        trailers = f"grpc-status:0\r\n{ID}:{call_id}\r\n".encode()
        return answer(200, _web(b64decode(event["body"]), trailers, event))


@contextmanager
def echo_api(seed: int = 0) -> Iterator[EchoApi]:
    api = EchoApi(seed)
    api.start()
    try:
        yield api
    finally:
        api.stop()


def _web(frames: bytes, trailers: bytes, event: dict[str, Any]) -> bytes:
    headers = {"content-type": "application/grpc-web+proto", ID: event["headers"].get(ID, "")}
    if "grpc-encoding" in event["headers"]:
        headers["grpc-encoding"] = event["headers"]["grpc-encoding"]
    body = frames + b"\x80" + len(trailers).to_bytes(4, "big") + trailers
    return msgspec.json.encode(
        {
            "statusCode": 200,
            "headers": headers,
            "body": b64encode(body).decode(),
            "isBase64Encoded": True,
        }
    )
