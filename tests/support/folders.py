"""Folders of files, as functions have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def filled(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """The folder, with these files in it, by their paths."""
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
