"""The details of a status (google.rpc.Status in `grpc-status-details-bin`) as JSON values, for people."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from bridge.services.builtin import error_details
from bridge.services.descriptors import Descriptors, imports_of, well_known_file

Describing = Callable[[str], DescriptorPool | None]
"""Returns the pool that knows a message type. None: nobody knows it."""


def details_in_status(status: bytes, describing: Describing) -> list[Any]:
    """Return the details in a serialized google.rpc.Status as JSON, and none if it does not parse.

    `describing` is asked for types that are not Google's own. A detail whose type nobody knows, or that does not parse,
    keeps its bytes, in base64.
    """
    try:
        parsed: Any = GetMessageClass(error_details().message("google.rpc.Status")).FromString(status)
    except DecodeError:
        return []
    return [_detail(each, describing) for each in parsed.details]


def _detail(detail: Any, describing: Describing) -> Any:
    name = detail.type_url.rpartition("/")[2]
    pool = _common_types().pool if _common_types().file_of(name) is not None else describing(name)
    try:
        if pool is not None:
            value = _json_of(pool, name, detail.value)
            return {"@type": detail.type_url, **(value if isinstance(value, dict) else {"value": value})}
    except (KeyError, json_format.Error, DecodeError, TypeError, ValueError, RecursionError):
        pass
    return {"@type": detail.type_url, "@value": base64.b64encode(detail.value).decode()}


def _json_of(pool: DescriptorPool, name: str, value: bytes) -> Any:
    message = GetMessageClass(pool.FindMessageTypeByName(name)).FromString(value)
    # Its own pool knows the types that an Any of it may hold.
    return json.loads(json_format.MessageToJson(message, descriptor_pool=pool, ensure_ascii=False))


@cache
def _common_types() -> Descriptors:
    """Return the types that errors carry without describing them: google.rpc's and protobuf's own."""
    own = (f"google/protobuf/{name}.proto" for name in ("any", "duration", "empty", "struct", "timestamp", "wrappers"))
    files = {imports_of(file)[0]: file for file in error_details().files}
    files |= {name: file for name in own if (file := well_known_file(name)) is not None}
    return Descriptors(files.values(), name="google")
