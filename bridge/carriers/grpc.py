"""Native gRPC: calls to one server, message by message in both directions, over grpcio's channels.

In: a path, metadata as the bridge holds it, plain messages. Out: the server's metadata, messages and Trailers, or an error that
says what kept a call from its server. grpcio connects, verifies, keeps alive and inflates; what is refused before a
connection stands is the one thing that may be repeated. Imported only if there is such a target.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from pathlib import Path
from typing import Final

import grpc
from grpc import aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # its stub is empty

from bridge.config.schema import GrpcTarget, TargetTls, UnixAddress
from bridge.rpc.errors import (
    CertificateRefused,
    ConnectionLost,
    DeadlineExceeded,
    HttpRefusal,
    ReplyTooLarge,
    RpcError,
    Unreachable,
)
from bridge.rpc.events import OK_TRAILERS, Trailers
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import (
    HOP_BY_HOP,
    Metadata,
    clean_value,
    decode_binary,
    encode_binary,
    is_binary,
    split_binary,
)
from bridge.rpc.status import CODES, Status, StatusCode, code_of_http_status

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # what grpcio logs besides is in nobody's format

USER_AGENT = "grpc-lambda-bridge"

MOST_USER_AGENTS = 8
"""Kinds of clients whose user-agent travels on: grpcio sets it for a whole channel, and each channel is a connection."""

_LONGEST_USER_AGENT = 256

CONNECT_SECONDS = 10.0
"""How long one attempt to connect may take."""

_MILLISECONDS = 1000

_LOOKAHEAD = 256 << 10
"""Bytes that a call's server may send ahead of a client that does not read."""

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # max_request has been kept to already
    # Trailers too large for a client are shortened on the way to it, not refused on the way from the server.
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.service_config_disable_resolution", 1),  # DNS must not say what is repeated
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _LOOKAHEAD),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5 * _MILLISECONDS),
    ("grpc.min_reconnect_backoff_ms", round(CONNECT_SECONDS * _MILLISECONDS)),
    # Design rule 11. Servers send away who pings more often than every 5 minutes, or without a call in flight (gRPC
    # keepalive.md); NAT gateways forget connections silent for 350 s. So: a ping between the two, and no idle connection.
    ("grpc.keepalive_time_ms", 320 * _MILLISECONDS),
    ("grpc.keepalive_timeout_ms", 20 * _MILLISECONDS),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.client_idle_timeout_ms", 300 * _MILLISECONDS),
)

_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"


