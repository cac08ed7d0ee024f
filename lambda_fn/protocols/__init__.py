"""Which protocol a request speaks: the table that `LambdaServer` chooses from.

A protocol is one module with a `PROTOCOL`: it turns an HTTP request into an IncomingCall and the call's end into an HTTP reply, and
knows nothing of events or servicers.
"""

from __future__ import annotations

from lambda_fn.http import HttpReply, HttpRequest, plain_reply
from lambda_fn.protocols import grpc_web
from lambda_fn.protocols.protocol import Protocol

PROTOCOLS: tuple[Protocol, ...] = (grpc_web.PROTOCOL,)


def protocol_of(request: HttpRequest) -> Protocol | HttpReply:
    """The protocol of this request, or the reply to one that speaks none of ours."""
    found = next((protocol for protocol in PROTOCOLS if protocol.matches(request)), None)
    if found is None:
        known = ", ".join(protocol.content_type for protocol in PROTOCOLS)
        return plain_reply(
            415,
            f"this function answers gRPC calls: POST /package.Service/Method with content-type {known}; "
            f"got {request.method} with content-type {request.header('content-type')}",
        )
    if request.method != "POST":
        return plain_reply(405, "a gRPC call is a POST", headers=(("allow", "POST"),))
    return found
