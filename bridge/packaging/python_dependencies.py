"""The dependencies of a function in Python, in a folder of their own: from uv.lock, requirements.txt or pyproject.toml.

`lambda_fn` comes from this bridge, so that a function meets on Lambda what it met in the local Lambda, and so that no
index needs to have it. A requirement of another version, `grpc-lambda-fn==1.2.3`, is fetched as it says.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bridge.packaging.contents import Contents
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.recipe import Form, Recipe
from bridge.packaging.uv import Platform, Uv

LAMBDA_FN = "grpc-lambda-fn"
_ONLY_FOR_BUILDING = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
_imports_lambda_fn = re.compile(rb"^[ \t]*(?:from|import)[ \t]+lambda_fn\b", re.MULTILINE).search
_names_lambda_fn = re.compile(r"(?im)^[ \t]*grpc[-_.]lambda[-_.]fn\b(?P<rest>[^#\n]*)").search
_pinned = re.compile(r"^[ \t]*(?:\[[^\]]*\][ \t]*)?==[ \t]*(?P<version>[\w.+!]+)").match
_local_project = re.compile(r"^[ \t]*(?:-e[ \t=]|--editable[ \t=]|file:|\.{0,2}/|\.{1,2}[ \t]*$).*$", re.MULTILINE)
_built_here = re.compile(r"^Tag: \S+-linux_\w+$", re.MULTILINE).search
_MAX_SOURCE = 4 << 20
_NOT_BUILT = (
    "which would have to be built here. Packages are made of wheels: build it where the function runs, or anywhere if"
    " it has no machine code (`uv build --wheel`), and name the wheel's file"
)

_NOT_RUN = ("*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c", "*.h", "*.pyc")
_RECORDS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""What an installer writes about itself, with paths of this machine and hashes of what is left out here."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Dependencies in a folder, and what they are."""

    versions: tuple[str, ...] = ()
    """`name==version` of each that uv fetched."""
    lambda_fn: str | None = None
    """The version of `lambda_fn` that came from this bridge."""


def fetch_python_dependencies(recipe: Recipe, own: Contents, into: Path, scratch: Path) -> Dependencies:
    """Put the dependencies into an empty folder. `scratch`: a folder for our own files. Raises PackagingFailed."""
    found = _requirements(recipe, scratch)
    named = _names_lambda_fn(found.text)
    needs_ours = named is not None or recipe.form is Form.IMAGE or _any_imports_lambda_fn(own)
    if any(path.startswith("lambda_fn/") for path in own):
        needs_ours = False  # the function brings its own
    elif named is not None and (pin := _pinned(named["rest"])) and pin["version"] != recipe.ours.version:
        needs_ours = False
    wanted: list[Path | str] = list(found.files)
    overrides = None
    if needs_ours:
        wanted += _needs_of_lambda_fn(recipe)
        # uv takes a requirement with such a marker for one of another system, and so leaves it out.
        overrides = scratch / "overrides.txt"
        overrides.write_text(f"{LAMBDA_FN} ; sys_platform == 'none'\n")
    if wanted:
        Uv.find().install(
            wanted,
            into,
            folder=recipe.folder,
            platform=Platform(recipe.python, recipe.machine),
            interpreter=sys.executable,
            overrides=overrides,
        )
    _refuse_what_was_built(into)
    versions = tuple(sorted(_versions_in(into)))
    strip(into)
    if needs_ours:
        _copy_lambda_fn(recipe.ours.lambda_fn, into / "lambda_fn")
    return Dependencies(versions, recipe.ours.version if needs_ours else None)


# -- what is required --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Requirements:
    files: tuple[Path, ...] = ()
    text: str = ""


def _requirements(recipe: Recipe, scratch: Path) -> _Requirements:
    """Find what names the dependencies. A lock goes before what was locked."""
    if recipe.requirements is not None:
        return _named(recipe.requirements, scratch)
    for name in ("uv.lock", "requirements.txt", "pyproject.toml"):
        file = recipe.folder / name
        if file.is_file():
            return _named(file, scratch)
    return _Requirements()


def _named(file: Path, scratch: Path) -> _Requirements:
    if file.name == "uv.lock":
        text = Uv.find().export(file.parent)
        exported = scratch / "requirements.txt"
        exported.write_text(text)
        _refuse_local_projects(file, text)
        return _Requirements((exported,), text)
    text = _read(file)
    if file.name == "pyproject.toml":
        project = _project_in(file, text)
        if "dependencies" in project.get("dynamic", ()):
            raise PackagingFailed(
                f"{file}: its dependencies are dynamic, and nothing is built here. Lock them with `uv lock`, or name"
                " them in a requirements.txt"
            )
        names = project.get("dependencies", [])
        return _Requirements((file,), "\n".join(names)) if names else _Requirements()
    _refuse_local_projects(file, text)
    return _Requirements((file,), text)


def _refuse_local_projects(file: Path, text: str) -> None:
    """Raise PackagingFailed for requirements that are folders: uv would build them here."""
    for found in _local_project.finditer(text):
        line = found[0].strip()
        if not line.partition(" ")[0].endswith(".whl"):
            raise PackagingFailed(f"{file} names {line}, {_NOT_BUILT}")


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PackagingFailed(f"{file}: {getattr(error, 'strerror', None) or error}") from error


def _project_in(file: Path, text: str) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = tomllib.loads(text).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise PackagingFailed(f"{file} is not TOML: {error}") from error
    return found


# -- lambda_fn ---------------------------------------------------------------------------------------------------------


def _any_imports_lambda_fn(own: Contents) -> bool:
    for path, file in own.items():
        if path.endswith(".py") and file.size <= _MAX_SOURCE and _imports_lambda_fn(file.source.read_bytes()):
            return True
    return False


def _needs_of_lambda_fn(recipe: Recipe) -> list[str]:
    """Return what `lambda_fn` requires, from the metadata in its folder."""
    file = recipe.ours.lambda_fn / "pyproject.toml"
    return list(_project_in(file, _read(file))["dependencies"])


def _copy_lambda_fn(source: Path, into: Path) -> None:
    shutil.copytree(source, into, ignore=shutil.ignore_patterns("__pycache__", *_ONLY_FOR_BUILDING))
    strip(into)


# -- what is installed -------------------------------------------------------------------------------------------------


def _refuse_what_was_built(folder: Path) -> None:
    """Raise PackagingFailed for a package that was built on this machine, now or before: uv keeps such wheels."""
    for info in sorted(folder.glob("*.dist-info")):
        origin_file = info / "direct_url.json"
        origin = json.loads(_read(origin_file)) if origin_file.is_file() else None
        if origin is None:
            # An index has no wheels for `linux_x86_64`, which may need any library of the machine that built them.
            is_built = _built_here(_read(info / "WHEEL")) is not None
        else:
            is_built = "archive_info" not in origin or not str(origin.get("url", "")).endswith(".whl")
        if is_built:
            name = info.name.removesuffix(".dist-info").partition("-")[0].replace("_", "-")
            where = f" ({origin['url']})" if origin else ""
            raise PackagingFailed(f"the dependencies have {name}{where}, {_NOT_BUILT}")


def _versions_in(folder: Path) -> Iterable[str]:
    for info in folder.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        yield f"{name.replace('_', '-')}=={version}"


def strip(folder: Path) -> None:
    """Remove from installed wheels what no call needs: programs, stubs, sources of extensions, an installer's notes."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)
    for pattern in _NOT_RUN:
        for file in folder.rglob(pattern):
            file.unlink()
    for name in _RECORDS:
        for file in folder.glob(f"*.dist-info/{name}"):
            file.unlink()
