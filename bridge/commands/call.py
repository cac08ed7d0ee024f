"""`call`: one RPC with JSON in and out, through a running bridge or straight at a target; the messages' types come by
reflection.

Messages go to standard output, one JSON document each; metadata, trailers and status to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from bridge.commands.failure import CommandFailed
from bridge.commands.own_bridge import own_bridge
from bridge.config.problems import did_you_mean
from bridge.config.units import parse_duration
from bridge.services import protojson
from bridge.services.builtin import message_class
from bridge.services.descriptors import Descriptors, imports_of, well_known_file

_REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
_REFLECTION_SECONDS = 30.0
_CONNECT_SECONDS = 10.0


def call(chosen: argparse.Namespace) -> int:
    """Make the call. Returns 0 if its status is OK, else 1. Raises CommandFailed."""
    service, slash, method = chosen.method.lstrip("/").partition("/")
    if not slash or not service or not method:
        raise CommandFailed(
            f"{chosen.method!r} is not SERVICE/METHOD, such as helloworld.Greeter/SayHello",
            exit_code=2,
        )
    metadata = [_parse_header(header) for header in chosen.header]
    seconds = _parse_timeout(chosen.timeout)
    if chosen.target is None:
        with _channel(chosen.to, tls=chosen.tls) as channel:
            return _call(channel, service, method, _text(chosen.messages), metadata, seconds)
    with (
        own_bridge(chosen.config, chosen.target) as address,
        _channel(address, tls=False) as channel,
    ):
        return _call(channel, service, method, _text(chosen.messages), metadata, seconds)


def _call(
    channel: grpc.Channel,
    service: str,
    method: str,
    text: str,
    metadata: Sequence[tuple[str, str | bytes]],
    seconds: float | None,
) -> int:
    described = _describe(channel, service, method)
    requests = list(_parse_messages(text, described))
    invoke: grpc.StreamStreamMultiCallable[Message, Message] = channel.stream_stream(
        f"/{service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(described.output_type).FromString,
    )
    responses = invoke(iter(requests), timeout=seconds, metadata=tuple(metadata))
    try:
        _print_metadata("<", responses.initial_metadata())
        for response in responses:
            print(json_of(response), flush=True)
    except grpc.RpcError:
        pass  # the status tells it
    _print_metadata("<<", responses.trailing_metadata() or ())
    code: grpc.StatusCode = responses.code()
    details = responses.details()
    print(f"{code.name}{': ' + details if details else ''}", file=sys.stderr)
    return 0 if code is grpc.StatusCode.OK else 1


def json_of(message: Message) -> str:
    """Return the message as JSON. Raises CommandFailed for a message that has no JSON form."""
    try:
        # Its own pool knows the types that an Any of it may hold.
        pool: Any = message.DESCRIPTOR.file.pool
        return json_format.MessageToJson(message, descriptor_pool=pool)
    except (json_format.Error, DecodeError, TypeError, ValueError, RecursionError) as error:
        raise CommandFailed(f"a reply, a {message.DESCRIPTOR.full_name}, has no JSON form: {error}") from error


def _channel(address: str, *, tls: bool) -> grpc.Channel:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 64 << 10)]
    channel = (
        grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        if tls
        else grpc.insecure_channel(address, options)
    )
    if not _connects(channel):
        channel.close()
        raise CommandFailed(f"nothing answers gRPC at {address}; is the bridge running there?")
    return channel


def _connects(channel: grpc.Channel) -> bool:
    """Whether the first attempt on all of the name's addresses succeeds: gRPC itself would go on trying."""
    settled: SimpleQueue[bool] = SimpleQueue()
    ends = {
        grpc.ChannelConnectivity.READY: True,
        grpc.ChannelConnectivity.TRANSIENT_FAILURE: False,
    }

    def note(state: grpc.ChannelConnectivity) -> None:
        if state in ends:
            settled.put(ends[state])

    channel.subscribe(note, try_to_connect=True)
    try:
        return settled.get(timeout=_CONNECT_SECONDS)
    except Empty:
        return False
    finally:
        channel.unsubscribe(note)


def _text(messages: str) -> str:
    return sys.stdin.read() if messages == "-" else messages