class GrpcCarrier:
    """One native gRPC server. Belongs to the running loop."""

    def __init__(
        self, target: GrpcTarget, *, tls: TargetTls | None = None, limits: Limits | None = None
    ) -> None:
        """Raises OSError for TLS files that cannot be read."""
        self.name = str(target)
        self._address = _address_of(target)
        self._limits = limits or Limits()
        self._credentials = _credentials(tls or TargetTls()) if target.tls else None
        self._server_name = None if tls is None else tls.server_name
        self._channels: dict[str, aio.Channel] = {}
        self._in_flight = 0
        self._is_retired = False
        self._closing: asyncio.Task[None] | None = None

    def start(
        self, path: str, metadata: Metadata, *, timeout: float | None, user_agent: str = ""
    ) -> UpstreamCall:
        """Begin a call; `connect` comes next, and `finish` in any case. `timeout`: seconds; `user_agent`: the client's."""
        channel = self._channel_for(clean_value(user_agent)[:_LONGEST_USER_AGENT])
        begin: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
        raw = begin(metadata=_to_grpc(metadata), timeout=timeout)
        self._in_flight += 1
        return UpstreamCall(self, channel, raw)

    async def dry_run(self) -> None:
        """Connect, without a call. Raises Unreachable; the caller bounds the time."""
        channel = self._channel_for("")
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state in (
                grpc.ChannelConnectivity.TRANSIENT_FAILURE,
                grpc.ChannelConnectivity.SHUTDOWN,
            ):
                raise Unreachable(f"no connection to {self.name}")
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)

    async def close(self) -> None:
        """Close the channels; calls under way end CANCELLED."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close()

    def retire(self) -> None:
        """Close the channels when the last call under way has ended; one that begins late gets a channel until its own end."""
        self._is_retired = True
        self._close_if_idle()

    def finished(self) -> None:
        """A call has ended."""
        self._in_flight -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        is_closing = self._closing is not None and not self._closing.done()
        if self._is_retired and not self._in_flight and not is_closing:
            self._closing = asyncio.get_running_loop().create_task(self.close())

    def _channel_for(self, user_agent: str) -> aio.Channel:
        """The channel that says this user-agent before ours."""
        if user_agent not in self._channels and len(self._channels) >= MOST_USER_AGENTS:
            user_agent = ""
        channel = self._channels.get(user_agent)
        if channel is None:
            channel = self._channels[user_agent] = self._new_channel(user_agent)
        return channel

    def _new_channel(self, user_agent: str) -> aio.Channel:
        limit = -1 if self._limits.max_response is None else self._limits.max_response
        options: list[tuple[str, str | int]] = [
            *_OPTIONS,
            ("grpc.max_receive_message_length", limit),
            ("grpc.primary_user_agent", f"{user_agent} {USER_AGENT}".strip()),
        ]
        if self._credentials is None:
            return aio.insecure_channel(self._address, options=options)
        if self._server_name is not None:
            options.append(("grpc.ssl_target_name_override", self._server_name))
        return aio.secure_channel(self._address, self._credentials, options=options)

    def failure_to_connect(self, message: str, channel: aio.Channel) -> RpcError | None:
        """The cause, if a call ended because there was no connection for it; None: it may have reached the server."""
        # A server may send any text: it is grpcio's own only if no connection stands.
        if channel.get_state() is grpc.ChannelConnectivity.READY or not _NO_CONNECTION(message):
            return None
        if _CERTIFICATE(message):
            return CertificateRefused(
                f"the certificate of {self.name} does not verify: see `tls` of this target"
            )
        return Unreachable(f"no connection to {self.name}")

    def own_failure(self, status: Status, *, has_trailers: bool) -> RpcError | None:
        """The cause, if it was grpcio that ended a call; None: the server did, or nobody can tell."""
        found = _TOO_LARGE(status.message)
        # The server's trailers may have come all the same; the limit in its words is ours.
        if found and status.code is StatusCode.RESOURCE_EXHAUSTED and int(found[2]) == self._limits.max_response:  # fmt: skip
            return ReplyTooLarge(
                f"a response message of {found[1]} bytes from {self.name} is above max_response ({found[2]} bytes)"
            )
        if has_trailers:
            return None
        if status.code is StatusCode.UNAVAILABLE and _LOST(status.message):
            return ConnectionLost(
                f"the connection to {self.name} was lost before the call ended; it may have run"
            )
        if status.code is StatusCode.DEADLINE_EXCEEDED and _LATE(status.message):
            return DeadlineExceeded("the deadline passed before the server answered")
        if found := _HTTP_STATUS(status.message):
            http_status = int(found[1])
            is_throttled = http_status == 429
            return HttpRefusal(
                f"{self.name} answered HTTP {http_status} and no gRPC status",
                code=self._limits.throttled_as
                if is_throttled
                else code_of_http_status(http_status),
            )
        return None


# What grpcio says when it ends a call itself; it marks such statuses in no other way. The tests say when it has changed.
_NO_CONNECTION = re.compile(
    r"failed to connect to all addresses|errors resolving |DNS resolution failed"
).match
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|Hostname Verification Check failed").search
_TOO_LARGE = re.compile(r".*CLIENT: Received message larger than max \((\d+) vs\. (\d+)\)").match
_HTTP_STATUS = re.compile(r"Received http2 header with status: ([1-5]\d\d)$").match
_LATE = re.compile(r"(?:Stream removed \()?Deadline Exceeded\)?").fullmatch
_LOST = re.compile(
    r"(?:Stream removed \()?(?:Socket closed|Connection reset|Broken pipe|[Kk]eepalive|ping timeout|recvmsg:|sendmsg:"
    r"|failed to connect to all addresses)"
).match


class UpstreamCall:
    """One call on a server. One reader and one sender at a time; `finish` at its end, however it comes."""

    def __init__(
        self,
        carrier: GrpcCarrier,
        channel: aio.Channel,
        raw: aio.StreamStreamCall[bytes, bytes],
    ) -> None:
        self._carrier = carrier
        self._channel = channel
        self._raw = raw

    async def connect(self) -> None:
        """Return when the call is on its way or has ended already. Raises Unreachable and CertificateRefused: the server has
        seen nothing of it.
        """
        try:
            await self._raw.wait_for_connection()
        except aio.AioRpcError as error:
            failure = self._carrier.failure_to_connect(error.details() or "", self._channel)
            if failure is not None:
                raise failure from error
        except KeyError:
            pass  # a status that grpcio does not know; `end` tells

    async def send(self, message: bytes) -> bool:
        """Send a message; returns when the server's window has room. False: the call has ended."""
        if self._raw.done():
            return False
        try:
            # Not `write`: that one puts INTERNAL in place of the status that the server sent when a message came too late.
            await self._raw._cython_call.send_serialized_message(message)  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        except cygrpc.InternalError:
            return False
        return True

    async def half_close(self) -> None:
        try:
            await self._raw.done_writing()
        except cygrpc.InternalError:
            pass  # the call has ended

    async def initial_metadata(self) -> Metadata:
        """What came with the server's HEADERS, once they are there; empty also if there never were any."""
        return _from_grpc(await self._raw.initial_metadata())

    async def receive(self) -> bytes | None:
        """The next message, inflated; None after the last."""
        try:
            message = await self._raw.read()
        except (aio.AioRpcError, KeyError):
            return None
        return message if isinstance(message, bytes) else None

    async def end(self) -> Trailers:
        """The server's status and trailing metadata. Raises an RpcError where the server sent none."""
        try:
            code = CODES[(await self._raw.code()).value[0]]
        except KeyError:
            code = StatusCode.UNKNOWN
        message = await self._raw.details() or ""
        trailing = tuple(await self._raw.trailing_metadata())
        if code is StatusCode.OK and not trailing and not message:
            return OK_TRAILERS
        details = next((bytes(value) for name, value in trailing if name == _DETAILS and isinstance(value, bytes)), b"")  # fmt: skip
        status = Status(code, message, details)
        failure = self._carrier.own_failure(status, has_trailers=bool(trailing))
        if failure is not None:
            raise failure
        return Trailers(status, _from_grpc(trailing))

    def finish(self) -> None:
        """Let go of the call; one that has not ended is cancelled."""
        self._raw.cancel()
        self._carrier.finished()


