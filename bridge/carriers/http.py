"""Sends requests to an HTTP server: function URLs, API Gateways, load balancers, any gRPC-Web server.

In: a path, fields and a body. Out: the response as it comes, whatever its status. A signed request is repeated in one
case only: AWS refused the signature, and there are other credentials or a corrected time. Redirects are not followed,
and nothing is retried.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from bridge.aws.hosts import ALL_REGIONS, permission_for, signed_host
from bridge.aws.sigv4 import Credentials, HeaderPairs, RequestSigner, SigningKey, payload_hash
from bridge.carriers.aws_answer import refusal_in
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.exchange import StreamedResponse
from bridge.carriers.http1.pool import Pool
from bridge.carriers.identity.credentials import CredentialSource
from bridge.carriers.identity.signing import Signing
from bridge.carriers.identity.sigv4a import sign_for_all_regions
from bridge.carriers.lambda_api import HASHED_ON_LOOP, hash_in_thread
from bridge.rpc.buffers import SMALL, Account
from bridge.rpc.errors import AccessRefused, AwsRefusal, StaleCredentials
from bridge.rpc.remembered import BoundedDict
from bridge.rpc.url import ConnectTo, Origin, Url
from bridge.rpc.value import FrozenValue

MAX_REFUSAL = 64 << 10
"""Bytes read of an answer in which AWS refuses a signed request."""

MAX_SIGNERS = 256
"""Paths with a prepared signature. Clients choose the paths, so they are bounded."""

_WEB_ERROR_TYPE = b"lambda-web-error-type"
"""The header in which the platform of Web Functions names an error of its own."""


class Iam(FrozenValue, frozen=True):
    """The settings for signed requests: the service and region, and the keys."""

    service: str
    region: str
    credentials: CredentialSource
    clock: Callable[[], float]
    """Returns the wall time (Unix seconds)."""


class HttpCarrier:
    """The carrier to one server, or to one path prefix of it."""

    def __init__(
        self,
        url: Url,
        *,
        client: HttpClient,
        tls: ssl.SSLContext | None = None,
        iam: Iam | None = None,
        connect_to: ConnectTo | None = None,
    ) -> None:
        """`tls`: instead of the system's authorities. `connect_to`: where connections lead, instead of to the host."""
        self._origin, self._prefix = url.origin, url.prefix
        self._client = client
        self._tls = tls
        self._connect_to = connect_to
        self._signer = None if iam is None else _Signer(iam, self._origin)
        self.is_signed = iam is not None
        """Whether the carrier sets `authorization`."""
        self._pool: Pool | None = None
        self.name = str(url)
        """The server's name in messages."""

    async def open(
        self, path: str, fields: HeaderPairs, body: bytes, account: Account | None = None
    ) -> StreamedResponse:
        """Send a POST and wait until the response begins. The caller closes it. `path` follows the prefix,
        percent-encoded; `account`: of the
        call, it counts what of the response is not read yet.

        Raises what HttpClient raises, Misconfigured, BuffersFull; if requests are signed, NotReady and AccessRefused as
        well.
        """
        pool, path = self._pool or self._find_pool(), self._prefix + path
        if account is not None and self._origin.is_secure and len(body) > SMALL:
            account.hold(len(body))  # TLS keeps a copy of what it has not sent
        if self._signer is None:
            return await pool.open(self._head(path, fields, body), body, account)
        return await self._open_signed(pool, self._signer, path, fields, body, account)

    async def dry_run(self) -> None:
        """Check whether the server can be reached, with credentials if it needs any. Raises as `open` does."""
        if self._signer is not None:
            self._signer.signing.current()
        await (self._pool or self._find_pool()).connect()

    async def _open_signed(
        self,
        pool: Pool,
        signer: _Signer,
        path: str,
        fields: HeaderPairs,
        body: bytes,
        account: Account | None,
    ) -> StreamedResponse:
        is_small = len(body) <= HASHED_ON_LOOP
        hashed = payload_hash(body) if is_small else await hash_in_thread(body)
        credentials, skew = signer.signing.current(), signer.signing.skew
        signed = await signer.sign(credentials, path, fields, hashed)
        response = await pool.open(self._head(path, signed, body), body, account)
        error = await self._refusal(signer, response)
        if error is None:
            return response
        date = response.field(b"date")
        if not isinstance(error, StaleCredentials) or not await signer.signing.renew(credentials, skew, date):
            raise error
        signed = await signer.sign(signer.signing.current(), path, fields, hashed)
        response = await pool.open(self._head(path, signed, body), body, account)
        error = await self._refusal(signer, response)
        if error is not None:
            raise error
        return response

    async def _refusal(self, signer: _Signer, response: StreamedResponse) -> AwsRefusal | None:
        """Why AWS refused the request before the function, or None if it did not."""
        if response.status != 403:
            return None
        if not response.field(b"x-amzn-errortype") and not response.field(_WEB_ERROR_TYPE):
            return None
        async with response:
            whole = await response.gather(MAX_REFUSAL)
        found = refusal_in(whole, function=self.name, now=signer.signing.now())
        assert isinstance(found, AwsRefusal)
        error = found
        if not isinstance(found, StaleCredentials):
            permission = permission_for(self._origin.host, signer.service)
            error = AccessRefused(
                f"AWS refuses the bridge's credentials for {self.name} ({found.error_type}):"
                f" they need {permission} on it; the bridge's log has the details",
                error_type=found.error_type,
            )
            error.request_id = found.request_id
            for note in getattr(found, "__notes__", ()):
                error.add_note(note)
        signer.signing.report(error)
        return error

    def _find_pool(self) -> Pool:
        self._pool = self._client.pool(self._origin, self._tls, connect_to=self._connect_to)
        return self._pool

    def _head(self, path: str, fields: HeaderPairs, body: bytes) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
        return (
            f"POST {path} HTTP/1.1\r\nhost: {self._origin.authority}\r\n{lines}content-length: {len(body)}\r\n\r\n"
        ).encode("ascii")


