"""Invoke for AWS's local emulator and similar programs. Failures are found in the reply, and nothing can be checked
beforehand.
"""

from __future__ import annotations

from bridge.aws.arn import FunctionName
from bridge.aws.errors import failure_of
from bridge.aws.invoke import InvokeReply
from bridge.aws.rie import as_invoked, is_failure
from bridge.aws.sigv4 import HeaderPairs
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.identity.credentials import local_credentials
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.rpc.buffers import Account
from bridge.rpc.errors import ServiceFailed
from bridge.rpc.url import Url


class RieInvoke:
    """Calls the one function of an emulator. Requests are signed with dummy keys, because no emulator checks them."""

    def __init__(self, function: FunctionName, *, client: HttpClient, endpoint_url: Url) -> None:
        self.endpoint_url = endpoint_url
        self._function = function
        self._invoke = LambdaInvoke(
            as_invoked(function),
            client=client,
            credentials=local_credentials(),
            endpoint_url=endpoint_url,
        )

    async def invoke(
        self,
        payload: bytes,
        *,
        headers: HeaderPairs = (),
        account: Account | None = None,
    ) -> InvokeReply:
        """Run the function. Raises as LambdaInvoke does."""
        try:
            reply = await self._invoke.invoke(payload, headers=headers, account=account)
        except ServiceFailed as refused:
            if is_failure(refused.body):  # the function's process has ended
                raise failure_of(refused.body, function=str(self._function)) from None
            raise
        if is_failure(reply.payload):
            failure = failure_of(reply.payload, function=str(self._function))
            failure.request_id = reply.request_id
            raise failure
        return reply

    async def dry_run(self) -> None:
        """Do nothing: an emulator does not know DryRun and would run the function."""
