"""A .proto file in, its services out, with what generated Python code needs to know of their messages.

protoc runs as a process of its own. A file that imports others is found under the folder from which its imports start:
the one that its package names, its own folder, or one above.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from bridge.commands.failure import CommandFailed
from bridge.services.errors import BadDescriptors
from bridge.services.proto_folder import compile_files, googleapis_paths

_MAX_PARENTS = 8
"""Folders above the file in which its imports may start."""
_TIMEOUT = 60.0
"""Seconds that one run of protoc may take."""


@dataclass(frozen=True, slots=True)
class Method:
    """One rpc."""

    name: str
    request: str
    """Full name of the message."""
    reply: str
    streams_requests: bool
    streams_replies: bool


@dataclass(frozen=True, slots=True)
class DeclaredService:
    """One service of the file."""

    name: str
    full_name: str
    methods: tuple[Method, ...]


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """A message type, or an enum, and where it is declared."""

    file: str
    """As imports name it."""
    path: tuple[str, ...]
    """Its name behind the package, with those of the messages around it."""
    descriptor: DescriptorProto | EnumDescriptorProto


@dataclass(frozen=True, slots=True)
class Interface:
    """What a .proto file declares."""

    root: Path
    """Where its imports start."""
    file: str
    """The file itself, from `root`."""
    own_files: tuple[str, ...]
    """The file and what it imports under `root`. All others come with Python packages."""
    third_party: tuple[str, ...]
    """What it imports of googleapis-common-protos."""
    files: dict[str, FileDescriptorProto]
    """The file and all that it imports, by the names that imports use."""
    services: tuple[DeclaredService, ...]
    types: dict[str, DeclaredType]
    """By full name."""


def read_interface(path: Path) -> Interface:
    """Compile the file. Raises CommandFailed, with protoc's complaints, or if it declares no service."""
    if not path.is_file():
        raise CommandFailed(f"{path}: no such file", exit_code=2)
    path = path.resolve()
    failures = []
    for root in _roots(path):
        result = _descriptors(root, path)
        if isinstance(result, FileDescriptorSet):
            return _interface(root, path.relative_to(root).as_posix(), result)
        failures.append(result)
    raise CommandFailed(failures[0], exit_code=2)


def read_third_party(interface: Interface) -> dict[str, str]:
    """Return the texts of the files of googleapis-common-protos that it imports, by the names that imports use."""
    roots = [path.partition("=") for path in googleapis_paths()]
    renamed = {name: Path(path) for name, _, path in roots if path}
    folders = [Path(name) for name, _, path in roots if not path]
    found = {}
    for name in interface.third_party:
        places = (renamed[name],) if name in renamed else tuple(folder / name for folder in folders)
        found[name] = next(place for place in places if place.is_file()).read_text()
    return found


def generate(interface: Interface, into: Path) -> None:
    """Write the generated code of the interface's own files into a folder. Raises CommandFailed."""
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    complaints = _protoc(interface.root, [*outputs, *interface.own_files])
    if complaints:
        raise CommandFailed(f"{interface.root / interface.file} does not compile:\n{complaints}", exit_code=2)


def _roots(path: Path) -> list[Path]:
    """Return the folders from which imports may start, the likeliest first."""
    package = _package_of(path)
    parents = [*path.parents][:_MAX_PARENTS]
    by_package = [parent for parent in parents if path.parent.relative_to(parent).parts == package] if package else []
    return list(dict.fromkeys((*by_package, *parents)))


def _package_of(path: Path) -> tuple[str, ...]:
    """Return the parts of the file's package, as far as a look at its lines can tell."""
    for line in path.read_text(errors="replace").splitlines():
        words = line.split(";")[0].split()
        if len(words) == 2 and words[0] == "package":
            return tuple(words[1].split("."))
    return ()


def _descriptors(root: Path, path: Path) -> FileDescriptorSet | str:
    """Return the descriptors of a file and of all that it imports, or protoc's complaints."""
    try:
        return FileDescriptorSet.FromString(compile_files([path], [root]))
    except BadDescriptors as error:
        return str(error)


def _protoc(root: Path, arguments: Sequence[str]) -> str:
    """Run protoc. Returns its complaints, or an empty text."""
    paths = [f"--proto_path={path}" for path in (str(root), *googleapis_paths())]
    try:
        run = subprocess.run(  # noqa: S603 - our own interpreter; the names are those of files
            [sys.executable, "-P", "-m", "grpc_tools.protoc", *paths, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"  protoc did not finish in {_TIMEOUT:g} s"
    if run.returncode == 0:
        return ""
    lines = [line for line in run.stderr.splitlines() if line and ": warning: " not in line]
    return "\n".join(f"  {line}" for line in lines[:20]) or f"  protoc ended with {run.returncode}"


def _interface(root: Path, name: str, found: FileDescriptorSet) -> Interface:
    (file,) = (each for each in found.file if each.name == name)
    if not file.service:
        raise CommandFailed(f"{root / name} declares no service", exit_code=2)
    foreign = [each.name for each in found.file if not (root / each.name).is_file()]
    return Interface(
        root=root,
        file=name,
        own_files=tuple(each.name for each in found.file if each.name not in foreign),
        third_party=tuple(each for each in foreign if not each.startswith("google/protobuf/")),
        files={each.name: each for each in found.file},
        services=tuple(
            DeclaredService(service.name, _full(file.package, service.name), tuple(map(_method, service.method)))
            for service in file.service
        ),
        types=dict(_types(found)),
    )


def _method(method: MethodDescriptorProto) -> Method:
    return Method(
        name=method.name,
        request=method.input_type.removeprefix("."),
        reply=method.output_type.removeprefix("."),
        streams_requests=method.client_streaming,
        streams_replies=method.server_streaming,
    )


def _full(package: str, *names: str) -> str:
    return ".".join((*((package,) if package else ()), *names))


def _types(found: FileDescriptorSet) -> Iterator[tuple[str, DeclaredType]]:
    for file in found.file:
        for enum in file.enum_type:
            yield _full(file.package, enum.name), DeclaredType(file.name, (enum.name,), enum)
        for message in file.message_type:
            yield from _within(file, (), message)


def _within(
    file: FileDescriptorProto, around: tuple[str, ...], message: DescriptorProto
) -> Iterator[tuple[str, DeclaredType]]:
    path = (*around, message.name)
    yield _full(file.package, *path), DeclaredType(file.name, path, message)
    for enum in message.enum_type:
        yield _full(file.package, *path, enum.name), DeclaredType(file.name, (*path, enum.name), enum)
    for inner in message.nested_type:
        yield from _within(file, path, inner)


def required_fields(message: DeclaredType) -> list[FieldDescriptorProto]:
    """Return the fields without which the message cannot be sent (proto2)."""
    assert isinstance(message.descriptor, DescriptorProto)
    return [field for field in message.descriptor.field if field.label == FieldDescriptorProto.LABEL_REQUIRED]
