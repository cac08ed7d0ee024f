"""library.v1.Library (library.proto) as messages and as a servicer; compiled when this module is imported."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import google.api.annotations_pb2  # type: ignore[import-untyped]  # googleapis-common-protos has no types
import google.api.httpbody_pb2  # type: ignore[import-untyped]
import grpc
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    empty_pb2,
    message_factory,
    timestamp_pb2,
    wrappers_pb2,
)
from google.rpc import status_pb2
from grpc_tools import protoc

SERVICE = "library.v1.Library"
_HERE = Path(__file__).parent
_SITE_PACKAGES = Path(google.api.annotations_pb2.__file__).parents[2]
_WELL_KNOWN = Path(protoc.__file__).parent / "_proto"


def _compiled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "library.binpb"
        includes = [f"-I{each}" for each in (_HERE, _SITE_PACKAGES, _WELL_KNOWN)]
        assert 0 == protoc.main(["protoc", *includes, f"--descriptor_set_out={out}", "library.proto"])
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0].SerializeToString()


LOADED = (google.api.httpbody_pb2, empty_pb2, timestamp_pb2, wrappers_pb2)
"""What library.proto imports, loaded before it."""

_FILE: Any = descriptor_pool.Default().AddSerializedFile(_compiled())
_METHODS = _FILE.services_by_name["Library"].methods


def message(name: str, /, **fields: Any) -> Any:
    """A message of library.v1."""
    return message_factory.GetMessageClass(_FILE.message_types_by_name[name])(**fields)


def request_of(method: str, data: bytes) -> Any:
    """The request message of a method in these bytes."""
    input_type = _METHODS[[each.name for each in _METHODS].index(method)].input_type
    return message_factory.GetMessageClass(input_type).FromString(data)


METADATA = (("initial", "i"),)
TRAILING = (("trailing", "t"), ("trailing-bin", b"\x00\xff"))


def add(server: Any, **behaviours: Any) -> None:
    """Register the servicer as generated code does, some of its methods replaced."""
    handlers = {}
    for method in _METHODS:
        kind = "_".join(
            "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
        )
        handlers[method.name] = getattr(grpc, f"{kind}_rpc_method_handler")(
            (_BEHAVIOURS | behaviours).get(method.name) or partial(_same, method.output_type),
            message_factory.GetMessageClass(method.input_type).FromString,
            message_factory.GetMessageClass(method.output_type).SerializeToString,
        )
    server.add_registered_method_handlers(SERVICE, handlers)


def _same(output_type: Any, request: Any, context: Any) -> Any:
    context.send_initial_metadata(METADATA)
    context.set_trailing_metadata(TRAILING)
    same_type = output_type is request.DESCRIPTOR
    return request if same_type else message_factory.GetMessageClass(output_type)()


def _watch(request: Any, context: Any) -> Iterator[Any]:
    context.set_trailing_metadata(TRAILING)
    for number in range(request.page_size or 2):
        yield message("Book", title=f"{request.shelf} {number}")
    if request.tags:
        context.abort(grpc.StatusCode.ABORTED, "as asked")


def _read(request: Any, context: Any) -> Iterator[Any]:
    context.send_initial_metadata(METADATA)
    if request.tags == ["fail at once"]:
        context.abort(grpc.StatusCode.ABORTED, "as asked")
    yield google.api.httpbody_pb2.HttpBody(content_type="text/plain", data=b"The ")
    yield google.api.httpbody_pb2.HttpBody(content_type="text/other", data=b"end\n")
    if request.tags:
        context.abort(grpc.StatusCode.ABORTED, "as asked")


def _upload(requests: Iterator[Any], context: Any) -> Any:
    return message("Book", title="+".join(book.title for book in requests))


def _chat(requests: Iterator[Any], context: Any) -> Iterator[Any]:
    yield from requests


class Detailed:
    """What `context.abort_with_status` takes: two details, one of a type that is loaded and one of a type that nobody
    knows.
    """

    code = grpc.StatusCode.FAILED_PRECONDITION
    details = "café"

    @property
    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        known = any_pb2.Any()
        known.Pack(wrappers_pb2.StringValue(value="why"))
        unknown = any_pb2.Any(type_url="type.googleapis.com/no.such.Type", value=b"\x08\x01")
        status = status_pb2.Status(code=9, message="café", details=[known, unknown])
        return (("grpc-status-details-bin", status.SerializeToString()),)


def _fail(request: Any, context: Any) -> Any:
    if request.name == "detailed":
        context.abort_with_status(Detailed())
    context.set_trailing_metadata(TRAILING)
    context.abort(grpc.StatusCode[request.name], "as asked")


_BEHAVIOURS = {
    "WatchBooks": _watch,
    "ReadBook": _read,
    "Upload": _upload,
    "Chat": _chat,
    "Fail": _fail,
}
