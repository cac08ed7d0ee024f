"""Check that every locked package of the bridge's image has a wheel for the image's Python, on x86-64 and on arm64.

The image's base has no compiler, so a package without a wheel cannot be installed there. This script asks the package
index through pip and installs nothing.

    python docker/check_wheels.py         for the Python that bridge.Dockerfile names
    python docker/check_wheels.py 3.16    for another one: could the image move to it?
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
LOCKS = ("build.lock", "bridge-otel.lock")
"""The second one also holds every package of bridge.lock."""
MACHINES = ("x86_64", "aarch64")
_OLDEST_LIBC, _NEWEST_LIBC = 17, 41
"""Minor versions of glibc 2 that a wheel may be built for. 2.41 is that of Debian 13, the base."""
_BASE = re.compile(r"^ARG BASE=python:(\d+\.\d+)-slim$", re.MULTILINE)


def image_python() -> str:
    """Return the version that the Dockerfile names."""
    found = _BASE.search((FOLDER / "bridge.Dockerfile").read_text())
    if found is None:
        raise SystemExit("docker/bridge.Dockerfile has no line ARG BASE=python:X.Y-slim")
    return found[1]


def problem_with(lock: str, machine: str, python: str) -> str:
    """Return pip's words about a lock file whose packages cannot all be installed from wheels, or an empty text."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_OLDEST_LIBC, _NEWEST_LIBC + 1)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--ignore-installed"]
    command += ["--python-version", python, "--target", str(FOLDER / "never-made")]
    command += [f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}")]
    ran = subprocess.run([*command, "-r", str(FOLDER / lock)], capture_output=True, text=True, check=False)
    return ran.stderr.strip() if ran.returncode else ""


def main() -> int:
    python = sys.argv[1] if len(sys.argv) > 1 else image_python()
    is_complete = True
    for lock in LOCKS:
        for machine in MACHINES:
            problem = problem_with(lock, machine, python)
            is_complete = is_complete and not problem
            print(f"Python {python}, {machine}, {lock}: {problem or 'every package has a wheel'}")
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
