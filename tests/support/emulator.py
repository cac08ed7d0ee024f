"""A local Lambda with functions written on the spot, and AWS's own SDK to call it with."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from bridge.config.schema import FunctionConfig
from bridge.emulator.local_lambda import LocalLambda

RUNTIME_CLIENT = """
import http.client, json, os, sys, time

host = os.environ["AWS_LAMBDA_RUNTIME_API"]
connection = http.client.HTTPConnection(host)

def ask(method, path, body=None, headers={}):
    connection.request(method, "/2018-06-01/runtime" + path, body, headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()

def next_invocation():
    _, headers, body = ask("GET", "/invocation/next")
    return headers["Lambda-Runtime-Aws-Request-Id"], json.loads(body), headers

def answer(request_id, result):
    return ask("POST", f"/invocation/{request_id}/response", json.dumps(result))

def begin(request_id, content_type="application/octet-stream"):
    stream = http.client.HTTPConnection(host)
    stream.putrequest("POST", f"/2018-06-01/runtime/invocation/{request_id}/response")
    stream.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    stream.putheader("Transfer-Encoding", "chunked")
    stream.putheader("Content-Type", content_type)
    stream.endheaders()
    return stream

def begin_http(request_id, head):
    stream = begin(request_id, "application/vnd.awslambda.http-integration-response")
    write(stream, json.dumps(head).encode() + bytes(8))
    return stream

def write(stream, data):
    stream.send(b"%x\\r\\n%b\\r\\n" % (len(data), data))

def end(stream, trailers=b""):
    stream.send(b"0\\r\\n" + trailers + b"\\r\\n")
    status = stream.getresponse().status
    stream.close()
    return status

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.005)
"""
"""What the tests' own runtimes begin with: the Runtime API in the standard library."""


def runtime(folder: Path, source: str, *, name: str = "fn", **options: Any) -> FunctionConfig:
    """A function that speaks the Runtime API by itself: `source` follows RUNTIME_CLIENT."""
    (folder / f"{name}.py").write_text(RUNTIME_CLIENT + textwrap.dedent(source))
    command = (sys.executable, "-S", f"{name}.py")
    return FunctionConfig(name=name, code=folder, command=command, **options)


def handler(folder: Path, source: str, *, name: str = "fn", **options: Any) -> FunctionConfig:
    """A Python function; `source` defines `handler`."""
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    return FunctionConfig(name=name, code=folder, handler=f"{name}.handler", **options)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the SDK makes of a response."""

    status: int
    payload: bytes
    headers: dict[str, str]
    function_error: str | None = None
    version: str | None = None
    log: str = ""

    @property
    def result(self) -> Any:
        return json.loads(self.payload)


@dataclass(slots=True)
class Caller:
    """A local Lambda and a client of it."""

    local: LocalLambda
    client: Any
    lines: list[tuple[str, str]]
    """What the functions wrote, each line with the function's name."""
    written: asyncio.Event

    @property
    def log(self) -> str:
        """All that was written, one line after the other."""
        return "\n".join(line for _, line in self.lines)

    async def line(self, text: str, *, times: int = 1) -> None:
        """Return once the functions have written `text` that often."""
        while [line for _, line in self.lines].count(text) < times:
            self.written.clear()
            await self.written.wait()

    async def invoke(self, event: object = None, *, name: str = "fn", **options: Any) -> Answer:
        """Invoke with an event, or with `Payload` as it is. Raise ClientError for what the API refuses."""
        options.setdefault("Payload", json.dumps({} if event is None else event))
        response = await asyncio.to_thread(self.client.invoke, FunctionName=name, **options)
        return Answer(
            response["StatusCode"],
            await asyncio.to_thread(response["Payload"].read),
            response["ResponseMetadata"]["HTTPHeaders"],
            response.get("FunctionError"),
            response.get("ExecutedVersion"),
            base64.b64decode(response.get("LogResult", "")).decode(),
        )

    async def refusal(self, event: object = None, **options: Any) -> dict[str, Any]:
        """What the API says when it refuses to invoke."""
        try:
            answer = await self.invoke(event, **options)
        except ClientError as error:
            return dict(error.response)
        raise AssertionError(f"not refused: {answer}")


@asynccontextmanager
async def local_lambda(*functions: FunctionConfig, **options: Any) -> AsyncIterator[Caller]:
    """A running local Lambda; all its processes are gone afterwards."""
    lines: list[tuple[str, str]] = []
    written = asyncio.Event()

    def write(name: str, line: str) -> None:
        lines.append((name, line))
        written.set()

    local = LocalLambda({function.name: function for function in functions}, log=write, **options)
    await local.start("127.0.0.1", 0)
    try:
        client = await asyncio.to_thread(_client, local.endpoint_url)
        try:
            yield Caller(local, client, lines, written)
        finally:
            client.close()
    finally:
        await local.close()


def _client(endpoint_url: str) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=20),
    )
