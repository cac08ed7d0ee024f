"""Kinds of files that count, or do not, whatever `.gitignore` says."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

GENERATED = (
    "*_pb2*.py",
    "*_pb2*.pyi",
    "*_grpc.py",
    "*_connect.py",
    "*_pb.js",
    "*_pb.mjs",
    "*_pb.cjs",
    "*_connect.js",
    "*.pb.js",
    "*.pb.go",
    "*.pb.gw.go",
    "*.connect.go",
    "*_pb.rb",
)
"""Names of code that is made from .proto files by protoc, buf and their plugins. Authors often ignore it in git, and
functions cannot do without it."""

_CACHES = frozenset(
    {
        "__pycache__",
        ".cache",
        ".git",
        ".hg",
        ".hypothesis",
        ".idea",
        ".import_linter_cache",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".vscode",
    }
)
_LEAVINGS = ("*.py[cod]", "*.sw[a-p]", "*~", ".#*", ".DS_Store", "Thumbs.db", "desktop.ini")
"""Names of files that programs leave behind: bytecode, and the files of editors and file managers."""


def is_generated(name: str) -> bool:
    """Whether a file of this name holds generated code."""
    return any(fnmatchcase(name, pattern) for pattern in GENERATED)


def is_cache(name: str) -> bool:
    """Whether a folder of this name holds what programs keep for themselves: caches, history, settings of editors."""
    return name in _CACHES


def is_leftover(name: str) -> bool:
    """Whether a file of this name is bytecode, or what an editor or file manager leaves behind."""
    return any(fnmatchcase(name, pattern) for pattern in _LEAVINGS)


def is_virtual_environment(folder: Path) -> bool:
    """Whether a folder is a virtual environment, whatever its name: of venv and uv, or of conda."""
    return (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()
