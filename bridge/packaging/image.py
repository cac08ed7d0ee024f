"""Writes the folder from which an image is built: a Dockerfile, and the function in `task/`.

Functions in Python run behind `lambda_fn.runtime`, which can stream replies. Those in Node.js run behind this bridge's
own runtime. A program speaks the Runtime API itself.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.packaging.archive import open_regular
from bridge.packaging.contents import Contents, PackedFile, files_below, total_size
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.machine import Machine
from bridge.packaging.marks import DOCKERFILE_MARK, PARTIAL, is_our_folder
from bridge.packaging.progress import Progress
from bridge.packaging.recipe import Language, Recipe

_NODE = "24"
"""The version of Node.js, unless another base is chosen: that of AWS's runtime nodejs24.x."""
_LONG_AGO = 315532800
"""The time of all files, in seconds since 1970: 1980, as in a zip."""
_PLATFORMS = {Machine.X86_64: "linux/amd64", Machine.ARM64: "linux/arm64"}

_DOCKERFILE = """\
{mark}
#
#   docker build --platform {platform} --provenance=false -t {name} .
#
# Lambda refuses images with attestations, hence --provenance=false.
ARG BASE={base}
FROM ${{BASE}}

{copies}
ENV {variables}
WORKDIR /var/task
# As on Lambda, where the user is another one and just as powerless.
USER 10001:10001
ENTRYPOINT {entrypoint}
"""


def write_image(recipe: Recipe, contents: Contents, into: Path, progress: Progress) -> None:
    """Write the folder's content. Raises OSError if the disk is full, and PackagingFailed."""
    files = {f"task/{path}": file for path, file in contents.items()}
    if recipe.language is Language.NODE:
        files |= {f"runtime/{path}": file for path, file in files_below(recipe.ours.node_runtime).items()}
    (into / "Dockerfile").write_text(dockerfile(recipe))
    _settle(into / "Dockerfile", 0o644)
    whole, done = total_size(files), 0
    for path, file in sorted(files.items()):
        _copy(file, into / path)
        done += file.size
        progress.advance(done, whole)
    for folder in (into, *(each for each in into.rglob("*") if each.is_dir())):
        _settle(folder, 0o755)


def dockerfile(recipe: Recipe) -> str:
    """Return the text of the Dockerfile."""
    copies = ["COPY task /var/task"]
    variables = ["LAMBDA_TASK_ROOT=/var/task"]
    match recipe.language:
        case Language.PYTHON:
            base = "python:{}.{}-slim".format(*recipe.python)
            variables += ["PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"]
            entrypoint = _with_handler("python -m lambda_fn.runtime")
        case Language.NODE:
            base = f"node:{_NODE}-slim"
            copies.append("COPY runtime /var/runtime")
            entrypoint = _with_handler("node /var/runtime/runtime.mjs")
        case Language.PROGRAM:
            base = "debian:13-slim"
            entrypoint = json.dumps(list(recipe.command) or ["./bootstrap"])
    if recipe.language is not Language.PROGRAM:
        variables.append(f"HANDLER={recipe.handler}")
    return _DOCKERFILE.format(
        mark=DOCKERFILE_MARK,
        platform=_PLATFORMS[recipe.machine],
        name=recipe.name.lower(),
        base=base,
        copies="\n".join(copies),
        variables=" ".join(variables),
        entrypoint=entrypoint,
    )


def _with_handler(command: str) -> str:
    """Return an entry point whose argument, on Lambda the image's command override, goes before the handler."""
    return json.dumps(["/bin/sh", "-c", f'exec {command} "${{1:-$HANDLER}}"', "function"])


def _copy(file: PackedFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_regular(file) as source, target.open("wb") as opened:
        shutil.copyfileobj(source, opened, 1 << 20)
    _settle(target, 0o755 if file.is_program else 0o644)


def _settle(path: Path, mode: int) -> None:
    path.chmod(mode)
    os.utime(path, (_LONG_AGO, _LONG_AGO))


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """Yield a folder next to `out`. It is gone after the block, unless the block has moved it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=PARTIAL))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(partial: Path, out: Path) -> None:
    """Put the finished folder in its place. The former one goes."""
    if not out.exists():
        partial.rename(out)
        return
    former = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=PARTIAL))
    out.rename(former / "former")
    try:
        partial.rename(out)
    except BaseException:
        (former / "former").rename(out)
        raise
    finally:
        shutil.rmtree(former, ignore_errors=True)


def refuse_other_folder(out: Path) -> None:
    """Raise PackagingFailed if there is something else than a former package."""
    if out.is_symlink() or (out.exists() and not (out.is_dir() and (is_our_folder(out) or not any(out.iterdir())))):
        raise PackagingFailed(f"{out} is there already and no package: remove it, or name another folder with --into")
