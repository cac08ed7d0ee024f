"""AWS's id of the request that a call became: trailing metadata of its response."""

from __future__ import annotations

from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.metadata import REQUEST_ID


def with_request_id(events: list[ResponseEvent], request_id: str) -> list[ResponseEvent]:
    """The same list, its Trailers naming the request. Empty: there is no id."""
    end = events[-1]
    if isinstance(end, Trailers):
        events[-1] = add_request_id(end, request_id)
    return events


def add_request_id(end: Trailers, request_id: str) -> Trailers:
    """The same Trailers, naming the request."""
    if not request_id:
        return end
    return Trailers(end.status, (*end.metadata, (REQUEST_ID, request_id)))
