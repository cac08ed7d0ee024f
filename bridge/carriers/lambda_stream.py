"""Lambda InvokeWithResponseStream: sends a payload to one function and returns its reply as the function writes it.

In: the event as bytes. Out: the bytes of the reply in the chunks that come, no faster than they are taken; the way it
failed comes behind them. Deadlines are the caller's: cancelling closes the connection (the function itself runs on).

https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
"""

from __future__ import annotations

from collections import deque
from typing import Self, Unpack

from bridge.aws.arn import FunctionName
from bridge.aws.errors import failure_of
from bridge.aws.response_stream import ResponseStream
from bridge.aws.sigv4 import HeaderPairs
from bridge.carriers.http1.exchange import StreamedResponse
from bridge.carriers.lambda_api import MAX_INVOKE_BODY, Access, LambdaApi
from bridge.rpc.buffers import Account, Portion
from bridge.rpc.errors import RpcError


class ArrivingPayload:
    """A payload that is still arriving: yields the bytes that the function writes. It is read once."""

    __slots__ = ("_chunks", "_failure", "_held", "_response", "_stream", "request_id")

    def __init__(
        self, response: StreamedResponse, *, function: str, request_id: str, account: Account | None = None
    ) -> None:
        """Read this response. `function` is its name in messages. `account` is the call's, and counts what is held."""
        self._response = response
        self._stream = ResponseStream(function=function)
        self._held = None if account is None else Portion(account)
        self._chunks: deque[bytes] = deque()
        self._failure: RpcError | None = None
        """The way the function failed. It is raised behind the chunks."""
        self.request_id = request_id
        """AWS's id of the invocation."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk. Raises FunctionErrors, ConnectionLost, CutReply, BadReply, ServiceFailed."""
        try:
            while not self._chunks:
                if self._failure is not None:
                    raise self._failure
                await self._read()
        except RpcError as error:
            error.request_id = self.request_id
            raise
        return self._chunks.popleft()

    async def _read(self) -> None:
        """Read the next part of the response."""
        try:
            part = await anext(self._response)
        except StopAsyncIteration:
            self._stream.finish()
            raise
        written, self._failure = self._stream.feed(part)
        if self._held is not None:
            self._held.become(self._stream.held)
        self._chunks += written

    def close(self) -> None:
        """Stop reading. Before the end this closes the connection. The function itself runs on."""
        self._chunks.clear()
        self._response.close()


class LambdaStream:
    """Calls one function for a stream. Functions that don't stream answer in one or a few chunks."""

    def __init__(self, function: FunctionName, **access: Unpack[Access]) -> None:
        self._function = function
        self._api = LambdaApi(function, function.stream_path, **access)

    async def open(
        self, payload: bytes, *, headers: HeaderPairs = (), account: Account | None = None
    ) -> ArrivingPayload:
        """Run the function and return what it writes as soon as that begins. The caller closes it. `headers`: more of
        the API, which are signed. `account` is the call's, and counts what is held of the payload.

        Raises NotReady; PayloadTooLarge; what HttpClient raises; the AwsRefusals and FunctionErrors of
        bridge.aws.errors.
        """
        response = await self._api.open(payload, headers, account)
        request_id = response.field(b"x-amzn-requestid")
        if response.field(b"x-amz-function-error"):
            # AWS does not describe this answer, but emulators give it, as for Invoke.
            async with response:
                whole = await response.gather(MAX_INVOKE_BODY)
            failure = failure_of(whole.body, function=str(self._function))
            failure.request_id = request_id
            raise failure
        return ArrivingPayload(response, function=str(self._function), request_id=request_id, account=account)

    async def dry_run(self, headers: HeaderPairs = ()) -> None:
        """Check whether the function exists and the credentials may call it. It is not run. Raises as `open` does."""
        await self._api.dry_run(headers)
