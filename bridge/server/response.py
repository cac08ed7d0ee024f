"""Turns response events into header lists for HEADERS and trailers, and cuts trailers that are too large."""

from __future__ import annotations

import logging

from bridge.http2.events import Fields
from bridge.http2.headers import FIELD_OVERHEAD
from bridge.http2.interface import Engine
from bridge.rpc.events import Trailers
from bridge.rpc.figures import BridgeFigures
from bridge.rpc.metadata import Metadata, encode_binary, size_of
from bridge.rpc.status import CODES, CUT_MARK, Status, encode_message
from bridge.server.request import CONTENT_TYPE

_logger = logging.getLogger(__name__)

_STATUS_200 = (":status", "200")
_PLAIN_HEADERS: Fields = (_STATUS_200, ("content-type", CONTENT_TYPE))
_CODE_FIELDS: tuple[Fields, ...] = tuple((("grpc-status", str(int(code))),) for code in CODES)
"""By code."""
_MESSAGE = "grpc-message"


def head_fields(content_type: str, metadata: Metadata) -> Fields:
    """Return the fields that open a response. The content type is the one that the client sent."""
    if content_type == CONTENT_TYPE:
        return (*_PLAIN_HEADERS, *metadata) if metadata else _PLAIN_HEADERS
    return (_STATUS_200, ("content-type", content_type), *metadata)


def trailer_fields(trailers: Trailers) -> Fields:
    """Return the fields that end a response."""
    status = trailers.status
    fields = _CODE_FIELDS[status.code]
    if status.message:
        fields += ((_MESSAGE, encode_message(status.message)),)
    if status.details:
        fields += _details_field(status)
    return fields + trailers.metadata


def _details_field(status: Status) -> Fields:
    return (("grpc-status-details-bin", encode_binary(status.details)),)


class ResponseFields:
    """Makes the header lists of one connection's responses, within what its client and the configuration allow. What it
    cuts is counted.
    """

    __slots__ = ("_address", "_engine", "_figures", "_has_told_cut")

    def __init__(self, engine: Engine, figures: BridgeFigures, address: str) -> None:
        """`address` is the client's, for the log."""
        self._engine = engine
        self._figures = figures
        self._address = address
        self._has_told_cut = False

    def head(self, content_type: str, metadata: Metadata, *, max_fields: int, path: str) -> Fields:
        """Return the fields that open a response. Clients drop the whole call if they are too large.

        `max_fields`: bytes of header list; `path` of the call, for the log.
        """
        if not metadata:
            return _PLAIN_HEADERS if content_type == CONTENT_TYPE else head_fields(content_type, ())
        client_room = self._engine.peer_max_header_list
        room = max_fields if client_room is None else min(max_fields, client_room - 1)
        room -= size_of(head_fields(content_type, ()))
        if size_of(metadata) > room:
            self._figures.shortened_headers += 1
            self._tell_cut(path, "initial metadata", room)
            metadata = those_that_fit(metadata, room)
        return head_fields(content_type, metadata)

    def end(self, trailers: Trailers, *, max_fields: int, path: str, head: Fields = ()) -> Fields:
        """Return the fields that end a response, behind those of `head`."""
        room, client_room = max_fields, self._engine.peer_max_header_list
        if client_room is not None and client_room <= room:
            room = client_room - 1  # gRPC-core drops a call whose metadata reaches its limit
        if len(trailers.status.message) <= room:  # a longer message cannot fit, so the full list is not encoded
            fields = head + trailer_fields(trailers) if head else trailer_fields(trailers)
            if size_of(fields) <= room:
                return fields
        self._figures.shortened_trailers += 1
        self._tell_cut(path, "trailers", room)
        return head + trailer_fields(shorten(trailers, room=room - size_of(head)))

    def _tell_cut(self, path: str, what: str, room: int) -> None:
        """Log once for each connection, because a client with a tiny limit would fill the log."""
        if not self._has_told_cut:
            self._has_told_cut = True
            _logger.warning(
                "%s: %s cut to %d bytes (max_trailers or the limit of the client at %s)",
                path,
                what,
                max(room, 0),
                self._address,
            )


def shorten(trailers: Trailers, *, room: int) -> Trailers:
    """Return the same end, cut to `room` bytes of header list (counted as size_of does). If even that is too small,
    only the status code is left.

    The message is cut first. Then the details are dropped, then metadata that does not fit. Clients drop the whole call
    over trailers that are too large (gRPC-core at 16 KiB), so the status must arrive. A reply's trailers may be
    megabytes. So each part is read once, and a message no further than there is room.
    """
    status, left = trailers.status, room - size_of(_CODE_FIELDS[trailers.status.code])
    metadata = trailers.metadata
    metadata_size = size_of(metadata)
    details = status.details
    details_size = size_of(_details_field(status)) if details else 0
    if details_size + metadata_size > left:
        details, details_size = b"", 0
    if metadata_size > left:
        metadata = those_that_fit(metadata, left)
        metadata_size = size_of(metadata)
    left -= details_size + metadata_size
    message = _cut(status.message, left - len(_MESSAGE) - FIELD_OVERHEAD)
    return Trailers(Status(status.code, message, details), metadata)


def those_that_fit(metadata: Metadata, room: int) -> Metadata:
    """Return the fields that fit, in order. A field that is too large for the room left is skipped."""
    kept = []
    for pair in metadata:
        size = size_of((pair,))
        if size <= room:
            kept.append(pair)
            room -= size
    return tuple(kept)


def _cut(message: str, room: int) -> str:
    """Return the part of the message that fits `room` bytes on the wire, cut between characters, with a mark."""
    if not message or (len(message) <= room and len(encode_message(message)) <= room):
        return message
    room -= len(CUT_MARK)
    text_begins = len(message) - len(message.lstrip(" "))
    text_ends = len(message.rstrip(" "))
    for at, letter in enumerate(message):
        # A space counts as one byte, except at the ends (see encode_message).
        room -= 1 if letter == " " and text_begins <= at < text_ends else len(encode_message(letter))
        if room < 0:
            return message[:at] + CUT_MARK if at else ""
    raise AssertionError("a message that fits was cut")
