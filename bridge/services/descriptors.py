"""Descriptors: what one source says about services and their messages.

In: a file that holds a FileDescriptorSet, a folder of .proto, or the file descriptors that a function gave. Out: the
files, services and methods in them, each found by name. One pool for each source: two functions may both have a
`service.proto`, and two versions of one message, without meeting. It doesn't know routes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Literal

from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from bridge.services.errors import BadDescriptors
from bridge.services.proto_folder import IsWanted, compile_folder

MAX_SIZE = 64 << 20
"""Bytes of all the descriptors of one source."""

MethodKind = Literal["unary", "client_stream", "server_stream", "bidi_stream", "unknown"]

_KIND: dict[tuple[bool, bool], MethodKind] = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}

_WELL_KNOWN = re.compile(
    r"google/(?:protobuf/(?:any|api|descriptor|duration|empty|field_mask|source_context|struct|timestamp|type|wrappers)"
    r"|(?:api|rpc|type)/[a-z_]{1,50})\.proto"
)
"""Files that come with protobuf or with googleapis-common-protos."""


def load_descriptors(path: Path, *, is_wanted: IsWanted | None = None, max_size: int = MAX_SIZE) -> Descriptors:
    """Read a FileDescriptorSet, or compile a folder of .proto. It blocks: run it in a thread.

    `is_wanted`: the services that a folder must describe; see compile_folder. `max_size`: bytes of a FileDescriptorSet.
    Raises BadDescriptors.
    """
    if path.is_dir():
        compiled = compile_folder(path, is_wanted=is_wanted)
        return Descriptors(files_in(compiled, name=str(path)), name=str(path))
    if path.suffix == ".proto":
        raise BadDescriptors(f"{path} is one .proto file; name the folder it is in")
    return Descriptors(files_in(_read(path, max_size), name=str(path)), name=str(path))


def _read(path: Path, max_size: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(max_size + 1)
    except OSError as error:
        raise BadDescriptors(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > max_size:
        raise BadDescriptors(f"{path} has more than {max_size} bytes")
    return content


def files_in(descriptor_set: bytes, *, name: str) -> list[bytes]:
    """Return the serialized FileDescriptorProto messages in a serialized FileDescriptorSet. Raises BadDescriptors."""
    try:
        files = FileDescriptorSet.FromString(descriptor_set).file
    except DecodeError as error:
        raise BadDescriptors(
            f"{name} is not a FileDescriptorSet: make one with protoc --include_imports --descriptor_set_out=FILE"
        ) from error
    if not files:
        raise BadDescriptors(f"{name} describes no file")
    return [file.SerializeToString() for file in files]


def well_known_file(filename: str) -> bytes | None:
    """Return the descriptor of a file that everybody imports: senders of descriptors like to leave these out."""
    if not _WELL_KNOWN.fullmatch(filename):
        return None
    try:
        module = import_module(filename.removesuffix(".proto").replace("/", ".") + "_pb2")
    except ModuleNotFoundError:
        return None
    content: bytes = module.DESCRIPTOR.serialized_pb
    return content


def imports_of(file: bytes) -> tuple[str, list[str]]:
    """Return the name of a serialized FileDescriptorProto, and of the files that it imports. Raises DecodeError."""
    parsed = FileDescriptorProto.FromString(file)
    return parsed.name, list(parsed.dependency)


class Descriptors:
    """The files of one source, in a pool of their own."""

    def __init__(self, files: Iterable[bytes], *, name: str, declared: Collection[str] = ()) -> None:
        """Take serialized FileDescriptorProto messages in any order. Raises BadDescriptors.

        `declared` names further services of the source that the files lack, for messages.
        """
        self.name = name
        """Where they come from, for messages."""
        self._files: dict[str, bytes] = {}
        self._imports: dict[str, list[str]] = {}
        for file in files:
            self._keep(file)
        self.pool = DescriptorPool()
        """Of these files alone."""
        for filename in self._imports_first():
            try:
                self.pool.AddSerializedFile(self._files[filename])
            except TypeError as error:
                raise BadDescriptors(f"{name}: {filename}: {error}") from error
        self.services = tuple(
            service.full_name for file in self._descriptors() for service in file.services_by_name.values()
        )
        """Full names, in no particular order."""
        self.declared = frozenset(self.services).union(declared)
        """Full names of all services that the source is known to have, described here or not."""

    def _keep(self, file: bytes) -> None:
        try:
            filename, imports = imports_of(file)
        except DecodeError as error:
            raise BadDescriptors(f"{self.name} holds a file descriptor that does not decode") from error
        if self._files.setdefault(filename, file) != file:
            raise BadDescriptors(f"{self.name} holds two versions of {filename}")
        self._imports[filename] = imports

    def _imports_first(self) -> list[str]:
        """Every file's name after those that it imports, which is how a pool wants them. Raises BadDescriptors."""
        ordered: dict[str, None] = {}
        entered: set[str] = set()
        waiting = [iter(list(self._files))]
        path: list[str] = []
        while waiting:
            filename = next(waiting[-1], None)
            if filename is None:
                waiting.pop()
                if path:
                    ordered[path.pop()] = None
                continue
            if filename in ordered:
                continue
            if filename in entered:
                raise BadDescriptors(f"{self.name}: {filename} imports itself")
            entered.add(filename)
            waiting.append(iter(self._imports_of(filename, importer=path[-1] if path else "")))
            path.append(filename)
        return list(ordered)

    def _imports_of(self, filename: str, *, importer: str) -> list[str]:
        if filename not in self._files:
            well_known = well_known_file(filename)
            if well_known is None:
                raise BadDescriptors(
                    f"{self.name} lacks {filename}, which {importer} imports (protoc --include_imports adds it)"
                )
            self._keep(well_known)
        return self._imports[filename]

    def _descriptors(self) -> Iterator[FileDescriptor]:
        return (self.pool.FindFileByName(filename) for filename in self._files)

    @property
    def files(self) -> Collection[bytes]:
        """The serialized FileDescriptorProto of each file."""
        return self._files.values()

    def has_file(self, filename: str) -> bool:
        return filename in self._files

    def file_of(self, symbol: str) -> str | None:
        """Return the name of the file that defines this service, method, message, field or enum."""
        try:
            return self.pool.FindFileContainingSymbol(symbol).name
        except KeyError:
            method = self.find_method(*_split(symbol))
            return None if method is None else method.containing_service.file.name

    def with_imports(self, filename: str) -> list[bytes]:
        """Return the file and then all that it imports, near and far, each once. Raises KeyError."""
        closure = {filename: self._files[filename]}
        waiting = [filename]
        for name in waiting:
            for imported in self._imports[name]:
                if imported not in closure:
                    closure[imported] = self._files[imported]
                    waiting.append(imported)
        return list(closure.values())

    def find_method(self, service: str, method: str) -> MethodDescriptor | None:
        """Return the method of a service, or None if it is not described."""
        try:
            found: MethodDescriptor | None = self.pool.FindServiceByName(service).methods_by_name.get(method)
        except KeyError:
            return None
        return found

    def message(self, full_name: str) -> Descriptor:
        """Return the type of this name. Raises KeyError."""
        return self.pool.FindMessageTypeByName(full_name)

    def extension_numbers(self, containing_type: str) -> list[int] | None:
        """Return the field numbers of the known extensions of a message, or None if the message itself is not known."""
        try:
            message = self.message(containing_type)
        except KeyError:
            return None
        return sorted(extension.number for extension in self.pool.FindAllExtensions(message))

    def file_of_extension(self, containing_type: str, number: int) -> str | None:
        """Return the name of the file that defines this extension."""
        try:
            message = self.message(containing_type)
            extension = self.pool.FindExtensionByNumber(message, number)
            return self.pool.FindFileContainingSymbol(extension.full_name).name
        except KeyError:
            return None

    def parsed_files(self) -> Iterator[FileDescriptorProto]:
        for file in self._descriptors():
            parsed = FileDescriptorProto()
            file.CopyToProto(parsed)
            yield parsed


def kind_of(method: MethodDescriptor | None) -> MethodKind:
    """Return the method's kind as metrics spell it."""
    if method is None:
        return "unknown"
    return _KIND[method.client_streaming, method.server_streaming]


def _split(symbol: str) -> tuple[str, str]:
    parent, _, last = symbol.rpartition(".")
    return parent, last
