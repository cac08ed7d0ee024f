"""Makes a package, step by step: what is in it, whether it is not too large, its file, and the look at it."""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

from bridge.packaging.archive import partial_file, sha256_of, unpack, write_zip
from bridge.packaging.bytecode import compile_contents
from bridge.packaging.contents import Contents, PackedFile, files_below, largest_folders, total_size
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.handler_check import Checked, HandlerCheck
from bridge.packaging.image import partial_folder, refuse_other_folder, replace_folder, write_image
from bridge.packaging.interpreter import Interpreter, find_interpreter
from bridge.packaging.node_dependencies import node_files
from bridge.packaging.own_files import OwnFiles, find_own_files
from bridge.packaging.programs import (
    bootstrap_for,
    check_program,
    note_on_other_machines,
    other_machine_code,
    program_file,
)
from bridge.packaging.progress import Progress
from bridge.packaging.python_dependencies import fetch_python_dependencies
from bridge.packaging.recipe import MAX_DIRECT_UPLOAD, MAX_UNZIPPED, MIB, Built, Form, Language, Recipe

WRAPPER = "lambda_fn_wrapper"
_WRAPPER_FILE = Path(__file__).with_name(WRAPPER)
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Other names of processors, as macOS has them."""


def build(recipe: Recipe, progress: Progress) -> Built:
    """Make the package. Raises PackagingFailed: then there is nothing new, and a former package is as it was."""
    try:
        with tempfile.TemporaryDirectory(prefix="grpc-lambda-bridge-package-", ignore_cleanup_errors=True) as scratch:
            return _Build(recipe, progress, Path(scratch)).run()
    except OSError as error:
        where = error.filename or recipe.out
        raise PackagingFailed(f"{where}: {error.strerror or error}. Nothing was changed") from error


class _Build:
    def __init__(self, recipe: Recipe, progress: Progress, scratch: Path) -> None:
        self._recipe = recipe
        self._progress = progress
        self._scratch = scratch
        self._notes: list[str] = []
        self._versions: tuple[str, ...] = ()
        self._interpreter: Interpreter | None = None

    def run(self) -> Built:
        recipe = self._recipe
        self._refuse_place()
        if recipe.form is Form.IMAGE and (
            recipe.is_web or (recipe.language is not Language.PROGRAM and not recipe.handler)
        ):
            why = "a Web Function takes no image" if recipe.is_web else "an image names its handler: add --handler NAME"
            raise PackagingFailed(f"{recipe.name}: {why}")
        self._progress.begin("looking for files")
        own = self._own_files()
        self._refuse_too_large(own.files, "the function's own files")
        contents = self._with_dependencies(own)
        self._refuse_too_large(contents, "the package")
        contents = dict(sorted(contents.items()))
        if others := other_machine_code(contents, recipe.machine):
            self._notes.append(note_on_other_machines(others, recipe.machine))
        if recipe.form is Form.ZIP:
            return self._zip(contents, own)
        return self._image(contents, own)

    def _folder(self, name: str) -> Path:
        folder = self._scratch / name
        folder.mkdir()
        return folder

    def _refuse_place(self) -> None:
        out = self._recipe.out
        if self._recipe.form is Form.IMAGE:
            refuse_other_folder(out)
        elif out.exists() and not out.is_file():
            raise PackagingFailed(f"{out} is no file: name another one with --into")
        if self._recipe.folder.resolve().is_relative_to(out.resolve()):
            raise PackagingFailed(f"{out} holds the function's own folder: name another place with --into")

    # -- what is in it --

    def _own_files(self) -> OwnFiles:
        recipe = self._recipe
        own = find_own_files(
            recipe.folder,
            include=recipe.include,
            exclude=recipe.exclude,
            without=recipe.without | {recipe.out},
            has_node_modules=recipe.language is Language.NODE,
        )
        self._notes += own.notes
        if not own.files and recipe.language is not Language.PROGRAM:
            raise PackagingFailed(f"{recipe.folder} has no file that can be packed")
        return own

    def _with_dependencies(self, own: OwnFiles) -> Contents:
        recipe = self._recipe
        match recipe.language:
            case Language.PYTHON:
                self._progress.begin("fetching dependencies")
                return self._with_wheels(own)
            case Language.NODE:
                self._progress.begin("fetching dependencies")
                modules, self._versions = node_files(recipe.folder, recipe.machine, self._folder("npm"))
                return {**modules, **own.files}
            case Language.PROGRAM:
                contents = {**own.files, **program_file(recipe)}
                check_program(recipe, contents)
                return {**contents, **bootstrap_for(recipe, contents, self._folder("bootstrap"))}

    def _with_wheels(self, own: OwnFiles) -> Contents:
        recipe = self._recipe
        wheels = self._folder("wheels")
        found = fetch_python_dependencies(recipe, own.files, wheels, self._folder("requirements"))
        self._versions = found.versions
        fetched = files_below(wheels)
        if others := other_machine_code(fetched, recipe.machine):
            raise PackagingFailed(f"uv fetched files for another machine: {', '.join(others[:3])}")
        for path in sorted(fetched.keys() & own.files.keys()):
            self._notes.append(f"the function's own {path} is packed in place of that of a dependency")
        contents = {**fetched, **own.files}
        if found.lambda_fn is not None:
            self._notes.append(f"lambda_fn {found.lambda_fn} is that of this bridge")
        if "lambda_fn/runtime.py" in contents and recipe.form is Form.ZIP:
            contents[WRAPPER] = PackedFile(_WRAPPER_FILE, _WRAPPER_FILE.stat().st_size, is_program=True)
        self._interpreter = find_interpreter(recipe.python, first=recipe.interpreter, folder=self._scratch)
        if self._interpreter is None:
            version = "{}.{}".format(*recipe.python)
            self._notes.append(
                f"without bytecode, so cold starts take longer: it takes Python {version}, which is not on this machine"
            )
            return contents
        self._progress.begin("making bytecode")
        return {**contents, **compile_contents(contents, self._interpreter, self._folder("bytecode"))}

    # -- its size --

    def _refuse_too_large(self, contents: Contents, what: str) -> None:
        size = total_size(contents)
        if self._recipe.form is Form.IMAGE or size <= MAX_UNZIPPED:
            return
        folders = "\n".join(f"  {size / MIB:8.1f} MiB  {name}" for name, size in largest_folders(contents))
        raise PackagingFailed(
            f"{what}: {size:,} bytes, and Lambda takes {MAX_UNZIPPED:,} (250 MiB) of a zip, unzipped. The largest"
            f" folders:\n{folders}\n"
            "Leave out what no call needs: in .gitignore, or in package: {exclude: [...]} of the function. An image may"
            " have 10 GiB (--image)."
        )

    # -- its file, and the look at it --

    def _zip(self, contents: Contents, own: OwnFiles) -> Built:
        recipe = self._recipe
        with partial_file(recipe.out) as partial:
            self._progress.begin("packing")
            write_zip(contents, partial, self._progress)
            packed = partial.stat().st_size
            if packed > MAX_DIRECT_UPLOAD:
                self._notes.append(
                    f"the zip has {packed:,} bytes. Lambda's API takes {MAX_DIRECT_UPLOAD:,} (50 MiB): upload it to S3"
                )
            package = self._folder("package")
            if recipe.is_checked:
                unpack(partial, package)
            checked = self._check(contents, own, package)
            digest = sha256_of(partial)
            partial.replace(recipe.out)
        return self._built(contents, checked, packed=packed, sha256=digest)

    def _image(self, contents: Contents, own: OwnFiles) -> Built:
        recipe = self._recipe
        with partial_folder(recipe.out) as partial:
            self._progress.begin("copying")
            write_image(recipe, contents, partial, self._progress)
            package = self._scratch / "package"
            if recipe.is_checked:  # in a copy: a module may write files when it is imported
                shutil.copytree(partial / "task", package)
            checked = self._check(contents, own, package)
            replace_folder(partial, recipe.out)
        return self._built(contents, checked, packed=None, sha256=None)

    def _check(self, contents: Contents, own: OwnFiles, package: Path) -> Checked:
        if self._recipe.is_checked and self._recipe.language is not Language.PROGRAM:
            self._progress.begin("importing the handler")
        look = HandlerCheck(self._recipe, contents, own, self._versions, package, self._folder("check"))
        machine = platform.machine()
        return look.run(self._interpreter, _MACHINES.get(machine.lower(), machine))

    def _built(self, contents: Contents, checked: Checked, *, packed: int | None, sha256: str | None) -> Built:
        return Built(
            path=self._recipe.out,
            unzipped=total_size(contents),
            files=len(contents),
            packed=packed,
            sha256=sha256,
            largest=largest_folders(contents),
            dependencies=self._versions,
            checked=checked.what,
            notes=(*self._notes, *checked.notes),
        )
