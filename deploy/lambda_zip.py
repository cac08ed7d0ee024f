"""A function's zip for AWS's managed Python runtimes: `python deploy/lambda_zip.py --arch arm64 --python 3.13`.

In: a folder with the function's code, its requirements, an architecture and a Python version. Out: one zip with wheels
for that Lambda (not for this machine), `lambda_fn`, and the script that makes the managed runtime stream replies. Same
input, same bytes.
"""

from __future__ import annotations

import argparse
import compileall
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WRAPPER = "lambda_fn_wrapper"

_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}

# The runtimes up to 3.11 are Amazon Linux 2 (glibc 2.26), those from 3.12 on Amazon Linux 2023 (2.34): Lambda developer
# guide, "Lambda runtimes".
_GLIBC_OF_AL2 = ("manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
_GLIBC_OF_AL2023 = ("manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27")

_LEFT_OUT_FOLDERS = frozenset(("tests", "test", "bin"))
_LEFT_OUT_SUFFIXES = (".pyc", ".pyi", ".proto", ".pyx", ".pxd", ".pxi", ".c", ".h")
_FOR_BUILDING = ("pyproject.toml", "hatch_build.py")
"""Files of lambda_fn that only the build of its package reads."""
_NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc")
_MAX_UNZIPPED = 250 << 20
"""Bytes that Lambda takes, layers included (Lambda quotas, "Deployment package size")."""


def platforms(python: tuple[int, int], arch: str) -> list[str]:
    """Return the wheel platforms that this Lambda runs, the newest first."""
    known = _GLIBC_OF_AL2 if python < (3, 12) else _GLIBC_OF_AL2023 + _GLIBC_OF_AL2
    return [f"{platform}_{_MACHINES[arch]}" for platform in known]


def install(requirements: Path, into: Path, *, python: tuple[int, int], arch: str) -> None:
    """Unpack the wheels of the requirements. Raises CalledProcessError if one is not to be had."""
    chosen = [word for name in platforms(python, arch) for word in ("--platform", name)]
    subprocess.run(  # noqa: S603 - pip, with the words below
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
            "--only-binary=:all:",
            "--implementation",
            "cp",
            "--python-version",
            ".".join(map(str, python)),
            *chosen,
            "--target",
            str(into),
            "-r",
            str(requirements),
        ],
        check=True,
    )


def strip(wheels: Path) -> None:
    """Remove from installed wheels what no call needs: tests, programs, stubs, sources of extensions."""
    for path in sorted(wheels.rglob("*"), reverse=True):
        if path.is_dir():
            if path.name in _LEFT_OUT_FOLDERS:
                shutil.rmtree(path)
        elif path.suffix in _LEFT_OUT_SUFFIXES:
            path.unlink()


def gather(function: Path, into: Path) -> None:
    """Add the function's code as it is, lambda_fn and the wrapper."""
    shutil.copytree(function, into, dirs_exist_ok=True, ignore=_NOT_CODE)
    (into / "requirements.txt").unlink(missing_ok=True)
    shutil.copytree(ROOT / "lambda_fn", into / "lambda_fn", dirs_exist_ok=True, ignore=_NOT_CODE)
    for name in _FOR_BUILDING:
        (into / "lambda_fn" / name).unlink()
    shutil.copy(ROOT / "deploy" / WRAPPER, into / WRAPPER)


def compile_for(folder: Path, python: tuple[int, int]) -> bool:
    """Bytecode, without which each cold start compiles anew: /var/task is read-only. Only the same Python can make it;
    whether it did.
    """
    if sys.version_info[:2] != python:
        return False
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    return bool(compileall.compile_dir(folder, quiet=1, stripdir=str(folder), invalidation_mode=unchecked))


def pack(folder: Path, out: Path) -> int:
    """Write the zip, with the same bytes for the same files; the size of what is in it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    total = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            is_program = path.stat().st_mode & 0o100
            # Lambda runs the function as a user of its own: everybody must be able to read.
            entry.external_attr = (0o100755 if is_program else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            content = path.read_bytes()
            total += len(content)
            packed.writestr(entry, content)
    return total


def build(function: Path, requirements: Path, out: Path, *, python: tuple[int, int], arch: str) -> str:
    """Build the zip; a sentence about it. Raises ValueError if it is larger than Lambda takes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        install(requirements, folder, python=python, arch=arch)
        strip(folder)
        gather(function, folder)
        is_compiled = compile_for(folder, python)
        size = pack(folder, out)
    if size > _MAX_UNZIPPED:
        raise ValueError(f"{out}: {size} bytes unzipped, Lambda takes {_MAX_UNZIPPED}")
    version = ".".join(map(str, python))
    bytecode = "with bytecode" if is_compiled else f"without bytecode, which takes Python {version} to make"
    return (
        f"{out}: {out.stat().st_size / 1e6:.1f} MB zipped, {size / 1e6:.1f} MB unzipped, "
        f"for python{version} on {arch}, {bytecode}"
    )


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=sorted(_MACHINES), default="x86_64")
    parser.add_argument("--python", type=_version, default=(3, 13), metavar="3.N")
    parser.add_argument("--function", type=Path, default=ROOT / "deploy/greeter")
    parser.add_argument("--requirements", type=Path, help="by default the function's, else those of the example")
    parser.add_argument("--out", type=Path, default=ROOT / "dist/greeter.zip")
    chosen = parser.parse_args()
    requirements = chosen.requirements or chosen.function / "requirements.txt"
    if not requirements.exists():
        requirements = ROOT / "docker/function/requirements.txt"
    print(build(chosen.function, requirements, chosen.out, python=chosen.python, arch=chosen.arch))  # noqa: T201 - what it made
    return 0


if __name__ == "__main__":
    sys.exit(main())
