"""Calls the Lambda API of one function: signs requests, sends them to the right endpoint, and reads refusals.

It repeats a request in one case only: AWS refused the signature, and there are other credentials or a corrected time.
The content of requests and replies belongs to lambda_invoke and lambda_stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Required, TypedDict, TypeVar

from bridge.aws.arn import FunctionName
from bridge.aws.invoke import MAX_REPLY, MAX_REQUEST
from bridge.aws.sigv4 import Credentials, HeaderPairs, RequestSigner, SigningKey, payload_hash
from bridge.aws.tenancy import TENANT_HEADER
from bridge.carriers.aws_answer import refusal_in
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.exchange import Response, StreamedResponse
from bridge.carriers.http1.pool import Pool
from bridge.carriers.identity.credentials import AwsSettings, CredentialSource
from bridge.carriers.identity.signing import Signing
from bridge.rpc.buffers import Account
from bridge.rpc.errors import Misconfigured, PayloadTooLarge, RpcError, StaleCredentials
from bridge.rpc.hop import USER_AGENT
from bridge.rpc.remembered import Remembered
from bridge.rpc.url import ConnectTo, Origin, Url

_SERVICE = "lambda"

HASHED_ON_LOOP = 256 << 10
"""Up to this size (bytes) a payload is hashed at once. A larger one is hashed in a thread, because it would stop all
other calls for a millisecond.
"""

MAX_INVOKE_BODY = MAX_REPLY + (4 << 10)
"""The largest reply read whole (bytes). Lambda's limit is MAX_REPLY. Emulators count a little differently."""

MAX_TENANT_SIGNERS = 256
"""Tenants of one function whose signers are kept. Each takes some KiB."""

LambdaAnswer = TypeVar("LambdaAnswer", Response, StreamedResponse)


class Access(TypedDict, total=False):
    """The keyword arguments of LambdaApi."""

    client: Required[HttpClient]
    credentials: Required[CredentialSource]
    endpoint_url: Url | None
    connect_to: ConnectTo | None
    clock: Callable[[], float]


