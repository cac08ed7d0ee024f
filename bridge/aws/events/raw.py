"""The event `raw`: the function gets a JSON value and returns one. The rest of the call travels outside the event.

The request has the ClientContext of Invoke, which runtimes show as `context.client_context.custom` (Python),
`context.clientContext.custom` (Node). The reply may have the type of a raised error, which may be the name of a gRPC
code.
"""

from __future__ import annotations

from binascii import b2a_base64

from msgspec.json import Encoder

from bridge.aws.events.event_headers import client_headers
from bridge.aws.invoke import MAX_CLIENT_CONTEXT
from bridge.rpc.call import CallFacts
from bridge.rpc.deadline import format_timeout
from bridge.rpc.errors import FunctionFailed
from bridge.rpc.hop import forwarded_for
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import CAMEL_CASE_NAMES, Status, StatusCode
from bridge.rpc.value import FrozenValue

CLIENT_CONTEXT = "x-amz-client-context"
"""The header of Invoke."""

METHOD = "grpc-method"
"""The entry with `/package.Service/Method`. No metadata has this name: `grpc-*` names are gRPC's own."""

_encode = Encoder().encode

# gRPC's own list says CANCELLED, its Go library Canceled.
_CODES: dict[str, StatusCode] = {
    "Cancelled": StatusCode.CANCELLED,
    **{code.name: code for code in StatusCode if code is not StatusCode.OK},
    **{name: StatusCode(code) for code, name in enumerate(CAMEL_CASE_NAMES) if code},
}
"""Names of what a function can raise. OK is nothing to raise."""


class ClientContext(FrozenValue, frozen=True):
    """What goes into X-Amz-Client-Context."""

    text: str | None
    """Base64; None if not even the method fits."""
    has_metadata: bool
    """False: the metadata did not fit."""


def encode_client_context(call: CallFacts, metadata: Metadata, *, timeout: float | None) -> ClientContext:
    """Return the call without its message, as one flat object of texts, because typed runtimes read no other form.

    Repeated names are joined with commas, `-bin` values stay base64. `timeout`: seconds left.
    """
    known = {METHOD: call.path}
    if timeout is not None:
        known["grpc-timeout"] = format_timeout(timeout)
    headers = client_headers(metadata)
    earlier = headers.get("x-forwarded-for")
    headers["x-forwarded-for"] = forwarded_for(earlier, call.peer)
    text = _context(headers | known)
    if text is not None:
        return ClientContext(text, has_metadata=True)
    return ClientContext(_context(known), has_metadata=False)


def _context(custom: dict[str, str]) -> str | None:
    text = b2a_base64(_encode({"custom": custom}), newline=False)
    return text.decode("ascii") if len(text) <= MAX_CLIENT_CONTEXT else None


def raised_status(error: FunctionFailed) -> Status | None:
    """Return the status that a function raised, or None for a failure. The type's last dotted part names a code."""
    code = _CODES.get(error.error_type.rpartition(".")[2])
    return None if code is None else Status(code, error.error_message)
