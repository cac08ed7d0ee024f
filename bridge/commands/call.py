"""`call`: one RPC with JSON in and out, through a running bridge or straight at a target. `call list` and
`call describe` show what can be called.

Messages go to standard output, one JSON document each; metadata, trailers and status to standard error.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bridge.commands.call_address import Security
from bridge.commands.call_report import CallEnd, JsonReport, Report, TextReport, details_of
from bridge.commands.call_requests import documents_in, is_stdin, only_request, requests_in
from bridge.commands.call_server import CalledServer, connected
from bridge.commands.call_symbols import (
    GrpcioMetadata,
    ReflectionSource,
    SymbolSource,
    file_source,
    find_method,
    split_method,
)
from bridge.commands.failure import CommandFailed
from bridge.config.units import parse_duration
from bridge.services.descriptors import Descriptors
from bridge.services.proto_text import symbol_text

DEFAULT_ADDRESS = "localhost:50051"

_FIRST_STATUS = 64
"""The exit code of a call that fails is this and its status code, as grpcurl's."""


def call(chosen: argparse.Namespace) -> int:
    """Make the call, or list or describe. Returns 0 if its status is OK, else 64 and the code. Raises CommandFailed."""
    metadata = tuple(_parse_header(header) for header in chosen.header)
    match chosen.method:
        case "list":
            with _symbols(chosen, metadata) as symbols:
                return _list(symbols, chosen.argument, is_json=chosen.output == "json")
        case "describe":
            with _symbols(chosen, metadata) as symbols:
                return _describe(symbols, chosen.argument, is_json=chosen.output == "json")
        case _:
            return _call_method(chosen, metadata)


# -- list and describe -------------------------------------------------------------------------------------------------


@contextmanager
def _symbols(chosen: argparse.Namespace, metadata: GrpcioMetadata) -> Iterator[SymbolSource]:
    """Yield the files that are named, or else the server's reflection. With files no server is needed."""
    if chosen.data is not None:
        raise CommandFailed(f"-d has no effect on {chosen.method}", exit_code=2)
    files = named_files(chosen)
    if files is not None:
        yield files
        return
    with _server(chosen) as server:
        yield ReflectionSource(server, metadata)


def named_files(chosen: argparse.Namespace) -> SymbolSource | None:
    """Return what the files of --proto and --protoset describe; None without them. Raises CommandFailed."""
    if not chosen.protoset and not chosen.proto:
        return None
    return file_source(chosen.protoset, chosen.proto, chosen.import_path)


def _list(symbols: SymbolSource, service: str | None, *, is_json: bool) -> int:
    if service is None:
        names = symbols.services()
    else:
        descriptors = symbols.describing(service)
        if service not in descriptors.services:
            raise CommandFailed(f"{service} is not a service; call describe {service} shows it", exit_code=1)
        names = [f"{service}/{method.name}" for method in descriptors.pool.FindServiceByName(service).methods]
    print(json.dumps(names) if is_json else "\n".join(names))
    return 0


def _describe(symbols: SymbolSource, symbol: str | None, *, is_json: bool) -> int:
    names = symbols.services() if symbol is None else [symbol.lstrip("./").replace("/", ".")]
    described = []
    for name in names:
        kind, text = _text_of(symbols.describing(name), name)
        described.append({"symbol": name, "kind": kind, "proto": text})
    if is_json:
        print(json.dumps(described, ensure_ascii=False))
    else:
        print("\n".join(f"// {each['symbol']}\n{each['proto']}" for each in described), end="")
    return 0


def _text_of(descriptors: Descriptors, name: str) -> tuple[str, str]:
    for file in descriptors.files:
        found = symbol_text(file, descriptors.pool, name)
        if found is not None:
            return found
    raise CommandFailed(f"{name} is defined, but it has no text of its own")


# -- one call ----------------------------------------------------------------------------------------------------------


def _call_method(chosen: argparse.Namespace, metadata: GrpcioMetadata) -> int:
    called = split_method(chosen.method)
    if called is None:
        raise _no_method(chosen.method)
    seconds = _parse_timeout(chosen.timeout)
    data = _data_of(chosen)
    files = named_files(chosen)
    timings = _Timings()
    report: Report = JsonReport() if chosen.output == "json" else TextReport(is_verbose=chosen.verbose)
    with _server(chosen, called) as server:
        symbols = files or ReflectionSource(server, metadata)
        described = _find_method(symbols, chosen.method, called)
        timings.note("described")
        requests = requests_in(documents_in(data), described)
        if not described.client_streaming:
            requests = iter([only_request(requests, described)])
        elif not is_stdin(data):
            requests = iter(list(requests))  # what is wrong with them is said before the call
        report.request(described, metadata)
        return _make_call(server, described, requests, metadata, seconds, report, timings, symbols)


