"""From a path to a Config: the file read, variables and flags laid over it, every problem of it reported together.

Values come from a flag, a BRIDGE_ variable, the file, or the default, in that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from bridge.config.element import MAX_FILE, Document, Element, compose
from bridge.config.problems import ConfigErrors, Place, Problem, Refused
from bridge.config.schema import Config
from bridge.config.sections import read_config

FILE_NAME = "bridge.yaml"

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "BRIDGE_LISTEN": "listen",
        "BRIDGE_ADMIN": "admin",
        "BRIDGE_WORKERS": "workers",
        "BRIDGE_LOG_LEVEL": "log.level",
        "BRIDGE_LOG_FORMAT": "log.format",
    }
)
"""The keys that a variable may set; empty ones count as unset. BRIDGE_CONFIG names the file."""

_EXAMPLE = """\
    services:
      helloworld.Greeter: arn:aws:lambda:eu-west-1:123456789012:function:greeter
"""


def find_config(flag: str | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the file of `-c`, else of BRIDGE_CONFIG, else ./bridge.yaml if it is there. Raises ConfigErrors."""
    named = flag or environ.get("BRIDGE_CONFIG")
    if named:
        return Path(named)
    if (cwd / FILE_NAME).exists():
        return Path(FILE_NAME)
    message = f"not found; name a file with -c or BRIDGE_CONFIG, or write one, for example:\n\n{_EXAMPLE}"
    raise ConfigErrors([Problem(f"./{FILE_NAME}", None, "", message)])


def load(
    path: Path,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, str] | None = None,
) -> Config:
    """Read and check a file. `overrides` are the flags: texts by key, such as `log.level`.

    Raises ConfigErrors with all problems; reads no more than MAX_FILE bytes of the file, and
    looks whether the files that it names are there.
    """
    text = _read(path)
    # Not path.parent alone: what a relative path means must not change with the working directory.
    folder = path.parent.absolute()
    return parse(
        text,
        file=str(path),
        folder=folder,
        environ=environ,
        overrides=overrides,
    )


def parse(
    text: str,
    *,
    file: str,
    folder: Path,
    environ: Mapping[str, str],
    overrides: Mapping[str, str] | None = None,
) -> Config:
    """`load` for the text of a file: `file` is its name in messages, `folder` where it stands."""
    document = Document(file, folder, environ)
    root = compose(text, document)
    document.overrides = _overrides(document, environ, overrides or {})
    try:
        config = read_config(root, environ)
    except Refused as refused:  # not even its outermost mapping can be read
        document.note(refused)
    if document.problems:
        raise ConfigErrors(document.problems, named_files=document.named_files)
    return replace(
        config,
        filled=frozenset(document.filled),
        secrets=frozenset(document.secrets),
        named_files=frozenset(document.named_files),
    )


def _overrides(document: Document, environ: Mapping[str, str], flags: Mapping[str, str]) -> dict[str, Element]:
    """Return what stands in the place of the file's values. Paths in it are relative to the working directory."""
    found = {}
    for name, key in VARIABLES.items():
        if environ.get(name):
            found[key] = (name, environ[name])
    for key, text in flags.items():
        found[key] = (f"--{key.replace('.', '-').replace('_', '-')}", text)
    here = Path().absolute()
    return {
        key: Element.of_text(text, Place(name), document.literal(name, here)) for key, (name, text) in found.items()
    }


def _read(path: Path) -> str:
    def refused(message: str, line: int | None = None) -> ConfigErrors:
        return ConfigErrors([Problem(str(path), line, "", message)])

    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except FileNotFoundError as error:
        raise refused("no such file") from error
    except IsADirectoryError as error:
        raise refused("a folder, not a file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise refused(f"cannot be read: {reason}") from error
    if len(content) > MAX_FILE:
        raise refused(f"larger than {MAX_FILE >> 20}MiB, which no configuration is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refused(f"not UTF-8 text: byte 0x{content[error.start]:02x}", line) from error
