"""Messages of any type of one source as JSON and back, as a person reads and writes them.

In: JSON that somebody has typed, or a serialized message. Out: the other one, or an error that says where it is wrong.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.message_factory import GetMessageClass
from msgspec.json import Encoder

from bridge.rpc.errors import MessageTooLarge, RpcError
from bridge.services import protojson
from bridge.services.descriptors import Descriptors
from bridge.services.json_cost import JsonCosts
from bridge.services.json_printer import JsonPrinter
from bridge.services.status_details import details_in_status

_MAX_TOLD = 200
"""Characters of what names and reasons say in a message."""

_OUT_OF_MEMORY = "alloc failed"
"""In what protobuf's parser says."""

_encode = Encoder().encode


class UnusableMessage(RpcError):
    """A message that a person cannot send or cannot be shown. It ends no call."""


def printer_for(descriptors: Descriptors, costs: JsonCosts, *, proto_names: bool, defaults: bool) -> JsonPrinter:
    """Return a printer of the messages of these descriptors. `proto_names`: fields are named as in the .proto;
    `defaults`: those at their default, too.
    """

    def mapped(message: Message) -> Any:
        return json_format.MessageToDict(
            message,
            preserving_proto_field_name=proto_names,
            always_print_fields_with_no_presence=defaults,
            descriptor_pool=descriptors.pool,
        )

    def packed_in(packed: Any) -> Message:
        name = packed.type_url.rpartition("/")[2]
        try:
            descriptor = descriptors.message(name)
        except KeyError as error:
            raise TypeError(f"an Any of an unknown type, {name[:_MAX_TOLD]}") from error
        return GetMessageClass(descriptor).FromString(packed.value)

    return JsonPrinter(mapped, costs, proto_names=proto_names, new_packed=packed_in)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a limit on the process's memory is behind it: the library wraps MemoryError, and its parser has no class
    for it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return True
        if isinstance(cause, DecodeError | EncodeError) and _OUT_OF_MEMORY in str(cause):
            return True
        cause = cause.__cause__
    return False


class MessageJson:
    """Reads and prints the messages of one source. Types are named in full, without a dot in front."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self._reader = protojson.Reader()
        self._printer = printer_for(
            descriptors, JsonCosts(descriptors.pool, defaults=False), proto_names=False, defaults=False
        )

    def read(self, name: str, text: bytes, *, max_size: int) -> bytes:
        """Return the message that this JSON says. Unknown fields are refused.

        Raises UnusableMessage, MemoryError.
        """
        message = self._new(name)
        try:
            self._reader.fill(message, protojson.loads(text), ignore_unknown=False)
            size = message.ByteSize()
            if size > max_size:
                raise UnusableMessage(f"this message would have {size} bytes; at most {max_size} are sent from here")
            return message.SerializeToString()
        except (protojson.NotProtoJson, EncodeError) as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            place = getattr(error, "path", "")
            where = f" in {place[:_MAX_TOLD]}" if place else ""
            raise UnusableMessage(f"this JSON is not a {name}: {str(error)[:_MAX_TOLD]}{where}") from error

    def print(self, name: str, message: bytes, *, max_size: int) -> bytes:
        """Return the message as JSON of at most `max_size` bytes. Raises UnusableMessage, MemoryError."""
        try:
            parsed = type(self._new(name)).FromString(message)
        except DecodeError as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            raise UnusableMessage(f"these bytes are not a {name}") from error
        try:
            return self._printer.print(parsed, max_size=max_size)
        except (json_format.Error, DecodeError, ValueError, TypeError, RecursionError) as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            raise UnusableMessage(f"this {name} has no JSON form: {str(error)[:_MAX_TOLD]}") from error
        except MessageTooLarge as error:
            raise UnusableMessage(f"this {name} would make more than {max_size} bytes of JSON") from error

    def print_details(self, status: bytes) -> bytes:
        """Return the details of a google.rpc.Status as a JSON list."""
        return _encode(
            details_in_status(
                status, lambda name: None if self._descriptors.file_of(name) is None else self._descriptors.pool
            )
        )

    def _new(self, name: str) -> Message:
        try:
            return GetMessageClass(self._descriptors.message(name))()
        except KeyError as error:
            raise UnusableMessage(f"{name[:_MAX_TOLD]} is not described in {self._descriptors.name}") from error
