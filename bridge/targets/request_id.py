"""Adds AWS's request id of an invocation to the trailing metadata of the response."""

from __future__ import annotations

from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.metadata import REQUEST_ID


def with_request_id(events: list[ResponseEvent], request_id: str) -> list[ResponseEvent]:
    """Return the same list with the id in its Trailers. An empty id adds nothing."""
    end = events[-1]
    if isinstance(end, Trailers):
        events[-1] = add_request_id(end, request_id)
    return events


def add_request_id(end: Trailers, request_id: str) -> Trailers:
    """Return the Trailers with this id. An empty id adds nothing."""
    if not request_id:
        return end
    return Trailers(end.status, (*end.metadata, (REQUEST_ID, request_id)))
