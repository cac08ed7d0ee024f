"""A folder of .proto in, a serialized FileDescriptorSet out.

protoc runs as a process of its own: inside ours it would write to our stderr, and it must not run twice at once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.services.errors import BadDescriptors

MAX_FILES = 10_000
MAX_COMPLAINTS = 20
"""Lines of protoc's output in an error's text."""
TIMEOUT = 120.0
"""Seconds that one compilation may take."""


def compile_folder(folder: Path) -> bytes:
    """The FileDescriptorSet of every .proto in a folder, imports and comments included. It blocks: run it in a thread.

    Imports are sought in the folder itself, then among those of protobuf and of googleapis-common-protos. Raises
    BadDescriptors.
    """
    sources = sorted(_sources(folder))
    if not sources:
        raise BadDescriptors(f"{folder} holds no .proto file")
    if len(sources) > MAX_FILES:
        raise BadDescriptors(f"{folder} holds more than {MAX_FILES} .proto files")
    with TemporaryDirectory(prefix="bridge-descriptors-") as scratch:
        output = Path(scratch, "set.binpb")
        # protoc takes arguments from a file, one a line: a large folder's would not fit on a command line.
        arguments = Path(scratch, "arguments")
        arguments.write_text(
            "\n".join(
                [
                    *(f"--proto_path={path}" for path in (folder, *_googleapis())),
                    f"--descriptor_set_out={output}",
                    "--include_imports",
                    "--include_source_info",
                    *map(str, sources),
                ]
            )
        )
        _run_protoc(arguments, folder)
        return output.read_bytes()


def _sources(folder: Path) -> Iterator[Path]:
    """Every .proto but those under a name with a leading dot: a mounted ConfigMap keeps its versions there."""
    for path in folder.rglob("*.proto"):
        inner = path.relative_to(folder)
        if not any(part.startswith(".") for part in inner.parts) and path.is_file():
            yield path


def _googleapis() -> list[str]:
    """Where `google/api` and `google/rpc` can be imported from, if they are installed."""
    try:
        spec = find_spec("google.api")
    except ModuleNotFoundError:
        return []
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [str(Path(location).parents[1]) for location in spec.submodule_search_locations]


def _run_protoc(arguments: Path, folder: Path) -> None:
    # -P: the working directory must not lend modules to the child.
    command = [sys.executable, "-P", "-m", "grpc_tools.protoc", f"@{arguments}"]
    try:
        run = subprocess.run(  # noqa: S603 - our own interpreter, with arguments we wrote
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadDescriptors(f"{folder}: protoc did not finish in {TIMEOUT:g} s") from error
    if run.returncode:
        raise BadDescriptors(f"{folder} does not compile:\n{_complaints(run.stderr, folder)}")


def _complaints(output: str, folder: Path) -> str:
    """The errors as `folder/file.proto:line:column: text`, without its warnings."""
    lines = [line for line in output.splitlines() if line and ": warning: " not in line]
    shown = [f"  {folder}/{line}" if _is_located(line) else f"  {line}" for line in lines]
    if len(shown) > MAX_COMPLAINTS:
        shown[MAX_COMPLAINTS:] = [f"  and {len(shown) - MAX_COMPLAINTS} more"]
    return "\n".join(shown)


def _is_located(line: str) -> bool:
    return ".proto:" in line and not line.startswith("/")
