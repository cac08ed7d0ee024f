"""`new`: creates a folder with a function that runs at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.commands.failure import CommandFailed
from bridge.commands.scaffold import go, node, python, rust
from bridge.commands.scaffold.interface import Interface, read_interface

LANGUAGES = {"python": python, "node": node, "go": go, "rust": rust}
"""What writes a function in each language."""

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
    language = LANGUAGES[chosen.language]
    _check_absent(folder, language.FILES)  # before tools run, which may take a while
    if chosen.proto:
        files = language.files_of(name, read_interface(chosen.proto), greets=False)
    else:
        with TemporaryDirectory(prefix="bridge-new-") as scratch:
            files = language.files_of(name, _greeter(name, Path(scratch)), greets=True)
    written = write_new(folder, files)
    print(f"{folder}/ has a function that answers gRPC calls:")
    for path in written:
        print(f"  {path}")
    print("\nNext:", *(f"  {step}" for step in (f"cd {folder}", *language.STEPS)), "README.md says more.", sep="\n")
    return 0


def _greeter(name: str, scratch: Path) -> Interface:
    """Return the interface of the example, whose service has the function's name."""
    package = name.replace("-", "_")
    service = "".join(part[:1].upper() + part[1:] for part in package.split("_"))
    proto = scratch / f"{package.lower()}.proto"
    proto.write_text(_GREETER.format(package=package.lower(), service=service))
    return read_interface(proto)


def write_new(folder: Path, files: dict[str, str]) -> list[str]:
    """Write files into a folder. Returns their paths in it, the ones for people first. Raises CommandFailed if one
    exists: nothing is written then. A .proto that is there already, with the same text, is left as it is.
    """
    files = {path: text for path, text in files.items() if not _is_same_proto(folder / path, text)}
    _check_absent(folder, files)
    made: list[Path] = []
    path = folder
    try:
        for name, text in files.items():
            path = folder / name
            _make_folder(path.parent, made)
            with path.open("x") as file:
                made.append(path)
                file.write(text)
    except OSError as error:
        for each in reversed(made):
            each.rmdir() if each.is_dir() else each.unlink()
        raise CommandFailed(f"{path}: {error.strerror}; nothing was written") from error
    return sorted(files, key=lambda name: ("_pb2" in name or name.startswith("gen/"), name))


def _check_absent(folder: Path, names: Collection[str]) -> None:
    there = [name for name in names if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        listed = ", ".join(str(folder / name) for name in sorted(there)[:5])
        more = f" and {len(there) - 5} more" if len(there) > 5 else ""
        raise CommandFailed(
            f"nothing was written, because files exist: {listed}{more}\nChoose another name, or move these files away"
        )


def _make_folder(folder: Path, made: list[Path]) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent, made)
        folder.mkdir()
        made.append(folder)


def _is_same_proto(path: Path, text: str) -> bool:
    return path.suffix == ".proto" and path.is_file() and path.read_text() == text