class _Signer:
    """Signs what AWS requires, and fields that do not change between calls: host and content type."""

    def __init__(self, iam: Iam, origin: Origin) -> None:
        self.signing = Signing(iam.credentials, iam.clock)
        self.service = iam.service
        self._region = iam.region
        self._authority = origin.authority
        told = signed_host(origin.host)
        self._needs_hash = told is not None and told.needs_hash
        self._credentials: Credentials | None = None
        self._key: SigningKey
        self._prepared: BoundedDict[tuple[str, str], RequestSigner] = BoundedDict(most=MAX_SIGNERS)

    async def sign(self, credentials: Credentials, path: str, fields: HeaderPairs, hashed: str) -> HeaderPairs:
        """Return the fields with the signature. `hashed` is the hash of the body."""
        content_type = next(value for name, value in fields if name == "content-type")
        headers = (("host", self._authority), ("content-type", content_type))
        if self._region == ALL_REGIONS:
            now = self.signing.now()
            added = await sign_for_all_regions(
                credentials, service=self.service, path=path, headers=headers, payload_hash=hashed, now=now
            )
            return (*fields, *added)
        if credentials is not self._credentials:
            self._key = SigningKey(credentials, region=self._region, service=self.service)
            self._credentials = credentials
            self._prepared.clear()
        if self._needs_hash:
            # The hash is part of what is signed, so nothing can be prepared before it is known.
            told = ("x-amz-content-sha256", hashed)
            signer = RequestSigner(self._key, method="POST", path=path, headers=(*headers, told))
            return (*fields, told, *signer.headers_to_add(hashed, self.signing.now()))
        prepared = self._prepared.get((path, content_type))
        if prepared is None:
            prepared = RequestSigner(self._key, method="POST", path=path, headers=headers)
            self._prepared.remember((path, content_type), prepared)
        return (*fields, *prepared.headers_to_add(hashed, self.signing.now()))
