"""Calls to a function over the connections that its instances open: a native carrier that has no address to dial."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from functools import lru_cache
from secrets import token_hex
from typing import Protocol

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder

from bridge.aws.events.duplex_order import (
    REASON,
    NamedCertificate,
    Order,
    PinnedCertificate,
    encode_order,
)
from bridge.aws.invoke import InvokeReply
from bridge.carriers.duplex.attached import AttachedReply
from bridge.carriers.duplex.attaching import Meeting
from bridge.carriers.duplex.instances import Instances, Observer
from bridge.carriers.grpc.call import LONGEST_USER_AGENT, UpstreamCall, grpc_request_fields
from bridge.carriers.grpc.response import HeadReader
from bridge.config.schema import Duplex
from bridge.http2.events import Fields
from bridge.rpc.address import TcpAddress
from bridge.rpc.buffers import Account
from bridge.rpc.call import Call, ClientCertificate, Peer
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import Metadata, clean_value

FACTS = "grpc-lambda-bridge-facts"
"""Metadata for lambda_fn: who the client is. Clients cannot send `grpc-` names."""

_MOST_PEM = 4 << 10
"""Bytes of a client certificate that travel with each call. A larger one travels without its PEM."""
_encode = Encoder().encode


_TARGET: Fields = ((":method", "POST"), (":scheme", "http"), (":authority", "localhost"))
"""The beginning of each request. The function's server is at the other end of the connection, whatever its name."""


class MeetingPlace(Meeting, Protocol):
    """Where functions find this process, and what they accept there."""

    address: TcpAddress
    """As functions dial it."""
    certificate: PinnedCertificate | NamedCertificate | None
    """None: plaintext."""


class Invoker(Protocol):
    """Runs the function with an event, as bridge.carriers.lambda_invoke.LambdaInvoke says."""

    async def invoke(self, payload: bytes) -> InvokeReply: ...
    async def dry_run(self) -> None: ...


class DuplexCarrier:
    """The carrier to one function in full duplex. Belongs to the running loop."""

    def __init__(
        self,
        name: str,
        invoker: Invoker,
        *,
        place: MeetingPlace,
        settings: Duplex,
        limits: Limits,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - events tell the wall time
    ) -> None:
        """`name` is the function's in messages."""
        self.name = name
        self.limits = limits
        self.clock = clock
        self.heads = HeadReader(name, throttled_as=limits.throttled_as)
        self.invoker = invoker
        """Runs the function. After a reload it is another one."""
        self._place = place
        self._settings = settings
        self._observer = observer
        self._wall_clock = wall_clock
        self._prefix = token_hex(6)
        self._orders = 0
        self.pool = Instances(
            name,
            invoke=self._invoke,
            meeting=place,
            address=str(place.address),
            settings=settings,
            observer=observer,
        )

    def start(
        self,
        path: str,
        metadata: Metadata,
        *,
        account: Account,
        timeout: float | None,
        user_agent: str = "",
    ) -> UpstreamCall:
        """Begin a call. Call `connect` next, and `finish` in any case.

        `account` counts what is held of the response; `timeout`: seconds; `user_agent`: the client's.
        """
        self._observer.call_began()
        agent = clean_value(user_agent)[:LONGEST_USER_AGENT]
        return UpstreamCall(self, grpc_request_fields(_TARGET, path, agent, metadata), timeout, account)

    async def dry_run(self) -> None:
        """Check whether the function exists and may be called. Raises RpcError. The caller bounds the time."""
        await self.invoker.dry_run()

    @property
    def is_unused(self) -> bool:
        """Whether no instance is left and no call waits for one."""
        return self.pool.is_unused

    def retire(self) -> None:
        """Let every instance end with its last call."""
        self.pool.close_idle()

    async def close(self) -> None:
        """End every instance. Calls under way end with UNAVAILABLE."""
        await self.pool.close()

    def finished(self) -> None:
        """Note that a call has ended."""
        self._observer.call_ended()

    async def _invoke(self, token: str) -> AttachedReply:
        """Run the function with an order to connect, until it returns. Raises RpcError."""
        self._orders += 1
        event = encode_order(
            Order(
                address=str(self._place.address),
                token=token,
                tls=self._place.certificate,
                attach_seconds=self._settings.attach,
                calls=self._settings.calls,
            ),
            request_id=f"{self._prefix}-{self._orders:x}",
            now=self._wall_clock(),
        )
        return read_reply((await self.invoker.invoke(event)).payload)


# -- what a function returns -------------------------------------------------------------------------------------------


class _HttpReply(Struct, gc=False):
    headers: object = None


_decode = Decoder(_HttpReply).decode


def read_reply(payload: bytes) -> AttachedReply:
    """Return what a function answered to an order. Any reply that is not lambda_fn's is one of a function that does not
    know such orders: most often it says 404.
    """
    try:
        reply = _decode(payload)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return AttachedReply(reason="", knows_duplex=False)
    headers = reply.headers if isinstance(reply.headers, dict) else {}
    reason = headers.get(REASON)
    if not isinstance(reason, str):
        return AttachedReply(reason="", knows_duplex=False)
    return AttachedReply(reason=reason[:500], knows_duplex=not reason.startswith("off"))


# -- facts of a client -------------------------------------------------------------------------------------------------


def facts_of(call: Call) -> Metadata:
    """Return the metadata that tells lambda_fn who the client is."""
    return ((FACTS, _facts(call.peer, call.authority)),)


@lru_cache(256)
def _facts(peer: Peer, authority: str) -> str:
    """Encode the facts. They are the same for all calls of a client connection."""
    facts: dict[str, object] = {"peer": peer.address, "authority": authority[:LONGEST_USER_AGENT]}
    if peer.certificate is not None:
        facts["cert"] = _certificate(peer.certificate)
    return base64.urlsafe_b64encode(_encode(facts)).rstrip(b"=").decode("ascii")


def _certificate(certificate: ClientCertificate) -> dict[str, str]:
    return {
        "pem": certificate.pem if len(certificate.pem) <= _MOST_PEM else "",
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial_number,
        "notBefore": certificate.not_before,
        "notAfter": certificate.not_after,
    }