# -- metadata --------------------------------------------------------------------------------------------------------------


def _to_grpc(metadata: Metadata) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata as grpcio takes it: the bytes of -bin values, each by itself."""
    fields: list[tuple[str, str | bytes]] = []
    for name, value in metadata:
        if not is_binary(name):
            fields.append((name, clean_value(value)))
            continue
        for part in split_binary(value):
            try:
                fields.append((name, decode_binary(part)))
            except ValueError:
                continue  # it is no value: nobody could read it
    return tuple(fields)


def _from_grpc(metadata: object) -> Metadata:
    """Metadata from grpcio for the client: without what belongs to the call itself or to one connection."""
    fields: list[tuple[str, str]] = []
    for name, value in metadata:  # type: ignore[attr-defined]  # its stub knows no iteration; it gives pairs
        if name in HOP_BY_HOP or name == "content-type":
            continue
        if name.startswith("grpc-") and name != _PUSHBACK:
            continue  # grpcio inflates: the encodings it spoke are not the client's
        fields.append((name, encode_binary(value) if isinstance(value, bytes) else clean_value(value)))  # fmt: skip
    return tuple(fields)


# -- addresses and TLS -----------------------------------------------------------------------------------------------------


def _address_of(target: GrpcTarget) -> str:
    if isinstance(target.address, UnixAddress):
        return f"unix:{target.address.path.absolute()}"
    return f"dns:///{target.address}"


def _credentials(tls: TargetTls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_roots(tls.ca),
        private_key=None if tls.key is None else tls.key.read_bytes(),
        certificate_chain=None if tls.cert is None else tls.cert.read_bytes(),
    )


def _roots(ca: Path | None) -> bytes | None:
    """The authorities; None: those that grpcio brings, for systems that have none."""
    if ca is not None:
        return ca.read_bytes()
    of_system = ssl.get_default_verify_paths().cafile
    return Path(of_system).read_bytes() if of_system else None
