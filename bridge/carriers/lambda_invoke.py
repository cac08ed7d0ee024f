"""Lambda Invoke: a payload to one function, its reply back.

In: the event as bytes. Out: the function's reply, or an error that says what happened and whether the function may have run. It
signs each attempt and repeats one in a single case: AWS refused the signature, and other credentials or the right time are
to be had. Deadlines are the caller's: cancelling closes the connection.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime

from msgspec import DecodeError
from msgspec.json import Decoder

from bridge.aws.arn import FunctionName
from bridge.aws.errors import failure_of, refusal_of
from bridge.aws.invoke import MAX_REPLY, MAX_REQUEST, InvokeReply
from bridge.aws.sigv4 import Credentials, Headers, RequestSigner, SigningKey, payload_hash
from bridge.carriers.credentials import AwsSettings, CredentialSource
from bridge.carriers.http_client import HttpClient
from bridge.carriers.http_exchange import Response
from bridge.carriers.origin import Origin, parse_url
from bridge.carriers.pool import Pool
from bridge.rpc.errors import (
    AccessRefused,
    Misconfigured,
    PayloadTooLarge,
    RpcError,
    StaleCredentials,
)

SERVICE = "lambda"

USER_AGENT = "grpc-lambda-bridge"

HASHED_ON_LOOP = 256 << 10
"""Up to this size (bytes) a payload is hashed at once; above it in a thread, for it would stop all other calls for a millisecond."""

MAX_BODY = MAX_REPLY + (4 << 10)
"""The largest reply read (bytes). Lambda keeps to MAX_REPLY; stand-ins for it count a little differently."""

SKEW_NOTICED = 30.0
"""Seconds by which AWS's clock must differ from ours to be taken instead; AWS bears five minutes."""

REFUSALS_LOGGED_EVERY = 60.0
"""Seconds between two log lines about a function that AWS does not let us call."""

_log = logging.getLogger(__name__)


