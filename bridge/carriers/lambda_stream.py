"""Lambda InvokeWithResponseStream: sends a payload to one function and returns its reply as the function writes it.

In: the event as bytes. Out: the bytes of the reply in the chunks that come, no faster than they are taken; the way it
failed comes behind them. Deadlines are the caller's: cancelling closes the connection (the function itself runs on).

https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Unpack

from bridge.aws.arn import FunctionName
from bridge.aws.errors import failure_of
from bridge.aws.response_stream import ResponseStream
from bridge.carriers.http1.exchange import StreamedResponse
from bridge.carriers.lambda_api import MAX_INVOKE_BODY, Access, LambdaApi
from bridge.rpc.buffers import Account, Portion
from bridge.rpc.errors import RpcError


class StreamedReply:
    """A reply that is still arriving. `chunks` is read once, to its end or until the caller stops."""

    __slots__ = ("chunks", "request_id")

    def __init__(self, chunks: AsyncIterator[bytes], request_id: str) -> None:
        self.chunks = chunks
        """Yields the bytes that the function wrote, as they arrive. Raises the FunctionErrors, ConnectionLost,
        CutReply, BadReply, ServiceFailed.
        """
        self.request_id = request_id
        """AWS's id of the invocation."""


class LambdaStream:
    """Calls one function for a stream. Functions that don't stream answer in one or a few chunks."""

    def __init__(self, function: FunctionName, **access: Unpack[Access]) -> None:
        self._function = function
        self._api = LambdaApi(function, function.stream_path, **access)

    @asynccontextmanager
    async def invoke(
        self,
        payload: bytes,
        *,
        client_context: str | None = None,
        account: Account | None = None,
    ) -> AsyncIterator[StreamedReply]:
        """Run the function. The reply is valid until the block ends. `client_context`: base64 of JSON, at most 3,583
        bytes; `account`: of the call, it counts what is held of the reply.

        Raises NotReady; PayloadTooLarge; what HttpClient raises; the AwsRefusals of bridge.aws.errors.
        """
        extra = () if client_context is None else (("x-amz-client-context", client_context),)
        response = await self._api.open(payload, extra, account)
        request_id = response.field(b"x-amzn-requestid")
        async with response, aclosing(self._chunks(response, request_id, account)) as chunks:
            yield StreamedReply(chunks, request_id)

    async def dry_run(self) -> None:
        """Check whether the function exists and the credentials may call it, without running it. Raises as `invoke`
        does.
        """
        await self._api.dry_run()

    async def _chunks(
        self, response: StreamedResponse, request_id: str, account: Account | None
    ) -> AsyncGenerator[bytes, None]:
        try:
            if response.field(b"x-amz-function-error"):
                # AWS does not describe this answer, but emulators give it, as for Invoke.
                whole = await response.gather(MAX_INVOKE_BODY)
                raise failure_of(whole.body, function=str(self._function))
            stream = ResponseStream(function=str(self._function))
            held = None if account is None else Portion(account)
            async for part in response:
                written, failure = stream.feed(part)
                if held is not None:
                    held.become(stream.held)
                for chunk in written:
                    yield chunk
                if failure is not None:
                    raise failure
            stream.finish()
        except RpcError as error:
            error.request_id = request_id
            raise
