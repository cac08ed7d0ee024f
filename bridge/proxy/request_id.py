"""AWS's id of the request that a call became: trailing metadata of its response."""

from __future__ import annotations

from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.metadata import REQUEST_ID


def with_request_id(events: list[ResponseEvent], request_id: str) -> list[ResponseEvent]:
    """The same list, its Trailers naming the request. Empty: there is no id."""
    end = events[-1]
    if request_id and isinstance(end, Trailers):
        events[-1] = Trailers(end.status, (*end.metadata, (REQUEST_ID, request_id)))
    return events