class LambdaApi:
    """Sends requests to one path of the API."""

    def __init__(
        self,
        function: FunctionName,
        path: str,
        *,
        method: str = "POST",
        client: HttpClient,
        credentials: CredentialSource,
        endpoint_url: Url | None = None,
        connect_to: ConnectTo | None = None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - signatures carry the wall time
    ) -> None:
        """`endpoint_url` comes before what the credentials' source says. `connect_to` is where connections lead,
        instead of to the endpoint's host.
        """
        self._function = function
        self._path = path
        self._method = method
        self._client = client
        self._signing = Signing(credentials, clock)
        self._endpoint = endpoint_url
        self._connect_to = connect_to
        self._clock = clock
        self._way: _Way | None = None

    def exchange(
        self, payload: bytes, extra: HeaderPairs = (), account: Account | None = None
    ) -> Coroutine[Any, Any, Response]:
        """Send a request and return the whole response that Lambda accepted. `extra` are headers to send and sign. For
        `account` see Pool.exchange.

        Raises NotReady; PayloadTooLarge; what HttpClient raises; the AwsRefusals of bridge.aws.errors.
        """
        return self._send(payload, extra, account, _exchange)

    def open(
        self, payload: bytes, extra: HeaderPairs = (), account: Account | None = None
    ) -> Coroutine[Any, Any, StreamedResponse]:
        """Send a request and return the beginning of the response. The caller closes it. Raises as `exchange` does."""
        return self._send(payload, extra, account, Pool.open)

    async def dry_run(self, headers: HeaderPairs = ()) -> None:
        """Check that the function exists and the credentials may call it. It is not run. Raises as `exchange` does."""
        await self.exchange(b"", (*headers, ("x-amz-invocation-type", "DryRun")))

    async def _send(
        self,
        payload: bytes,
        extra: HeaderPairs,
        account: Account | None,
        send: Callable[[Pool, bytes, bytes, Account | None], Awaitable[LambdaAnswer]],
    ) -> LambdaAnswer:
        if len(payload) >= MAX_REQUEST:
            raise PayloadTooLarge(
                f"an event of {len(payload)} bytes for {self._function}; Lambda takes less than {MAX_REQUEST}"
            )
        signing = self._signing
        credentials, skew = signing.current(), signing.skew
        is_small = len(payload) <= HASHED_ON_LOOP
        hashed = payload_hash(payload) if is_small else await hash_in_thread(payload)
        is_repeated = False
        while True:
            way = self._way
            if way is None or way.credentials is not credentials:
                way = self._way = self._find_way(credentials)
            signer = way.signer if not extra else way.signer_for(extra)
            head = signer.head(hashed, len(payload), self._clock() + skew)
            answer = await send(way.pool, head, payload, account)
            if answer.status < 300:
                return answer
            error = await self._refusal(answer)
            if is_repeated or not isinstance(error, StaleCredentials):
                raise error
            if not await signing.renew(credentials, skew, answer.field(b"date")):
                raise error
            is_repeated = True
            credentials, skew = signing.current(), signing.skew

    def _find_way(self, credentials: Credentials) -> _Way:
        settings = self._signing.settings
        region = self._function.region or settings.region
        if region is None:
            raise Misconfigured(f"function {self._function} needs a region: set aws.region or use its ARN")
        try:
            endpoint = self._find_endpoint(region, settings)
            pool = self._client.pool(endpoint.origin, connect_to=self._connect_to)
        except ValueError as error:
            raise Misconfigured(f"the Lambda API of {self._function}: {error}") from error
        return _Way(
            pool=pool,
            key=SigningKey(credentials, region=region, service=_SERVICE),
            method=self._method,
            path=endpoint.prefix + self._path,
            query=self._function.invoke_query,
        )

    def _find_endpoint(self, region: str, settings: AwsSettings) -> Url:
        """Return the Lambda API's URL. Raises ValueError."""
        if self._endpoint is not None:
            return self._endpoint
        if settings.lambda_endpoint is not None:
            return Url.parse(settings.lambda_endpoint)
        host = self._function.endpoint_host(
            region, uses_fips=settings.uses_fips, uses_dual_stack=settings.uses_dual_stack
        )
        return Url(Origin("https", host, 443))

    async def _refusal(self, answer: Response | StreamedResponse) -> RpcError:
        if isinstance(answer, StreamedResponse):
            async with answer:
                answer = await answer.gather(MAX_INVOKE_BODY)
        error = refusal_in(answer, function=str(self._function), now=self._clock())
        self._signing.report(error)
        return error


_exchange = partial(Pool.exchange, max_body=MAX_INVOKE_BODY)


async def hash_in_thread(payload: bytes) -> str:
    """Hash the payload for its signature without delaying other calls."""
    return await asyncio.get_running_loop().run_in_executor(None, payload_hash, payload)


class _Way:
    """The way requests reach the function with one pair of keys."""

    def __init__(self, *, pool: Pool, key: SigningKey, method: str, path: str, query: str) -> None:
        self.pool = pool
        self.credentials = key.credentials
        self._key = key
        self._method = method
        self._path = path
        self._query = query
        self._of_tenants: Remembered[HeaderPairs, RequestSigner] = Remembered(self._new_signer, most=MAX_TENANT_SIGNERS)
        self.signer = self._new_signer(())

    def signer_for(self, extra: HeaderPairs) -> RequestSigner:
        """Return the signer for requests that also have these headers. Those of tenants are kept, because they come
        again and again.
        """
        is_tenant = len(extra) == 1 and extra[0][0] == TENANT_HEADER
        return self._of_tenants[extra] if is_tenant else self._new_signer(extra)

    def _new_signer(self, extra: HeaderPairs) -> RequestSigner:
        return RequestSigner(
            self._key,
            method=self._method,
            path=self._path,
            query=self._query,
            headers=(
                ("host", self.pool.origin.authority),
                ("content-type", "application/json"),
                *extra,
            ),
            unsigned=(("user-agent", USER_AGENT),),
        )
