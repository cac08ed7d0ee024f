"""Lambda Invoke: sends a payload to one function and returns its reply.

In: the event as bytes. Out: the function's reply, or an error that says what happened and whether the function may have
run. The caller bounds the time: cancelling closes the connection.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Unpack

from bridge.aws.arn import FunctionName
from bridge.aws.durable import ARN_HEADER
from bridge.aws.errors import failure_of
from bridge.aws.invoke import InvocationWithLog, InvokeReply
from bridge.aws.sigv4 import HeaderPairs
from bridge.carriers.http1.large_replies import LARGE
from bridge.carriers.lambda_api import Access, LambdaApi
from bridge.rpc.buffers import Account

_ARN = ARN_HEADER.encode()


class LambdaInvoke:
    """One function, called synchronously."""

    def __init__(self, function: FunctionName, **access: Unpack[Access]) -> None:
        self._function = function
        self._turns = access["client"].turns
        self._api = LambdaApi(function, function.invoke_path, **access)

    async def invoke(
        self,
        payload: bytes,
        *,
        headers: HeaderPairs = (),
        account: Account | None = None,
    ) -> InvokeReply:
        """Run the function. `headers`: more of the Invoke API, which are signed; `account`: of the call, it counts the
        reply.

        Raises NotReady; BuffersFull; PayloadTooLarge; what HttpClient raises; the AwsRefusals and FunctionErrors of
        bridge.aws.errors.
        """
        response = await self._api.exchange(payload, headers, account)
        fields = dict(response.fields)
        request_id = fields.get(b"x-amzn-requestid", b"").decode("latin-1")
        if len(response.body) > LARGE:
            await self._turns.next()  # the next task to run reads it at once
        if b"x-amz-function-error" in fields:
            failure = failure_of(response.body, function=str(self._function))
            failure.request_id = request_id
            failure.execution_arn = fields.get(_ARN, b"").decode("latin-1")
            raise failure
        if headers:
            return InvokeReply(response.body, request_id, fields.get(_ARN, b"").decode("latin-1"))
        return InvokeReply(response.body, request_id)

    async def invoke_with_log(self, payload: bytes) -> InvocationWithLog:
        """Run the function and return what it returned or how it failed, with the end of its log.

        Raises as `invoke` does, but no FunctionErrors.
        """
        response = await self._api.exchange(payload, (("x-amz-log-type", "Tail"),))
        return InvocationWithLog(
            payload=response.body,
            function_error=response.field(b"x-amz-function-error"),
            log=_text_of(response.field(b"x-amz-log-result")),
        )

    async def dry_run(self, headers: HeaderPairs = ()) -> None:
        """Check whether the function exists and the credentials may call it. It is not run. Raises as `invoke` does."""
        await self._api.dry_run(headers)


def _text_of(log: str) -> str:
    """Return the text of an X-Amz-Log-Result. What cannot be read is no reason to lose the result."""
    try:
        return b64decode(log).decode("utf-8", "replace")
    except (Base64Error, ValueError):
        return ""
