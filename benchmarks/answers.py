"""Before anything is timed: a real gRPC client calls every peer in every size, and what comes back must be right."""

from __future__ import annotations

import grpc

from benchmarks.peers import SIZES, Peer, message_of

_HELLO = b"\n\x0bHello world"
_SECONDS = 20.0

_WITHOUT_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def check(peer: Peer) -> None:
    """Raises RuntimeError for a wrong answer."""
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", options=_WITHOUT_LIMIT) as channel:
        grpc.channel_ready_future(channel).result(_SECONDS)
        for service in ("Plain", "Tls", "Slow"):
            _expect(peer, channel, f"/bench.{service}/Say", b"\n\x05world", _HELLO)
        for size in SIZES:
            message = message_of(size)
            _expect(peer, channel, f"/bench.Sized{size}/Say", message, message)


def _expect(peer: Peer, channel: grpc.Channel, path: str, message: bytes, expected: bytes) -> None:
    call = channel.unary_unary(path, lambda sent: sent, lambda received: received)
    try:
        reply = call(message, timeout=_SECONDS, wait_for_ready=True)
    except grpc.RpcError as error:
        raise RuntimeError(f"{peer.name}, {path}: {error}") from error
    if reply != expected:
        raise RuntimeError(f"{peer.name}, {path}: a reply of {len(reply)} bytes, expected {len(expected)}")
