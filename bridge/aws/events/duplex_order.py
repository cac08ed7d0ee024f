"""The event that asks a function to connect to the bridge.

It is also a valid HTTP request, to a path that nobody serves: a function that does not know the order answers 404. The
order stands under a top-level key, which function URLs, API Gateway and load balancers let no caller set.
"""

from __future__ import annotations

from msgspec.json import Encoder

from bridge.aws.events.event_context import event_time
from bridge.rpc.value import FrozenValue

KEY = "grpcLambdaBridgeDuplex"
VERSION = 1
PATH = "/grpc-lambda-bridge.duplex.v1/attach"
REASON = "grpc-lambda-bridge-duplex"
"""The header of the function's reply that says why it did not connect."""

_encode = Encoder().encode


class PinnedCertificate(FrozenValue, frozen=True):
    """The function accepts this certificate alone."""

    pem: str


class NamedCertificate(FrozenValue, frozen=True):
    """The function accepts a certificate of this name that its system's authorities vouch for."""

    server_name: str


class Order(FrozenValue, frozen=True):
    """Where the function connects, and how."""

    address: str
    """`HOST:PORT`, as the function reaches this process."""
    token: str
    """A secret: it is never logged."""
    tls: PinnedCertificate | NamedCertificate | None
    """None: plaintext, which the function accepts on loopback only."""
    attach_seconds: float
    """The connection must stand within this time."""
    calls: int
    """Calls that the bridge sends over the connection at once."""

    def __repr__(self) -> str:
        return f"Order({self.address})"


def encode_order(order: Order, *, request_id: str, now: float) -> bytes:
    """Return the event. `now` is Unix seconds."""
    match order.tls:
        case PinnedCertificate(pem):
            tls: dict[str, object] | None = {"certificate": pem}
        case NamedCertificate(server_name):
            tls = {"system": True, "serverName": server_name}
        case None:
            tls = None
    return _encode(
        {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": PATH,
            # Functions for load balancers and REST APIs look for these.
            "httpMethod": "POST",
            "path": PATH,
            "rawQueryString": "",
            "headers": {"content-type": "application/octet-stream", "host": "localhost"},
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "bridge",
                "domainName": "localhost",
                "domainPrefix": "localhost",
                "http": {
                    "method": "POST",
                    "path": PATH,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1",
                    "userAgent": "grpc-lambda-bridge",
                },
                "requestId": request_id,
                "routeKey": "$default",
                "stage": "$default",
                "time": event_time(now),
                "timeEpoch": int(now * 1000),
            },
            KEY: {
                "version": VERSION,
                "address": order.address,
                "token": order.token,
                "tls": tls,
                "attachSeconds": order.attach_seconds,
                "calls": order.calls,
            },
            "body": "",
            "isBase64Encoded": False,
        }
    )
