"""The protobuf JSON mapping by one source's descriptors: a method's request as JSON, JSON as its response.

Messages are read with the bounds of the protobuf library (100 levels deep), and JSON by the same measure (`protojson`).
https://protobuf.dev/programming-guides/json/
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.message_factory import GetMessageClass
from msgspec.json import Encoder

from bridge.rpc.errors import BadReply, MalformedRequest, RpcError, UnknownMethod
from bridge.services import protojson
from bridge.services.descriptors import Descriptors

_MAX_TOLD = 200
"""Characters of the library's complaint in a note."""

_NULL_VALUES = frozenset(("google.protobuf.Value", "google.protobuf.NullValue"))
"""Types that null itself is a value of."""

_WELL_KNOWN = "google.protobuf."
"""Types whose JSON may be something else than an object."""

_encode = Encoder().encode


class Transcoder:
    """Turns messages into JSON and back."""

    def __init__(
        self, descriptors: Descriptors, *, proto_names: bool = False, defaults: bool = True
    ) -> None:
        """`proto_names`: fields are named as in the .proto; `defaults`: those that hold their default are written too."""
        self._descriptors = descriptors
        self._name = Path(descriptors.name).name
        """For clients: where the file lies is not their business."""
        self._proto_names = proto_names
        self._defaults = defaults
        self._reader = protojson.Reader()

    def to_json(self, path: str, message: bytes) -> bytes:
        """The request of the method at this path as JSON. Raises UnknownMethod, MalformedRequest."""
        request = self._method(path).input_type
        try:
            parsed = _class_of(request).FromString(message)
        except DecodeError as error:
            raise MalformedRequest(f"the request is not a {request.full_name}") from error
        try:
            # Never None: the mapping of a top-level message.
            mapped = json_format.MessageToDict(
                parsed,
                preserving_proto_field_name=self._proto_names,
                always_print_fields_with_no_presence=self._defaults,
                descriptor_pool=request.file.pool,
            )
        except (json_format.Error, DecodeError, ValueError, TypeError, RecursionError) as error:
            refused = MalformedRequest(
                f"the request, a {request.full_name}, has no JSON form: it holds a time out of range, a field mask whose"
                f" paths JSON cannot write, or an Any that does not parse or is of a type that {self._name} lacks"
            )
            _note(refused, error)
            raise refused from error
        return _encode(mapped)

    def from_json(self, path: str, text: bytes) -> bytes:
        """The response of the method at this path; nothing and null are the empty message. Raises UnknownMethod, BadReply."""
        response = self._method(path).output_type
        stripped = text.strip()
        if not stripped or (stripped == b"null" and response.full_name not in _NULL_VALUES):
            return b""
        if not (stripped.startswith(b"{") or response.full_name.startswith(_WELL_KNOWN)):
            raise BadReply(f"the function's JSON is no object, and so no {response.full_name}")
        message = _class_of(response)()
        try:
            self._reader.fill(message, protojson.loads(text), ignore_unknown=True)
            return message.SerializeToString()
        except (protojson.NotProtoJson, EncodeError) as error:
            place = getattr(error, "path", "")
            bad = BadReply(
                f"the function's JSON is no {response.full_name}{place and f', in {place}'}"
            )
            _note(bad, error)
            raise bad from error

    def _method(self, path: str) -> MethodDescriptor:
        service, _, name = path[1:].rpartition("/")
        found = self._descriptors.find_method(service, name)
        if found is None:
            raise UnknownMethod(
                f"{path[1:200]} is not in {self._name}, by which this target's JSON is read"
            )
        return found


def _class_of(descriptor: Descriptor) -> type[Message]:
    return GetMessageClass(descriptor)


def _note(error: RpcError, cause: Exception) -> None:
    """For the log: the library quotes values, which are nobody's business but the operator's."""
    lines = str(cause).splitlines()
    error.add_note(lines[0][:_MAX_TOLD] if lines else type(cause).__name__)
