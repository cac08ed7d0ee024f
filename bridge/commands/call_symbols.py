"""Where `call` learns services and their messages: from the server's reflection, or from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import MethodDescriptor

from bridge.commands.call_server import CalledServer
from bridge.commands.failure import CommandFailed
from bridge.config.problems import did_you_mean, nearest
from bridge.services.builtin import message_class
from bridge.services.descriptors import Descriptors, files_in, imports_of, load_descriptors, well_known_file
from bridge.services.errors import BadDescriptors
from bridge.services.proto_folder import compile_files
from bridge.services.proto_text import symbol_names

GrpcioMetadata = Sequence[tuple[str, str | bytes]]

_VERSIONS = ("v1", "v1alpha")
"""Of reflection, the newest first. Their messages are alike."""
_REFLECTION_SECONDS = 30.0


class SymbolSource(Protocol):
    """Knows services and what they are made of."""

    def services(self) -> list[str]:
        """Return the full names of the services, sorted. Raises CommandFailed."""
        ...

    def describing(self, symbol: str) -> Descriptors:
        """Return descriptors in which the symbol is defined, with all that they import. Raises CommandFailed."""
        ...


def split_method(text: str) -> tuple[str, str] | None:
    """Return the service and the method of `pkg.Service/Method`, or of `pkg.Service.Method`, which grpcurl takes, too.
    None for other texts.
    """
    service, _, method = text.lstrip("./").rpartition("/" if "/" in text.lstrip("./") else ".")
    return None if not service or not method or "/" in service else (service, method)


def find_method(source: SymbolSource, service: str, method: str) -> MethodDescriptor:
    """Return a method. Raises CommandFailed, which names the nearest service or method."""
    descriptors = source.describing(service)
    found = descriptors.find_method(service, method)
    if found is not None:
        return found
    try:
        known = descriptors.pool.FindServiceByName(service).methods_by_name
    except KeyError as error:
        raise CommandFailed(f"{service} is not a service{_nearest_service(service, source.services())}") from error
    raise CommandFailed(f"{service} has no method {method}{did_you_mean(method, known, listed=True)}")


def _nearest_service(name: str, services: Sequence[str]) -> str:
    """Return which service may be meant, also by a name without its package, or which ones there are. Nothing if the
    name is right: then something else is wrong.
    """
    if name in services:
        return ""
    if meant := did_you_mean(name, services):
        return meant
    own = [service for service in services if not service.startswith("grpc.")]
    by_last_part = {service.rpartition(".")[2]: service for service in own}
    last = nearest(name.rpartition(".")[2], by_last_part)
    if last is not None:
        return f', did you mean "{by_last_part[last]}"?'
    return did_you_mean(name, own, listed=True)


# -- files -------------------------------------------------------------------------------------------------------------


class FileSource:
    """What files describe."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors

    def services(self) -> list[str]:
        return sorted(self._descriptors.services)

    def describing(self, symbol: str) -> Descriptors:
        if self._descriptors.file_of(symbol) is None:
            known = (name for file in self._descriptors.files for name in symbol_names(file))
            meant = did_you_mean(symbol, known) or _nearest_service(symbol, self.services())
            raise CommandFailed(f"{symbol} is not described in {self._descriptors.name}{meant}")
        return self._descriptors


def file_source(protosets: Sequence[Path], protos: Sequence[Path], import_paths: Sequence[Path]) -> FileSource:
    """Read FileDescriptorSets, and compile .proto files. Raises CommandFailed."""
    name = ", ".join(map(str, (*protosets, *protos)))
    try:
        files: dict[str, bytes] = {}
        for path in protosets:
            for file in load_descriptors(path).files:
                files.setdefault(imports_of(file)[0], file)
        if protos:
            for file in files_in(compile_files(protos, import_paths), name=name):
                files.setdefault(imports_of(file)[0], file)
        return FileSource(Descriptors(files.values(), name=name))
    except BadDescriptors as error:
        raise CommandFailed(str(error), exit_code=2) from error


# -- reflection --------------------------------------------------------------------------------------------------------


class ReflectionSource:
    """What the server says of itself."""

    def __init__(self, server: CalledServer, metadata: GrpcioMetadata, *, seconds: float = _REFLECTION_SECONDS) -> None:
        """`metadata` goes with each question, because a server may ask for a token here, too. `seconds` bounds one."""
        self._server = server
        self._metadata = tuple(metadata)
        self._seconds = seconds
        self._version = 0
        self._services: list[str] | None = None

    def services(self) -> list[str]:
        if self._services is None:
            answer = self._ask(list_services="*")
            if answer.HasField("error_response"):
                raise CommandFailed(f"the server does not list its services: {answer.error_response.error_message}")
            self._services = sorted({service.name for service in answer.list_services_response.service})
        return self._services

    def describing(self, symbol: str) -> Descriptors:
        files = self._files_of(symbol)
        try:
            return Descriptors(files, name="reflection")
        except BadDescriptors as error:
            raise CommandFailed(f"the server describes {symbol} in a way that cannot be used: {error}") from error

    def _files_of(self, symbol: str) -> list[bytes]:
        """Return the file that defines the symbol and all that it imports, asked for until nothing is missing."""
        answer = self._ask(file_containing_symbol=symbol)
        if answer.HasField("error_response"):
            meant = _nearest_service(symbol, self.services())
            raise CommandFailed(f"{symbol} is not described: {answer.error_response.error_message}{meant}")
        files = {imports_of(file)[0]: file for file in _files_in(answer)}
        while True:
            imported = {name for file in files.values() for name in imports_of(file)[1]}
            missing = sorted(name for name in imported - files.keys() if well_known_file(name) is None)
            if not missing:
                return list(files.values())
            for file in _files_in(self._ask(file_by_filename=missing[0])):
                files[imports_of(file)[0]] = file
            if missing[0] not in files:
                raise CommandFailed(f"the server does not give {missing[0]}, which its files import")

    def _ask(self, **question: str) -> Any:
        """Return the ServerReflectionResponse to one question. Raises CommandFailed without an answer."""
        request = message_class("grpc.reflection.v1.ServerReflectionRequest")(**question)
        while True:
            try:
                answers = list(self._ask_version(_VERSIONS[self._version], request))
                break
            except grpc.RpcError as error:
                code, text = _told(error)
                if code is grpc.StatusCode.UNAVAILABLE:
                    self._server.check_reachable()
                if code is not grpc.StatusCode.UNIMPLEMENTED:
                    raise CommandFailed(f"reflection failed: {text}") from error
                self._version += 1
                if self._version == len(_VERSIONS):
                    raise CommandFailed(
                        "the server does not answer reflection; --proto FILE or --protoset FILE describes its services"
                    ) from error
        if not answers:
            raise CommandFailed("reflection failed: no answer")
        return answers[0]

    def _ask_version(self, version: str, request: Any) -> Any:
        ask: grpc.StreamStreamMultiCallable[Any, Any] = self._server.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_class("grpc.reflection.v1.ServerReflectionResponse").FromString,
        )
        return ask(iter([request]), timeout=self._seconds, metadata=self._metadata)


def _files_in(answer: Any) -> list[bytes]:
    return list(answer.file_descriptor_response.file_descriptor_proto)


def _told(error: grpc.RpcError) -> tuple[grpc.StatusCode | None, str]:
    if isinstance(error, grpc.Call):
        return error.code(), f"{error.code().name}: {error.details()}"
    return None, type(error).__name__
