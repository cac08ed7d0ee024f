"""A folder of .proto in, a serialized FileDescriptorSet out.

Only the files that declare wanted services are compiled, with all that they import: a folder may be a company's whole
tree. protoc runs as a process of its own: inside ours it would write to our stderr, and it must not run twice at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.services.errors import BadDescriptors

MAX_FILES = 50_000
MAX_FILE_SIZE = 16 << 20
"""Bytes of one .proto file that are searched for services."""
MAX_COMPLAINTS = 20
"""Lines of protoc's output in an error's text."""
_TIMEOUT = 120.0
"""Seconds that one compilation may take."""

IsWanted = Callable[[str], bool]
"""Says of a service's full name whether it must be described."""

_COMMENT_OR_STRING = re.compile(
    rb"""//[^\n]* | /\*.*?\*/ | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.DOTALL | re.VERBOSE
)
_PACKAGE = re.compile(rb"\bpackage\s+([\w.\s]+?)\s*;")
_SERVICE = re.compile(rb"\bservice\s+(\w+)\s*\{")
_MAY_DECLARE = re.compile(rb"service(?:\s*/[/*]|\s+\w+\s*[{/])").search
"""Whether it is worth to look closer: most files of a large tree declare no service."""


def compile_folder(folder: Path, *, is_wanted: IsWanted | None = None) -> bytes:
    """Return the FileDescriptorSet of a folder's .proto files, imports and comments included. It blocks: run it in a
    thread.

    `is_wanted`: only the files that declare such a service, and what they import; None: every file. Imports are sought
    in the folder itself, then among those of protobuf and of googleapis-common-protos. Raises BadDescriptors.
    """
    sources = sorted(proto_files(folder))
    if not sources:
        raise BadDescriptors(f"{folder} holds no .proto file")
    if len(sources) > MAX_FILES:
        raise BadDescriptors(f"{folder} holds more than {MAX_FILES} .proto files")
    if is_wanted is not None:
        sources = _declaring(sources, is_wanted, folder)
    return _compile(folder, sources)


def _declaring(sources: Collection[Path], is_wanted: IsWanted, folder: Path) -> list[Path]:
    """Return the files that declare a wanted service. Raises BadDescriptors if none does."""
    declared = {path: services_in(_text_of(path)) for path in sources}
    wanted = [path for path, names in declared.items() if any(map(is_wanted, names))]
    if wanted:
        return wanted
    names = sorted({name for names in declared.values() for name in names})
    raise NoWantedService(folder, names)


class NoWantedService(BadDescriptors):
    """A folder in which no file declares a service that is routed to it."""

    def __init__(self, folder: Path, declared: Collection[str]) -> None:
        super().__init__(f"no .proto file in {folder} declares a service of this entry")
        self.declared = declared


def _text_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_SIZE)
    except OSError:
        return b""  # protoc will say why, if a wanted file imports it


def services_in(text: bytes) -> list[str]:
    """Return the full names of the services that a .proto file declares, as far as a look at its words can tell."""
    if not _MAY_DECLARE(text):
        return []
    words = _COMMENT_OR_STRING.sub(b" ", text)
    package = _PACKAGE.search(words)
    prefix = "" if package is None else _ascii(b"".join(package[1].split())) + "."
    return [prefix + _ascii(name) for name in _SERVICE.findall(words)]


def _ascii(name: bytes) -> str:
    return name.decode("ascii", "replace")


def compile_files(files: Collection[Path], import_paths: Collection[Path] = ()) -> bytes:
    """Return the FileDescriptorSet of these .proto files, imports and comments included. It blocks.

    A file and its imports are sought in `import_paths`, or else in the working directory. A file that is in none of
    these folders brings its own. Raises BadDescriptors.
    """
    roots = [path.absolute() for path in import_paths or (Path(),)]
    sources = [_existing(file, roots) for file in files]
    for source in sources:
        if not any(source.is_relative_to(root) for root in roots):
            roots.append(source.parent)
    return _run_protoc(roots, sources, name=", ".join(map(str, files)))


def _existing(file: Path, roots: Collection[Path]) -> Path:
    for path in (file.absolute(), *(root / file for root in roots)):
        if path.is_file():
            return path
    raise BadDescriptors(f"{file}: no such file")


def _compile(folder: Path, sources: Collection[Path]) -> bytes:
    return _run_protoc((folder,), sources, name=str(folder), prefix=f"{folder}/")


def proto_files(folder: Path) -> Iterator[Path]:
    """Yield every .proto but those under a name with a leading dot: a mounted ConfigMap keeps its versions there."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(place, name)
            if name.endswith(".proto") and not name.startswith(".") and path.is_file():
                yield path


def googleapis_paths() -> list[str]:
    """Where google/api, google/rpc, google/type and google/longrunning are imported from, as protoc's --proto_path."""
    spec = find_spec("google.api")  # of googleapis-common-protos
    assert spec is not None
    assert spec.submodule_search_locations is not None
    roots = [Path(location).parents[1] for location in spec.submodule_search_locations]
    # The package keeps this one file under a name of its own.
    operations = "google/longrunning/operations{}.proto".format
    renamed = [f"{operations('')}={root / operations('_proto')}" for root in roots]
    return [*map(str, roots), *renamed]


def _run_protoc(roots: Collection[Path], sources: Collection[Path], *, name: str, prefix: str = "") -> bytes:
    """`name` stands for the sources in messages. `prefix` is put before the names that protoc reports."""
    with TemporaryDirectory(prefix="bridge-descriptors-") as scratch:
        output = Path(scratch, "set.binpb")
        # protoc takes arguments from a file, one a line: a large folder's would not fit on a command line.
        arguments = Path(scratch, "arguments")
        arguments.write_text(
            "\n".join(
                [
                    *(f"--proto_path={path}" for path in (*roots, *googleapis_paths())),
                    f"--descriptor_set_out={output}",
                    "--include_imports",
                    "--include_source_info",
                    *map(str, sources),
                ]
            )
        )
        # -P: the working directory must not lend modules to the child.
        command = [sys.executable, "-P", "-m", "grpc_tools.protoc", f"@{arguments}"]
        try:
            run = subprocess.run(  # noqa: S603 - our own interpreter, with arguments we wrote
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BadDescriptors(f"{name}: protoc did not finish in {_TIMEOUT:g} s") from error
        if run.returncode:
            raise BadDescriptors(f"{name} does not compile:\n{_complaints(run.stderr, prefix)}")
        return output.read_bytes()


def _complaints(output: str, prefix: str) -> str:
    """Return the errors as `folder/file.proto:line:column: text`, without its warnings."""
    lines = [line for line in output.splitlines() if line and ": warning: " not in line]
    shown = [f"  {prefix}{line}" if _is_located(line) else f"  {line}" for line in lines]
    if len(shown) > MAX_COMPLAINTS:
        shown[MAX_COMPLAINTS:] = [f"  and {len(shown) - MAX_COMPLAINTS} more"]
    return "\n".join(shown)


def _is_located(line: str) -> bool:
    return ".proto:" in line and not line.startswith("/")
