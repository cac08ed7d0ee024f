"""A function that is a program: whether it can run on Lambda, and the `bootstrap` that starts it."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath

from bridge.packaging.contents import Contents, PackedFile
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.machine import Machine, machine_code_for
from bridge.packaging.recipe import Form, Recipe

BOOTSTRAP = "bootstrap"
_OTHERS_SHOWN = 3
_LIBRARIES = (".so", ".node", ".dylib", ".dll", ".pyd")
_SHELLS = frozenset({"sh", "bash"})
"""The programs on PATH that provided.al2023 has."""


def check_program(recipe: Recipe, contents: Contents) -> None:
    """Check the program that the command starts. Raises PackagingFailed."""
    program = recipe.command[0] if recipe.command else f"./{BOOTSTRAP}"
    if "/" not in program:
        if recipe.form is Form.ZIP and program not in _SHELLS:
            raise PackagingFailed(
                f"{recipe.name} starts {program}, which AWS's runtime for programs (provided.al2023) does not have: put"
                " the program into the function's folder, or make an image (--image)"
            )
        return
    path = str(PurePosixPath(program))
    if PurePosixPath(program).is_absolute():
        raise PackagingFailed(
            f"{recipe.name} starts {program}, which is not in its folder: name it with a relative path"
        )
    if path not in contents:
        hint = "; cargo lambda build, or GOOS=linux go build, makes it" if path == BOOTSTRAP else ""
        raise PackagingFailed(f"{recipe.folder} has no {path}, the program that {recipe.name} starts{hint}")
    file = contents[path]
    if not file.is_program:
        raise PackagingFailed(f"{file.source} is not executable: chmod +x {file.source}")
    made_for = machine_code_for(file.source)
    if made_for is not None and made_for != recipe.machine.linux:
        raise PackagingFailed(
            f"{file.source} is a program for {made_for}, and the function runs on Linux for {recipe.machine.value}:"
            " build it for that, or choose another --arch"
        )


def program_file(recipe: Recipe) -> dict[str, PackedFile]:
    """Return the program that the command starts, by its path in the package. What a compiler has made is packed
    although git ignores it. None if it is not in the function's folder.
    """
    program = recipe.command[0] if recipe.command else f"./{BOOTSTRAP}"
    path = PurePosixPath(program)
    real = (recipe.folder / path).resolve()
    if "/" not in program or path.is_absolute() or not real.is_relative_to(recipe.folder.resolve()):
        return {}
    if not real.is_file():
        return {}
    status = real.stat()
    return {str(path): PackedFile(real, status.st_size, bool(status.st_mode & 0o111))}


def bootstrap_for(recipe: Recipe, contents: Contents, scratch: Path) -> dict[str, PackedFile]:
    """Return the `bootstrap` of a zip, which Lambda starts, unless the command is one."""
    if recipe.form is Form.IMAGE or recipe.command in ((), (f"./{BOOTSTRAP}",), (BOOTSTRAP,)):
        return {}
    if BOOTSTRAP in contents:
        raise PackagingFailed(
            f"{recipe.folder} has a {BOOTSTRAP}, which Lambda starts, and the command is another one:"
            f" {shlex.join(recipe.command)}. Rename it, or make it the command"
        )
    made = scratch / BOOTSTRAP
    made.write_text(f'#!/bin/sh\ncd "$LAMBDA_TASK_ROOT"\nexec {shlex.join(recipe.command)}\n')
    return {BOOTSTRAP: PackedFile(made, made.stat().st_size, is_program=True)}


def other_machine_code(contents: Contents, machine: Machine) -> list[str]:
    """Return libraries and programs in the package that are not for the function's machine."""
    found = []
    for path, file in contents.items():
        name = PurePosixPath(path).name
        if (file.is_program or name.endswith(_LIBRARIES) or ".so." in name) and "/prebuilds/" not in f"/{path}":
            made_for = machine_code_for(file.source)
            if made_for is not None and made_for != machine.linux:
                found.append(f"{path} ({made_for})")
    return found


def note_on_other_machines(others: list[str], machine: Machine) -> str:
    shown = ", ".join(others[:_OTHERS_SHOWN])
    more = f" and {len(others) - _OTHERS_SHOWN} more" if len(others) > _OTHERS_SHOWN else ""
    return f"these files are not for {machine.value}: {shown}{more}"
