"""The built-in services themselves: their names, methods, descriptors and message classes.

The descriptors live in their own pool (protos/builtin.binpb, made from the .proto files next to it). The default pool
may hold the same names from grpcio-health-checking or grpcio-reflection, and a pool takes a name only once. protobuf is
imported when the first message is read, not before.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.services.descriptors import Descriptors, MethodKind

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_ALPHA = "grpc.reflection.v1alpha.ServerReflection"

METHODS: dict[str, dict[str, MethodKind]] = {
    HEALTH: {"Check": "unary", "List": "unary", "Watch": "server_stream"},
    REFLECTION: {"ServerReflectionInfo": "bidi_stream"},
    REFLECTION_ALPHA: {"ServerReflectionInfo": "bidi_stream"},
}
"""What is answered here, by service."""

_DESCRIPTOR_SET = Path(__file__).with_name("protos") / "builtin.binpb"


@cache
def descriptors() -> Descriptors:
    """Return the descriptors of health and reflection. They are loaded once."""
    from bridge.services.descriptors import load_descriptors

    return load_descriptors(_DESCRIPTOR_SET)


@cache
def error_details() -> Descriptors:
    """google.rpc.Status and the standard details of errors (google/rpc/error_details.proto), which any call may end
    with.
    """
    from bridge.services.descriptors import Descriptors, well_known_file

    files = map(well_known_file, ("google/rpc/status.proto", "google/rpc/error_details.proto"))
    return Descriptors((file for file in files if file is not None), name="google.rpc")


@cache
def message_class(full_name: str) -> type[Any]:  # Any: the fields exist at run time only
    """Return the class of one of the built-in services' messages. Raises KeyError."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(descriptors().message(full_name))