def _parse_header(header: str) -> tuple[str, str | bytes]:
    name, colon, value = header.partition(":")
    name, value = name.strip().lower(), value.strip()
    if not colon or not name:
        raise CommandFailed(f"-H {header!r} is not NAME:VALUE", exit_code=2)
    # As grpcurl does: the value of a -bin name is given in base64.
    if not name.endswith("-bin"):
        return name, value
    from bridge.rpc.metadata import decode_binary

    try:
        return name, decode_binary(value)
    except ValueError as error:
        raise CommandFailed(f"-H {name}: a -bin value is base64: {error}", exit_code=2) from error


def _parse_timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise CommandFailed(f"--timeout {text}: {error}", exit_code=2) from error


def _parse_messages(text: str, method: MethodDescriptor) -> Iterator[Message]:
    decoder, reader = json.JSONDecoder(), protojson.Reader()
    rest = text.strip()
    while rest:
        try:
            _, end = decoder.raw_decode(rest)
            message = GetMessageClass(method.input_type)()
            reader.fill(message, protojson.loads(rest[:end].encode()), ignore_unknown=False)
        except (ValueError, RecursionError) as error:
            place = getattr(error, "path", "")
            raise CommandFailed(
                f"{rest[:60]!r} is not a {method.input_type.full_name} in JSON{place and f' (at {place})'}: {error}",
                exit_code=2,
            ) from error
        yield message
        rest = rest[end:].lstrip()


def _describe(channel: grpc.Channel, service: str, method: str) -> MethodDescriptor:
    descriptors = Descriptors(_files_of(channel, service), name="reflection")
    found = descriptors.find_method(service, method)
    if found is None:
        known = descriptors.pool.FindServiceByName(service).methods_by_name
        raise CommandFailed(f"{service} has no method {method}{did_you_mean(method, known)}")
    return found


def _files_of(channel: grpc.Channel, service: str) -> list[bytes]:
    """Return the file that defines the service and all that it imports, asked for until nothing is missing."""
    answer = _ask(channel, file_containing_symbol=service)
    if answer.HasField("error_response"):
        nearest = did_you_mean(service, _services_of(channel))
        raise CommandFailed(f"{service} is not described: {answer.error_response.error_message}{nearest}")
    files = {imports_of(file)[0]: file for file in _files_in(answer)}
    while True:
        imported = {name for file in files.values() for name in imports_of(file)[1]}
        missing = sorted(name for name in imported - files.keys() if well_known_file(name) is None)
        if not missing:
            return list(files.values())
        for file in _files_in(_ask(channel, file_by_filename=missing[0])):
            files[imports_of(file)[0]] = file
        if missing[0] not in files:
            raise CommandFailed(f"the server does not give {missing[0]}, which its files import")


def _services_of(channel: grpc.Channel) -> list[str]:
    """Return the names of the services that the server lists."""
    return [service.name for service in _ask(channel, list_services="*").list_services_response.service]


def _files_in(answer: Any) -> list[bytes]:
    return list(answer.file_descriptor_response.file_descriptor_proto)


def _ask(channel: grpc.Channel, **question: str) -> Any:
    """Return the ServerReflectionResponse to one question. Raises CommandFailed without an answer."""
    request = message_class("grpc.reflection.v1.ServerReflectionRequest")(**question)
    ask: grpc.StreamStreamMultiCallable[Any, Any] = channel.stream_stream(
        _REFLECTION,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class("grpc.reflection.v1.ServerReflectionResponse").FromString,
    )
    try:
        answers: list[Any] = list(ask(iter([request]), timeout=_REFLECTION_SECONDS))
    except grpc.RpcError as error:
        raise CommandFailed(f"reflection failed: {_reason(error)}") from error
    if not answers:
        raise CommandFailed("reflection failed: no answer")
    return answers[0]


def _reason(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return type(error).__name__


def _print_metadata(mark: str, metadata: Any) -> None:
    for name, value in metadata or ():
        shown = value if isinstance(value, str) else f"(binary) {value.hex()}"
        print(f"{mark} {name}: {shown}", file=sys.stderr)
