"""Wheels made by hand, and a folder of them as uv's only index: tests of packages need no network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

ELF_MACHINES = {"x86_64": 62, "aarch64": 183}


def machine_code(machine: str) -> bytes:
    """The head of an ELF file for a machine, and some bytes."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + ELF_MACHINES[machine].to_bytes(2, "little") + bytes(100)


def write_wheel(
    index: Path,
    name: str,
    files: Mapping[str, str | bytes],
    *,
    tag: str = "py3-none-any",
    version: str = "1.0",
    requires: tuple[str, ...] = (),
) -> Path:
    """A wheel with these files, in a folder."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    whole: dict[str, bytes] = {
        **{path: content.encode() if isinstance(content, str) else content for path, content in files.items()},
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in whole.items())
    whole[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    index.mkdir(parents=True, exist_ok=True)
    wheel = index / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for path, content in whole.items():
            packed.writestr(path, content)
    return wheel


def wheel_of_installed(index: Path, name: str, tag: str) -> Path:
    """A wheel of a distribution that is installed in this environment, for this machine."""
    found = distribution(name)
    files = {
        str(path): Path(str(path.locate())).read_bytes()
        for path in found.files or ()
        if ".dist-info/" not in str(path) and not str(path).startswith("..") and path.suffix != ".pyc"
    }
    requires = tuple(each for each in found.requires or () if "extra ==" not in each)
    return write_wheel(index, name, files, tag=tag, version=found.version, requires=requires)


def only_index(index: Path, cache: Path) -> dict[str, str]:
    """Variables with which uv takes wheels from this folder alone."""
    return {
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(index),
        "UV_CACHE_DIR": str(cache),
        "UV_OFFLINE": "1",
        "UV_NO_CONFIG": "1",
    }


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
