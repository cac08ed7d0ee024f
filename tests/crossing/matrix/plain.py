"""dev.Echo as people write functions without any gRPC library: the payload by the content type, the event by its keys.

What a function does is written once, on JSON objects (`METHODS`); around it stand the payloads and the shapes of
events.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from google.protobuf import any_pb2, json_format, wrappers_pb2

from lambda_fn.examples import echo_pb2 as pb

Object = dict[str, Any]
Fields = list[tuple[str, str]]


@dataclass
class Answer:
    messages: list[Object] = field(default_factory=list)
    code: int = 0
    message: str = ""
    details: list[str] = field(default_factory=list)


# -- what it does ------------------------------------------------------------------------------------------------------


def unary(requests: list[Object], metadata: Fields) -> Answer:
    return Answer([reply(requests[0], metadata, 0)])


def server_stream(requests: list[Object], metadata: Fields) -> Answer:
    asked = requests[0]
    count, fail_after = asked.get("count", 3), asked.get("failAfter", 0)
    time.sleep(asked.get("delay", 0.0) * count)
    if fail_after:
        messages = [reply(asked, metadata, index) for index in range(fail_after)]
        return Answer(messages, 10, f"failed after {fail_after}, as asked")
    return Answer([reply(asked, metadata, index) for index in range(count)])


def client_stream(requests: list[Object], metadata: Fields) -> Answer:
    texts = [request["text"] for request in requests]
    return Answer([{"text": " ".join(texts), "index": len(texts)}])


def bidi_stream(requests: list[Object], metadata: Fields) -> Answer:
    return Answer([reply(request, metadata, index) for index, request in enumerate(requests)])


def fail(requests: list[Object], metadata: Fields) -> Answer:
    asked = requests[0]
    return Answer([], asked["code"], asked["message"], asked.get("details", []))


def raised(requests: list[Object], metadata: Fields) -> Answer:
    raise RuntimeError(requests[0]["message"])


def sleep(requests: list[Object], metadata: Fields) -> Answer:
    time.sleep(requests[0]["seconds"])
    return Answer([{}])


def big(requests: list[Object], metadata: Fields) -> Answer:
    return Answer([{"data": b64encode(bytes(int(requests[0]["size"]))).decode()}])


METHODS: dict[str, tuple[Any, Any, Callable[[list[Object], Fields], Answer]]] = {
    "Unary": (pb.EchoRequest, pb.EchoReply, unary),
    "ServerStream": (pb.EchoRequest, pb.EchoReply, server_stream),
    "ClientStream": (pb.EchoRequest, pb.EchoReply, client_stream),
    "BidiStream": (pb.EchoRequest, pb.EchoReply, bidi_stream),
    "Fail": (pb.FailRequest, pb.EchoReply, fail),
    "Raise": (pb.RaiseRequest, pb.EchoReply, raised),
    "Sleep": (pb.SleepRequest, pb.SleepReply, sleep),
    "SleepAsync": (pb.SleepRequest, pb.SleepReply, sleep),
    "Big": (pb.BigRequest, pb.BigReply, big),
}


def reply(request: Object, metadata: Fields, index: int) -> Object:
    seen = []
    for name, value in metadata:
        if name.endswith("-bin"):  # AWS joins values of one name
            seen += [{"name": name, "binary": padded(part)} for part in value.split(",")]
        else:
            seen.append({"name": name, "text": value})
    return {"text": request.get("text", ""), "index": index, "metadata": seen}


def padded(base64: str) -> str:
    return base64 + "=" * (-len(base64) % 4)


def named(metadata: Fields, prefix: str) -> Fields:
    return [pair for pair in metadata if pair[0].startswith(prefix)]


# -- payloads ----------------------------------------------------------------------------------------------------------


def answer_http(path: str, headers: Fields, body: bytes) -> tuple[Fields, bytes]:
    """The headers and body of the reply."""
    content_type = dict(headers)["content-type"]
    request_type, reply_type, behave = METHODS[path.rpartition("/")[2]]
    is_framed = content_type.startswith("application/grpc")
    if content_type == "application/json":
        requests = [json.loads(body)]
    else:
        data = frames(body) if is_framed else [body]
        requests = [json_format.MessageToDict(request_type.FromString(part)) for part in data]
    answer = behave(requests, headers)
    if not is_framed:
        del answer.messages[0 if answer.code else 1 :]  # there is room for one
    initial, trailing = named(headers, "echo-initial-"), named(headers, "echo-trailing-")
    fields: Fields = [("content-type", content_type), *initial]
    if content_type == "application/json":
        written = [json.dumps(message).encode() for message in answer.messages]
    else:
        parsed = [json_format.ParseDict(message, reply_type()) for message in answer.messages]
        written = [message.SerializeToString() for message in parsed]
    if content_type.startswith("application/grpc-web"):
        lines = [*status(answer), *trailing] if answer.code else [("grpc-status", "0"), *trailing]
        block = "".join(f"{name}:{value}\r\n" for name, value in lines).encode()
        return fields, b"".join(map(frame, written)) + b"\x80" + len(block).to_bytes(4, "big") + block
    if answer.code:
        fields += status(answer)
    fields += trailing  # there is no other place
    return fields, b"".join(map(frame, written)) if is_framed else b"".join(written)


def frames(body: bytes) -> list[bytes]:
    found = []
    while body:
        end = 5 + int.from_bytes(body[1:5], "big")
        data = body[5:end]
        found.append(gzip.decompress(data) if body[0] else data)
        body = body[end:]
    return found


def frame(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def status(answer: Answer) -> Fields:
    told = [("grpc-status", str(answer.code)), ("grpc-message", quote(answer.message))]
    if not answer.details:
        return told
    rich = b"\x08" + bytes((answer.code,)) + field_of(2, answer.message.encode())
    for text in answer.details:
        detail = any_pb2.Any()
        detail.Pack(wrappers_pb2.StringValue(value=text))
        rich += field_of(3, detail.SerializeToString())
    return [*told, ("grpc-status-details-bin", b64encode(rich).decode())]


def field_of(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2, len(value))) + value


# -- events ------------------------------------------------------------------------------------------------------------


def handler(event: Object, context: Any) -> Any:
    if "headers" not in event:
        return answer_raw(event, context.client_context.custom)
    is_envoy = "raw_path" in event
    path = event["raw_path"] if is_envoy else event.get("rawPath") or event["path"]
    body = event.get("body") or ""
    is_base64 = event["is_base64_encoded" if is_envoy else "isBase64Encoded"]
    listed = event.get("multiValueHeaders")
    headers = (
        [(name, value) for name, values in listed.items() for value in values]
        if listed
        else list(event["headers"].items())
    )
    fields, answered = answer_http(path, headers, b64decode(body) if is_base64 else body.encode())
    many: dict[str, list[str]] = {}
    for name, value in fields:
        many.setdefault(name, []).append(value)
    encoded = b64encode(answered).decode()
    if is_envoy:
        return {"status_code": 200, "multi_value_headers": many, "body": encoded, "is_base64_encoded": True}
    joined = {name: ",".join(values) for name, values in many.items()}
    shaped = {"statusCode": 200, "headers": joined, "body": encoded, "isBase64Encoded": True}
    return shaped if os.environ.get("JOINED") else shaped | {"multiValueHeaders": many}


CODES = {5: "NotFound", 9: "FAILED_PRECONDITION", 10: "Aborted"}


def answer_raw(event: Object, custom: dict[str, str]) -> Any:
    """A plain function: JSON in, JSON out, errors raised."""
    _, _, behave = METHODS[custom["grpc-method"].rpartition("/")[2]]
    answer = behave([event], list(custom.items()))
    if answer.code:
        raise type(CODES[answer.code], (Exception,), {})(answer.message)
    return answer.messages[0]
