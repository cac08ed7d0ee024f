"""Which protocol a request speaks.

A protocol is one module that accepts a request or does not. It turns an HTTP request into an IncomingCall and the
call's end into an HTTP reply, and knows nothing of events or servicers. All but gRPC-Web, which the bridge speaks, are
imported when the first such request comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lambda_fn.http import HttpReply, HttpRequest, plain_reply
from lambda_fn.protocols import grpc_web
from lambda_fn.protocols.protocol import Accepted, Exchange, method_of

if TYPE_CHECKING:
    from lambda_fn.protocols.rest import Rest

_CONTENT_TYPES = "application/grpc-web+proto, application/proto, application/json"


class Protocols:
    """The protocols of one server, in the order in which they are asked."""

    def __init__(self, services: Callable[[], list[str]]) -> None:
        """`services` tells the names of those that are registered."""
        self._services = services
        self._rest: Rest | None = None

    def accept(self, request: HttpRequest) -> Exchange | HttpReply:
        """How this request is to be answered; a reply at once for one that nothing here speaks."""
        return grpc_web.accept(request) or self._connect(request) or self._annotated(request) or self._refusal(request)

    def _connect(self, request: HttpRequest) -> Accepted:
        from lambda_fn.protocols import connect

        return connect.accept(request, self._services)

    def _annotated(self, request: HttpRequest) -> Accepted:
        if self._rest is None:
            from lambda_fn.protocols.rest import Rest

            self._rest = Rest(self._services)
        return self._rest.accept(request)

    def _refusal(self, request: HttpRequest) -> HttpReply:
        content_type = request.header("content-type")
        is_grpc = (content_type or "").lower().startswith("application/grpc")
        if not is_grpc and method_of(request.path)[1:].partition("/")[0] not in self._services():
            return plain_reply(404, f"nothing is at {request.method} {request.path}")
        if request.method != "POST":
            return plain_reply(405, "a gRPC call is a POST", headers=(("allow", "POST"),))
        return plain_reply(
            415,
            "this function answers gRPC calls: POST /package.Service/Method with content-type "
            f"{_CONTENT_TYPES}; got content-type {content_type}",
        )
