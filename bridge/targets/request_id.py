"""Adds AWS's request id of an invocation to the trailing metadata of the response."""

from __future__ import annotations

from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.metadata import REQUEST_ID


def with_request_id(events: list[ResponseEvent], request_id: str) -> list[ResponseEvent]:
    """Return the same list with the id in its Trailers. An empty id adds nothing."""
    end = events[-1]
    if request_id and isinstance(end, Trailers):
        events[-1] = Trailers(end.status, end.metadata + ((REQUEST_ID, request_id),))  # noqa: RUF005 - half the cost
    return events
