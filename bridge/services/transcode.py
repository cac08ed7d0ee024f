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

from bridge.rpc.errors import (
    BadReply,
    MalformedRequest,
    MessageTooLarge,
    ReplyTooLarge,
    RpcError,
    UnknownMethod,
)
from bridge.services import protojson
from bridge.services.descriptors import Descriptors
from bridge.services.json_cost import MAX_PARSED, JsonCosts
from bridge.services.message_json import is_out_of_memory, printer_for

_MAX_TOLD = 200
"""Characters of the library's complaint in a note."""

_NULL_VALUES = frozenset(("google.protobuf.Value", "google.protobuf.NullValue"))
"""Types that null itself is a value of."""

_WELL_KNOWN = "google.protobuf."
"""Types whose JSON may be something else than an object."""

MAX_MESSAGE = 64 << 20
"""Bytes of JSON or of a message where the caller sets no limit."""


class Transcoder:
    """Turns messages into JSON and back."""

    def __init__(self, descriptors: Descriptors, *, proto_names: bool = False, defaults: bool = True) -> None:
        """`proto_names`: fields are named as in the .proto; `defaults`: those at their default, too."""
        self._descriptors = descriptors
        self._name = Path(descriptors.name).name
        """For clients: where the file lies is not their business."""
        self._reader = protojson.Reader()
        self._costs = JsonCosts(descriptors.pool, defaults=defaults)
        self._printer = printer_for(descriptors, self._costs, proto_names=proto_names, defaults=defaults)
        self._methods: dict[str, MethodDescriptor] = {}

    # -- up: a request becomes JSON -----------------------------------------------------------------------------------

    def to_json(self, path: str, message: bytes, *, max_size: int = MAX_MESSAGE) -> bytes:
        """Return the request of the method at this path as JSON of at most `max_size` bytes.

        Raises UnknownMethod, MalformedRequest, MessageTooLarge, MemoryError.
        """
        return self.print_request(self.parse_request(path, message), max_size=max_size)

    def parse_request(self, path: str, message: bytes) -> Message:
        """Parse a request. Raises UnknownMethod, MalformedRequest, MemoryError."""
        request = self._method(path).input_type
        try:
            return _class_of(request).FromString(message)
        except DecodeError as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            raise MalformedRequest(f"the request is not a {request.full_name}") from error

    def most_parsed(self, path: str) -> int:
        """Bytes of the largest request that takes no more memory than a few megabytes when it is parsed. Raises
        UnknownMethod.
        """
        return MAX_PARSED // max(1, self._costs.widest(self._method(path).input_type))

    def most_per_byte(self, path: str) -> float:
        """Microseconds that a byte of a request can take to print, at most. Raises UnknownMethod."""
        return self._costs.densest(self._method(path).input_type)

    def cost_of_printing(self, request: Message, *, most: float) -> float:
        """Microseconds. Above `most` the rest is not looked at."""
        return self._costs.of_message(request, most=most)

    def print_request(self, request: Message, *, max_size: int, is_small: bool = False) -> bytes:
        """Return a parsed request as JSON; it is of no use afterwards. `is_small`: it need not be sliced.

        Raises MalformedRequest, MessageTooLarge, MemoryError.
        """
        try:
            if is_small:
                return self._printer.print_at_once(request, max_size=max_size)
            return self._printer.print(request, max_size=max_size)
        except (json_format.Error, DecodeError, ValueError, TypeError, RecursionError) as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            name = request.DESCRIPTOR.full_name
            refused = MalformedRequest(
                f"the request, a {name}, has no JSON form: it holds a time out of range, a field mask whose"
                f" paths JSON cannot write, or an Any that does not parse or is of a type that {self._name} lacks"
            )
            _note(refused, error)
            raise refused from error
        except MessageTooLarge as error:
            raise MessageTooLarge(
                f"the request, a {request.DESCRIPTOR.full_name}, makes {error}, the most that its target takes:"
                " send less in one call"
            ) from error

    # -- down: JSON becomes a response --------------------------------------------------------------------------------

    def cost_of_reading(self, path: str, text: bytes) -> float:
        """Microseconds. Raises UnknownMethod."""
        return self._costs.of_json(text, self._method(path).output_type)

    def from_json(self, path: str, text: bytes, *, max_size: int = MAX_MESSAGE) -> bytes:
        """Return the response of the method at this path, of at most `max_size` bytes. Nothing and null are the empty
        message.

        Raises UnknownMethod, BadReply, ReplyTooLarge, MemoryError.
        """
        response = self._method(path).output_type
        stripped = text.strip()
        if not stripped or (stripped == b"null" and response.full_name not in _NULL_VALUES):
            return b""
        if not (stripped.startswith(b"{") or response.full_name.startswith(_WELL_KNOWN)):
            raise BadReply(f"the function's JSON is no object, and so no {response.full_name}")
        message = _class_of(response)()
        try:
            self._reader.fill(message, protojson.loads(text), ignore_unknown=True)
            size = message.ByteSize()
            if size > max_size:
                raise ReplyTooLarge(f"a response message of {size} bytes is above max_response ({max_size} bytes)")
            return message.SerializeToString()
        except (protojson.NotProtoJson, EncodeError) as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            place = getattr(error, "path", "")
            bad = BadReply(f"the function's JSON is no {response.full_name}{place and f', in {place}'}")
            _note(bad, error)
            raise bad from error

    def _method(self, path: str) -> MethodDescriptor:
        known = self._methods.get(path)
        if known is not None:
            return known
        service, _, name = path[1:].rpartition("/")
        found = self._descriptors.find_method(service, name)
        if found is None:
            raise UnknownMethod(f"{path[1:200]} is not in {self._name}, by which this target's JSON is read")
        self._methods[path] = found  # as many as the descriptors have
        return found


def _class_of(descriptor: Descriptor) -> type[Message]:
    return GetMessageClass(descriptor)


def _note(error: RpcError, cause: Exception) -> None:
    """For the log only: the library quotes values, and only the operator may see them."""
    lines = str(cause).splitlines()
    error.add_note(lines[0][:_MAX_TOLD] if lines else type(cause).__name__)
