"""The dependencies of a function in Node.js, in a folder of their own.

With a `package-lock.json` npm fetches them anew, for the machine of the function and without those for development.
Else the `node_modules` of the folder is taken as it is. No script of a package runs: it would build for this machine.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.packaging.contents import PackedFile
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.machine import Machine
from bridge.packaging.own_files import NODE_MODULES, find_installed_files
from bridge.packaging.running import run_program

_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_FOR_NPM = ("package.json", *_LOCKS, ".npmrc")
_MAX_JSON = 64 << 20


def node_files(folder: Path, machine: Machine, scratch: Path) -> tuple[dict[str, PackedFile], tuple[str, ...]]:
    """Return the files of `node_modules`, by path in the package, and the dependencies with their versions.

    `scratch`: an empty folder for what npm writes. Raises PackagingFailed.
    """
    package = folder / "package.json"
    needed = _json(package).get("dependencies") if package.is_file() else None
    if not needed:
        return {}, ()
    modules = folder / NODE_MODULES
    if any((folder / lock).is_file() for lock in _LOCKS):
        modules = _fetch(folder, machine, scratch)
    elif not modules.is_dir():
        raise PackagingFailed(
            f"{package} has dependencies, and neither a package-lock.json nor a node_modules is next to it: run"
            " `npm install`"
        )
    elif not modules.resolve().is_relative_to(folder.resolve()):
        raise PackagingFailed(f"{modules} is a link out of the function's folder: run `npm install` there")
    elif (modules / ".pnpm").is_dir():
        raise PackagingFailed(
            f"{modules} is made of links, as pnpm makes it: run `pnpm install --config.node-linker=hoisted`, which"
            " makes folders"
        )
    _refuse_what_needs_building(modules, machine)
    found = find_installed_files(modules, exclude=[".bin"])
    files = {f"{NODE_MODULES}/{path}": file for path, file in found.items()}
    return files, tuple(sorted(_versions_in(modules)))


def _fetch(folder: Path, machine: Machine, scratch: Path) -> Path:
    """Let npm fetch what is locked. Returns the `node_modules`."""
    npm = shutil.which("npm")
    if npm is None:
        raise PackagingFailed("npm fetches the dependencies of functions in Node.js. It is not on PATH: install it")
    for name in _FOR_NPM:
        if (folder / name).is_file():
            shutil.copy(folder / name, scratch / name)
    words = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--install-links", "--loglevel=error"]
    target = ["--os=linux", f"--cpu={machine.node}", "--libc=glibc"]
    try:
        ended = run_program([npm, *words, *target], folder=scratch, environment=os.environ)
    except OSError as error:
        raise PackagingFailed(f"{npm}: {error.strerror}") from error
    if ended.exit_code != 0:
        said = "\n".join(f"  {line}" for line in ended.errors.splitlines() if "complete log" not in line)
        raise PackagingFailed(f"npm could not fetch the dependencies of {folder / 'package.json'}:\n{said}")
    modules = scratch / NODE_MODULES
    modules.mkdir(exist_ok=True)  # npm makes no folder if everything is for development
    # The list of what is installed, for npm alone.
    (modules / ".package-lock.json").unlink(missing_ok=True)
    return modules


def _refuse_what_needs_building(modules: Path, machine: Machine) -> None:
    """Refuse packages in C++ that bring nothing built for the machine."""
    built_for = f"linux-{machine.node}"
    for recipe in sorted(modules.rglob("binding.gyp")):
        package = recipe.parent
        has_built = any(package.glob("build/Release/*.node")) or any(package.glob("prebuilds/*"))
        is_built = any(built_for in each.name for each in package.glob("prebuilds/*")) or any(
            package.glob("build/Release/*.node")
        )
        if not is_built:
            why = f"brings nothing for {built_for}" if has_built else "is built when it is installed"
            raise PackagingFailed(
                f"{package.relative_to(modules)} is a package in C++ that {why}. Nothing is built here for another"
                " machine: choose a package that brings what is built, or install it on such a machine, without a"
                " package-lock.json next to node_modules"
            )


def _versions_in(modules: Path) -> Iterator[str]:
    for found in (*modules.glob("*/package.json"), *modules.glob("@*/*/package.json")):
        package = _json(found)
        if isinstance(package.get("version"), str):
            yield f"{found.parent.relative_to(modules).as_posix()}@{package['version']}"


def _json(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.read(_MAX_JSON))
    except (OSError, ValueError) as error:
        raise PackagingFailed(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    return found if isinstance(found, dict) else {}