class LambdaInvoke:
    """One function, called synchronously."""

    def __init__(
        self,
        function: FunctionName,
        *,
        client: HttpClient,
        credentials: CredentialSource,
        endpoint_url: str | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 (signatures carry the wall time)
    ) -> None:
        """`endpoint_url` comes before what the credentials' source says. Raises ValueError if it is none."""
        self._function = function
        self._client = client
        self._source = credentials
        self._endpoint = None if endpoint_url is None else parse_url(endpoint_url)
        self._tls = tls
        self._clock = clock
        self._skew = 0.0
        self._way: _Way | None = None
        self._refused_until = 0.0

    async def invoke(self, payload: bytes, *, client_context: str | None = None) -> InvokeReply:
        """Run the function. `client_context`: base64 of JSON, at most 3,583 bytes.

        Raises NotReady; PayloadTooLarge; what HttpClient raises; the AwsRefusals and FunctionErrors of bridge.aws.errors.
        """
        if len(payload) >= MAX_REQUEST:
            raise PayloadTooLarge(
                f"an event of {len(payload)} bytes for {self._function}; Lambda takes less than {MAX_REQUEST}"
            )
        extra = () if client_context is None else (("x-amz-client-context", client_context),)
        response = await self._send(payload, extra)
        fields = dict(response.fields)
        request_id = fields.get(b"x-amzn-requestid", b"").decode("latin-1")
        if b"x-amz-function-error" in fields:
            failure = failure_of(response.body, function=str(self._function))
            failure.request_id = request_id
            raise failure
        return InvokeReply(
            response.body,
            request_id,
            fields.get(b"content-type", b"").decode("latin-1"),
        )

    async def dry_run(self) -> None:
        """Ask whether the function exists and the credentials may call it, without running it. Raises as `invoke` does."""
        await self._send(b"", (("x-amz-invocation-type", "DryRun"),))

    async def _send(self, payload: bytes, extra: Headers) -> Response:
        """The response to a request that Lambda accepted."""
        if len(payload) <= HASHED_ON_LOOP:
            hashed = payload_hash(payload)
        else:
            loop = asyncio.get_running_loop()
            hashed = await loop.run_in_executor(None, payload_hash, payload)
        credentials, skew = self._source.current(), self._skew
        response = await self._attempt(credentials, payload, hashed, extra)
        if response.status < 300:
            return response
        error = self._refusal(response)
        if not isinstance(error, StaleCredentials):
            raise error
        self._set_clock_by(response)
        await self._source.refresh_now(credentials)
        fresh = self._source.current()
        if fresh is credentials and self._skew == skew:
            raise error
        response = await self._attempt(fresh, payload, hashed, extra)
        if response.status < 300:
            return response
        raise self._refusal(response)

    def _attempt(
        self, credentials: Credentials, payload: bytes, hashed: str, extra: Headers
    ) -> Awaitable[Response]:
        way = self._way
        if way is None or way.credentials is not credentials:
            way = self._way = self._find_way(credentials)
        signer = way.signer if not extra else way.signer_for(extra)
        head = signer.head(hashed, len(payload), self._clock() + self._skew)
        return way.pool.exchange(head, payload, max_body=MAX_BODY)

    def _find_way(self, credentials: Credentials) -> _Way:
        settings = self._source.settings
        region = self._function.region or settings.region
        if region is None:
            raise Misconfigured(
                f"function {self._function} needs a region: set aws.region or use its ARN"
            )
        try:
            origin, prefix = self._find_endpoint(region, settings)
            pool = self._client.pool(origin, self._tls)
        except ValueError as error:
            raise Misconfigured(f"the Lambda API of {self._function}: {error}") from error
        except OSError as error:
            raise Misconfigured(
                "the certificate authorities cannot be read: check AWS_CA_BUNDLE"
            ) from error
        return _Way(
            pool=pool,
            key=SigningKey(credentials, region=region, service=SERVICE),
            path=prefix + self._function.invoke_path,
            query=self._function.invoke_query,
        )

    def _find_endpoint(self, region: str, settings: AwsSettings) -> tuple[Origin, str]:
        """The origin of the Lambda API and what its paths begin with. Raises ValueError."""
        if self._endpoint is not None:
            return self._endpoint
        if settings.lambda_endpoint is not None:
            return parse_url(settings.lambda_endpoint)
        host = self._function.endpoint_host(region)
        if settings.uses_fips:
            host = host.replace("lambda.", "lambda-fips.", 1)
        return Origin("https", host, 443), ""

    def _refusal(self, response: Response) -> RpcError:
        facts = _error_body(response.body)
        now = self._clock()
        error = refusal_of(
            http_status=response.status,
            error_type=response.field(b"x-amzn-errortype") or facts.get("__type", ""),
            message=facts.get("message", ""),
            reason=facts.get("reason", ""),
            retry_after=parse_retry_after(response.field(b"retry-after"), now=now),
            function=str(self._function),
        )
        error.request_id = response.field(b"x-amzn-requestid")
        if isinstance(error, AccessRefused | Misconfigured) and now >= self._refused_until:
            # Somebody must mend this. The client is not told whom AWS refuses, the operator needs to know.
            self._refused_until = now + REFUSALS_LOGGED_EVERY
            _log.warning(
                "%s (%s)", error, "; ".join(getattr(error, "__notes__", ())) or "no more is known"
            )
        return error

    def _set_clock_by(self, response: Response) -> None:
        """Take AWS's time if ours is wrong."""
        date = _parse_date(response.field(b"date"))
        if date is None:
            return
        skew = date - self._clock()
        if abs(skew) < SKEW_NOTICED:
            skew = 0.0
        elif abs(skew - self._skew) < SKEW_NOTICED:
            return  # known already: dates have whole seconds, small differences mean nothing
        else:
            _log.warning(
                "this machine's clock is %.0f s behind that of AWS; signing with AWS's", skew
            )
        self._skew = skew


class _Way:
    """How requests reach the function with one pair of keys."""

    def __init__(self, *, pool: Pool, key: SigningKey, path: str, query: str) -> None:
        self.pool = pool
        self.credentials = key.credentials
        self._key = key
        self._path = path
        self._query = query
        self.signer = self.signer_for(())

    def signer_for(self, extra: Headers) -> RequestSigner:
        """A signer for requests with these headers as well."""
        return RequestSigner(
            self._key,
            method="POST",
            path=self._path,
            query=self._query,
            headers=(
                ("host", self.pool.origin.authority),
                ("content-type", "application/json"),
                *extra,
            ),
            unsigned=(("user-agent", USER_AGENT),),
        )


_decode_error = Decoder(dict[str, object]).decode


def _error_body(body: bytes) -> dict[str, str]:
    """The texts in the body of an AWS error, by their names in lower case: services write `message` or `Message`."""
    try:
        fields = _decode_error(body)
    except (DecodeError, RecursionError):
        return {}
    return {name.lower(): value for name, value in fields.items() if isinstance(value, str)}


def parse_retry_after(value: str, *, now: float) -> float | None:
    """The seconds that a Retry-After asks for (RFC 9110 10.2.3): a number, or a date from which `now` (Unix seconds) is taken."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    date = _parse_date(value)
    return None if date is None else max(0.0, date - now)


def _parse_date(value: str) -> float | None:
    """The Unix seconds of an HTTP date; None for anything else."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
