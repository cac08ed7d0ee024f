"""Reads and sends plain messages on a Call. It removes prefix and compression from requests, and adds a prefix to
responses.
"""

from __future__ import annotations

from typing import Any

from bridge.rpc import compression, envelope
from bridge.rpc.call import Call
from bridge.rpc.errors import BadReply, MalformedRequest, UnsupportedCompression
from bridge.rpc.events import Message
from bridge.rpc.metadata import value_of


async def receive(call: Call, message_class: type[Any]) -> Any:
    """Return the next request message, or None after the last.

    Raises MalformedRequest, MessageTooLarge, UnsupportedCompression.
    """
    arrived = await call.read_envelope()
    if arrived is None:
        return None
    return _parse(_plain(call, arrived), message_class)


async def receive_only(call: Call, message_class: type[Any]) -> Any:
    """Return the request message of a call that has one. It isn't waited for the end of the client's side.

    Raises as `receive` does.
    """
    message = await receive(call, message_class)
    if message is None:
        raise MalformedRequest(f"{call.path} takes one request message; the call has none")
    return message


async def send(call: Call, message: Any) -> None:
    """Send a response message, and wait while the client's window is full."""
    if not call.send(Message(envelope.envelope(message.SerializeToString()))):
        await call.writable()


def _plain(call: Call, arrived: bytes) -> bytes:
    message = envelope.data_of(arrived)
    if not arrived[0] & envelope.COMPRESSED:
        return message
    encoding = value_of(call.metadata, "grpc-encoding") or compression.IDENTITY
    # PROTOCOL-HTTP2, "Message-Encoding": a set flag with no encoding, or with identity, is the client's fault.
    if encoding == compression.IDENTITY:
        raise MalformedRequest("a message is flagged as compressed, and grpc-encoding names no way")
    if encoding not in compression.SUPPORTED:
        raise UnsupportedCompression(
            f"{call.path} reads messages in {compression.ACCEPT_ENCODING}, not in {encoding[:40]}"
        )
    try:
        return compression.inflate(message, encoding, max_size=call.route.limits.max_request)
    except BadReply as error:
        raise MalformedRequest(f"a request message does not decode as {encoding}") from error


def _parse(message: bytes, message_class: type[Any]) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message_class.FromString(message)
    except DecodeError as error:
        name = message_class.DESCRIPTOR.full_name
        raise MalformedRequest(f"a request message does not decode as {name}") from error
