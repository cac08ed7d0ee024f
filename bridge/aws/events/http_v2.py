"""The function-URL event (payload format 2.0 of HTTP APIs): a call becomes the JSON that a function gets.

In go a call with its gathered body, the time left and the wall time; out come the bytes for Invoke. What comes back is
read by http_reply and the codecs. Any function that serves gRPC-Web behind a function URL takes this event, unmodified.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from msgspec.json import Encoder

from bridge.aws.events.event_body import GRPC_WEB, BodyKind, with_body
from bridge.aws.events.event_context import MAX_KEY, MAX_REMEMBERED, Authority, Stamps, client_cert, http_context
from bridge.aws.events.event_headers import HeaderWriter, encode_headers
from bridge.aws.events.sender import Sender
from bridge.rpc.call import CallFacts, ClientCertificate, Peer
from bridge.rpc.deadline import format_timeout
from bridge.rpc.hop import source_of
from bridge.rpc.metadata import Metadata, clean_value, size_of
from bridge.rpc.remembered import BoundedDict

_encode = Encoder().encode


_SENDERS = 16
_LARGEST_SENDER = 8 << 10
"""Clients that are remembered, and bytes of the header fields of each. Together these bound what clients can make a
target hold.
"""


class HttpV2EventEncoder:
    """Encodes calls as events; what does not change from call to call is encoded once."""

    __slots__ = ("_before_body", "_headers", "_is_text", "_paths", "_senders", "_stamps")

    def __init__(self, instance: str, kind: BodyKind = GRPC_WEB) -> None:
        """`instance` begins every event's requestId: choose it at random, so that the ids of two processes differ."""
        self._headers = HeaderWriter(kind)
        self._is_text = kind.is_text
        self._before_body = b'},"isBase64Encoded":%b,"body":' % _encode(not kind.is_text)
        self._stamps = Stamps(instance)
        self._paths: BoundedDict[str, tuple[bytes, bytes]] = BoundedDict(most=MAX_REMEMBERED, largest=MAX_KEY)
        self._senders: BoundedDict[tuple[Peer, str, str, int], Sender] = BoundedDict(most=_SENDERS)
        """By what the calls of a program have in common, and by how many metadata they have."""

    def encode(self, call: CallFacts, metadata: Metadata, body: bytes, *, timeout: float | None, now: float) -> bytes:
        """Return the event. `metadata` and `body` are the call's, as the function shall see them; `timeout`: seconds
        left for the call; `now`: wall time. Raises PayloadTooLarge.
        """
        before_headers, path = self._paths.get(call.path) or self._encode_path(call.path)
        key = (call.peer, call.authority, call.content_type, len(metadata))
        sender = self._senders.get(key)
        if sender is None or (metadata != sender.metadata and not sender.follow(metadata)):
            sender = self._encode_sender(call, metadata, sender)
            self._remember(key, sender)
        request_id, time = self._stamps.stamp(now)
        start = b"".join(
            (
                before_headers,
                sender.headers,
                b"}" if timeout is None else b',"grpc-timeout":"%b"}' % format_timeout(timeout).encode(),
                sender.context,
                path,
                # Nothing in these needs an escape.
                (
                    f'}},"requestId":"{request_id}","routeKey":"$default","stage":"$default"'
                    f',"time":"{time}","timeEpoch":{int(now * 1000)}'
                ).encode(),
                self._before_body,
            )
        )
        return with_body(start, body, call, is_text=self._is_text)

    def _remember(self, key: tuple[Peer, str, str, int], sender: Sender) -> None:
        _, authority, content_type, _ = key
        if size_of(sender.metadata) + len(authority) + len(content_type) > _LARGEST_SENDER:
            self._senders.pop(key, None)
        else:
            self._senders.remember(key, sender)

    def _encode_sender(self, call: CallFacts, metadata: Metadata, last: Sender | None) -> Sender:
        """`last`: that of the last such call."""
        authority = self._headers.authority_of(call)
        headers, repeats = self._headers.write(call, metadata, authority, timeout=None)
        cookie = headers.pop("cookie", None)
        headers, encoded = encode_headers(headers)
        context = _encode_caller(authority, call.peer, headers.get("user-agent", ""))
        if repeats:
            context = self._multi_value_headers(metadata, headers) + context
        if cookie is not None:
            context = _cookies(cookie) + context
        template = None if last is None or repeats else last.template_for(metadata, headers)
        return Sender(metadata, encoded[1:-1], context, template)

    def _encode_path(self, path: str) -> tuple[bytes, bytes]:
        """Return what stands before the headers of this path's events, the constant ones included; the path itself,
        encoded.
        """
        encoded = _encode(path)
        start = b'{"version":"2.0","routeKey":"$default","rawPath":%b,"rawQueryString":"","headers":%b,'
        constant = _encode(self._headers.constant)[:-1]
        return self._paths.remember(path, (start % (encoded, constant), encoded))

    def _multi_value_headers(self, metadata: Metadata, headers: dict[str, str]) -> bytes:
        """For calls that repeat a name; for others `headers` says the same. AWS has no such field here; lambda_fn
        prefers it.
        """
        return b',"multiValueHeaders":' + _encode(self._headers.listed(metadata, headers))


@lru_cache(64)
def _encode_caller(authority: Authority, peer: Peer, user_agent: str) -> bytes:
    """From the requestContext's beginning to the path in it: the same for all calls of one program, which may differ in
    their metadata.
    """
    context = http_context(
        account="anonymous",
        api="bridge",
        caller=_authentication(peer.certificate),
        domain=authority.domain,
        prefix=authority.prefix,
        method="POST",
        source=source_of(peer),
        protocol="HTTP/1.1",
        user_agent=user_agent,
    )
    return b',"requestContext":' + _encode(context)[: -len(b"}}")] + b',"path":'


def _cookies(cookie: str) -> bytes:
    """Format 2.0 takes cookies out of the headers, each by itself."""
    parts = [clean_value(part) for part in cookie.split(";")]
    return b',"cookies":' + _encode([part for part in parts if part])


def _authentication(certificate: ClientCertificate | None) -> Mapping[str, object]:
    """Return the verified client certificate, in the shape of an API Gateway with mutual TLS."""
    if certificate is None:
        return {}
    return {"authentication": {"clientCert": client_cert(certificate)}}