def _find_method(symbols: SymbolSource, text: str, called: tuple[str, str]) -> MethodDescriptor:
    """Return the called method. Raises CommandFailed, also for a service alone: its last part was read as a method."""
    try:
        return find_method(symbols, *called)
    except CommandFailed:
        if "/" not in text and text.lstrip(".") in symbols.services():
            raise _no_method(text) from None
        raise


def _no_method(text: str) -> CommandFailed:
    return CommandFailed(
        f"{text!r} is not SERVICE/METHOD, such as helloworld.Greeter/SayHello (list and describe show what there is)",
        exit_code=2,
    )


def _data_of(chosen: argparse.Namespace) -> str:
    if chosen.data is not None and chosen.argument is not None:
        raise CommandFailed("the message is given twice: after the method and with -d", exit_code=2)
    if chosen.data is not None:
        return str(chosen.data)
    return "{}" if chosen.argument is None else str(chosen.argument)


class _Timings:
    """When what happened, in seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    def note(self, what: str) -> None:
        """Note that this has happened. Only the first time counts."""
        self.seconds.setdefault(what, time.monotonic() - self._began)


class _Requests:
    """The request stream as gRPC reads it, in a thread of its own. A message that cannot be read cancels the call."""

    def __init__(self, requests: Iterator[Message]) -> None:
        self._requests = requests
        self._cancel: Callable[[], object] | None = None
        self.failure: CommandFailed | None = None

    def cancel_with(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        if self.failure is not None:
            cancel()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        try:
            return next(self._requests)
        except CommandFailed as failure:
            self.failure = failure
            if self._cancel is not None:
                self._cancel()
            raise StopIteration from failure


def _make_call(
    server: CalledServer,
    method: MethodDescriptor,
    requests: Iterator[Message],
    metadata: GrpcioMetadata,
    seconds: float | None,
    report: Report,
    timings: _Timings,
    symbols: SymbolSource,
) -> int:
    invoke: grpc.StreamStreamMultiCallable[Message, Message] = server.channel.stream_stream(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    sent = _Requests(requests)
    responses = invoke(sent, timeout=seconds, metadata=tuple(metadata))
    sent.cancel_with(responses.cancel)
    failure: CommandFailed | None = None
    try:
        report.headers(_pairs(responses.initial_metadata()))
        timings.note("headers")
        for response in responses:
            timings.note("first message")
            report.message(response)
    except grpc.RpcError:
        pass  # the status tells it
    except CommandFailed as unprintable:
        failure = unprintable
        responses.cancel()
    except BaseException:
        responses.cancel()
        raise
    timings.note("status")
    trailers = _pairs(responses.trailing_metadata())
    code: grpc.StatusCode = responses.code()
    details = details_of(trailers, lambda name: symbols.describing(name).pool)
    report.end(CallEnd(code, responses.details() or "", trailers, details, timings.seconds))
    if code is grpc.StatusCode.UNAVAILABLE and not trailers:
        server.check_reachable()
    failure = sent.failure or failure
    if failure is not None:
        raise failure
    number: int = code.value[0]
    return 0 if code is grpc.StatusCode.OK else _FIRST_STATUS + number


def _pairs(metadata: Any) -> GrpcioMetadata:
    return [(entry[0], entry[1]) for entry in metadata or ()]


# -- the server --------------------------------------------------------------------------------------------------------


@contextmanager
def _server(chosen: argparse.Namespace, called: tuple[str, str] | None = None) -> Iterator[CalledServer]:
    """Yield the bridge at --to, or a private one for --target. `called`: the service and the method to call."""
    security = Security.of(chosen)
    if chosen.target is None:
        with connected(chosen.to or DEFAULT_ADDRESS, security) as server:
            yield server
        return
    if security.tls:
        raise CommandFailed("--target runs a bridge of its own, which needs no flags for TLS", exit_code=2)
    from bridge.commands.own_bridge import own_bridge

    own = own_bridge(chosen.config, chosen.target, called, is_verbose=chosen.verbose)
    with own as address, connected(address, security) as server:
        yield server


# -- arguments ---------------------------------------------------------------------------------------------------------


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
