"""Writes a zip: the same bytes for the same files, whoever packs them, wherever and whenever."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.packaging.contents import Contents, PackedFile, total_size
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.marks import PARTIAL, ZIP_COMMENT
from bridge.packaging.progress import Progress

_LEVEL = 9
_CHUNK = 1 << 20
_UNIX = 3
"""The system whose permissions the zip holds (APPNOTE.TXT, "version made by")."""


@contextmanager
def partial_file(out: Path) -> Iterator[Path]:
    """Yield a file next to `out`, on the same disk. It is gone after the block, unless the block has moved it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def write_zip(contents: Contents, file: Path, progress: Progress) -> None:
    """Write the zip. Raises OSError if the disk is full, and PackagingFailed if a file is not what it was."""
    whole, done = total_size(contents), 0
    with file.open("xb") as opened:
        with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as packed:
            packed.comment = ZIP_COMMENT
            for path, content in sorted(contents.items()):
                for written in _written(packed, path, content):
                    done += written
                    progress.advance(done, whole)
        opened.flush()
        os.fsync(opened.fileno())


def _written(packed: zipfile.ZipFile, path: str, content: PackedFile) -> Iterator[int]:
    """Write a file piece by piece. Yields the bytes of each piece."""
    entry = zipfile.ZipInfo(path)  # its time is that of the format's beginning, 1980
    entry.create_system = _UNIX
    # Lambda runs the function as a user of its own, so everybody must be able to read.
    entry.external_attr = (0o100755 if content.is_program else 0o100644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.file_size = content.size
    with open_regular(content) as source, packed.open(entry, "w") as target:
        written = 0
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            target.write(chunk)
            yield len(chunk)
    if written != content.size:
        raise PackagingFailed(f"{content.source} was changed while it was packed: try again")


@contextmanager
def open_regular(content: PackedFile) -> Iterator[io.BufferedReader]:
    """Yield an open file. Raises PackagingFailed if something else has taken its place since it was found."""
    try:
        number = os.open(content.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PackagingFailed(f"{content.source} was changed while it was packed: {error.strerror}") from error
    with os.fdopen(number, "rb") as opened:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise PackagingFailed(f"{content.source} was changed while it was packed: it is no file any more")
        yield opened


def sha256_of(file: Path) -> str:
    """Return the digest of a file as Lambda's API tells it."""
    with file.open("rb") as opened:
        return base64.b64encode(hashlib.file_digest(opened, "sha256").digest()).decode()


def unpack(file: Path, into: Path) -> None:
    """Unpack a zip that `write_zip` has written, with its permissions."""
    with zipfile.ZipFile(file) as packed:
        for entry in packed.infolist():
            path = Path(packed.extract(entry, into))
            path.chmod(entry.external_attr >> 16 & 0o777)
