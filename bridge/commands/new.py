"""`new`: creates a folder with a function that runs at once."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.commands.failure import CommandFailed
from bridge.commands.scaffold import python
from bridge.commands.scaffold.interface import Interface, read_interface

_is_name = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}").fullmatch
"""A function's name on Lambda that is also a package of a .proto, once its dashes are underscores."""

_GREETER = """\
syntax = "proto3";

package {package};

service {service} {{
  rpc SayHello(HelloRequest) returns (HelloReply);
}}

message HelloRequest {{
  string name = 1;
}}

message HelloReply {{
  string message = 1;
}}
"""


def new(chosen: argparse.Namespace) -> int:
    """Write the folder, and print what it has and what to do next. Returns 0. Raises CommandFailed."""
    folder: Path = chosen.name
    name = folder.name
    if not _is_name(name):
        raise CommandFailed(
            f"{name!r} cannot name a function: use up to 64 letters, digits, - and _, a letter first", exit_code=2
        )
    files = _of_proto(name, chosen.proto) if chosen.proto else _greeter(name)
    written = write_new(folder, files)
    print(f"{folder}/ has a function that answers gRPC calls:")
    for path in written:
        print(f"  {path}")
    print(
        f"\nNext:\n  cd {folder}\n  python -m pip install -r requirements-dev.txt\n  python -m pytest\n"
        "  grpc-lambda-bridge serve\nREADME.md says more."
    )
    return 0


def _greeter(name: str) -> dict[str, str]:
    package = name.replace("-", "_")
    service = "".join(part[:1].upper() + part[1:] for part in package.split("_"))
    with TemporaryDirectory(prefix="bridge-new-") as scratch:
        proto = Path(scratch, f"{package.lower()}.proto")
        proto.write_text(_GREETER.format(package=package.lower(), service=service))
        return python.files_of(name, read_interface(proto), greets=True)


def _of_proto(name: str, proto: Path) -> dict[str, str]:
    interface: Interface = read_interface(proto)
    return python.files_of(name, interface, greets=False)


def write_new(folder: Path, files: dict[str, str]) -> list[str]:
    """Write files into a folder. Returns their paths in it, the ones for people first. Raises CommandFailed if one
    exists: nothing is written then. A .proto that is there already, with the same text, is left as it is.
    """
    files = {path: text for path, text in files.items() if not _is_same_proto(folder / path, text)}
    there = [path for path in files if (folder / path).exists() or (folder / path).is_symlink()]
    if there:
        listed = ", ".join(str(folder / path) for path in sorted(there)[:5])
        more = f" and {len(there) - 5} more" if len(there) > 5 else ""
        raise CommandFailed(f"nothing was written, because files exist: {listed}{more}")
    for path, text in files.items():
        try:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x") as file:
                file.write(text)
        except OSError as error:
            raise CommandFailed(f"{folder / path}: {error.strerror}") from error
    return sorted(files, key=lambda path: ("_pb2" in path, path))


def _is_same_proto(path: Path, text: str) -> bool:
    return path.suffix == ".proto" and path.is_file() and path.read_text() == text
