"""What is to be made: all that the making of a package must know about a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from bridge.packaging.machine import Machine

MIB = 1 << 20

MAX_UNZIPPED = 250 * MIB
"""Bytes of a zip, unzipped, that Lambda takes: 262,144,000 with its layers (Lambda quotas, "Deployment package")."""
MAX_DIRECT_UPLOAD = 50 * MIB
"""Bytes of a zip that Lambda's API takes itself. A larger zip goes through S3 (the same page)."""

PythonVersion = tuple[int, int]

PYTHONS: tuple[PythonVersion, ...] = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14), (3, 15))
"""Those of AWS's managed runtimes that `lambda_fn` runs on."""


class Language(Enum):
    """What runs the function's code."""

    PYTHON = "python"
    NODE = "node"
    PROGRAM = "program"
    """A program of its own, which speaks the Runtime API."""


class Form(Enum):
    ZIP = "zip"
    IMAGE = "image"
    """A folder with a Dockerfile."""


@dataclass(frozen=True, slots=True)
class FunctionSide:
    """The parts of this bridge that go into packages."""

    lambda_fn: Path
    """The folder that is the package `lambda_fn`."""
    version: str
    node_runtime: Path
    """The folder with the scripts that run a handler in Node.js."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A function, and the package that is wanted of it."""

    name: str
    folder: Path
    """Absolute: what becomes /var/task."""
    language: Language
    form: Form
    machine: Machine
    python: PythonVersion
    """The version that runs the function. It has a meaning for functions in Python alone."""
    out: Path
    """Absolute: the file or folder to make."""
    ours: FunctionSide
    handler: str | None = None
    """`module.attribute`. None: it is not known, so nothing is imported."""
    is_web: bool = False
    """Whether it is a Web Function: a server whose start is the whole program."""
    command: tuple[str, ...] = ()
    """The program and its arguments, of a function that is a program."""
    interpreter: str | None = None
    """The Python that runs the function locally. None: the bridge's own."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the handler's module finds in its environment; it may hold secrets."""
    include: tuple[str, ...] = ()
    """Patterns of files that are taken although they are ignored."""
    exclude: tuple[str, ...] = ()
    """Patterns of files that are not taken."""
    requirements: Path | None = None
    """The file that names the dependencies. None: it is looked for in the folder."""
    without: frozenset[Path] = frozenset()
    """Absolute paths of files that belong to the bridge, such as its configuration."""
    is_checked: bool = True
    """Whether the handler is imported from the finished package."""

    @property
    def runtime(self) -> str:
        """What AWS calls the runtime of the zip. The version of Node.js is for the author to choose."""
        match self.language:
            case Language.PYTHON:
                return "python{}.{}".format(*self.python)
            case Language.NODE:
                return "nodejs"
            case Language.PROGRAM:
                return "provided.al2023"


@dataclass(frozen=True, slots=True)
class Built:
    """What was made."""

    path: Path
    unzipped: int
    """Bytes of all files in it."""
    files: int
    packed: int | None
    """Bytes of the zip; None for an image's folder."""
    sha256: str | None
    """Of the zip, in base64, as Lambda's API tells it (CodeSha256)."""
    largest: tuple[tuple[str, int], ...]
    """The largest folders with their bytes, the largest first."""
    dependencies: tuple[str, ...]
    """Each with its version."""
    checked: str | None
    """What was checked by running it."""
    notes: tuple[str, ...]
    """What the author should know: what was not checked, and what may surprise."""
