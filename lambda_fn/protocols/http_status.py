"""gRPC's codes in HTTP's own terms, for the protocols that answer with an HTTP status and a JSON error: Connect's unary
and REST.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lambda_fn import wire
from lambda_fn.status import Metadata

HTTP_STATUS = {
    0: 200,
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}
"""google/rpc/code.proto; connectrpc.com/docs/protocol, "Error Codes" has the same."""

_DETAILS = "grpc-status-details-bin"


class Detail(NamedTuple):
    """A google.protobuf.Any among a status's details."""

    type_url: str
    value: bytes


def details_in(trailing: Metadata) -> Iterator[Detail]:
    """Yield the details of the google.rpc.Status in the trailing metadata; none if it is no such message."""
    for name, value in trailing:
        if name != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            details = [found for number, found in wire.fields(value) if number == 3]
            for detail in details:
                if isinstance(detail, bytes):
                    packed = dict(wire.fields(detail))
                    yield Detail(wire.bytes_in(packed, 1).decode(), wire.bytes_in(packed, 2))
        except ValueError:
            return


def without_details(trailing: Metadata) -> Metadata:
    """Return what of the trailing metadata the error itself does not say."""
    return tuple(pair for pair in trailing if not pair[0].startswith("grpc-"))
