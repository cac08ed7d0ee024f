"""How a package is known again: it is replaced without a question, and never packed into another one."""

from __future__ import annotations

from pathlib import Path

ZIP_COMMENT = b"made by grpc-lambda-bridge package"
"""The comment of the zip file."""
DOCKERFILE_MARK = "# Made by `grpc-lambda-bridge package`, which replaces this folder."
"""The first line of the Dockerfile."""
PARTIAL = ".partial"
"""The ending of what is not finished. Its name begins with a dot."""


def is_our_zip(file: Path) -> bool:
    """Whether a file was made by this command."""
    if file.suffix != ".zip":
        return False
    try:
        with file.open("rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(0, opened.tell() - len(ZIP_COMMENT)))
            return opened.read() == ZIP_COMMENT
    except OSError:
        return False


def is_our_folder(folder: Path) -> bool:
    """Whether a folder is the context of an image that was made by this command."""
    try:
        with (folder / "Dockerfile").open("rb") as opened:
            return opened.read(len(DOCKERFILE_MARK)) == DOCKERFILE_MARK.encode()
    except OSError:
        return False


def is_partial(name: str) -> bool:
    """Whether a name is that of a package whose making was cut off."""
    return name.startswith(".") and name.endswith(PARTIAL)
