"""The program uv: where it is, and what it is asked for. It fetches wheels and builds nothing."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.packaging.failure import PackagingFailed
from bridge.packaging.machine import Machine
from bridge.packaging.recipe import PythonVersion
from bridge.packaging.running import Ended, run_program

_INSTALL_UV = (
    "uv fetches the dependencies of functions, and it is not here: pip install 'grpc-lambda-bridge[package]', or put uv"
    " itself on PATH (https://docs.astral.sh/uv/)"
)

_FIRST_ON_AL2023 = (3, 12)
"""The runtimes before it are Amazon Linux 2 with glibc 2.26, those from it on Amazon Linux 2023 with glibc 2.34 (Lambda
developer guide, "Lambda runtimes"). uv knows no platform of glibc 2.26, so 2.17 is the newest that fits."""

_NAME = r"`?(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)`?"
_NO_WHEEL = tuple(
    re.compile(expression)
    for expression in (
        rf"{_NAME}(?:[<>=!~]=?\S*)? has no wheels with a matching",
        rf"{_NAME}(?:[<>=!~]=?\S*)? has no usable wheels",
        rf"all versions of {_NAME} have no (?:usable )?wheels",
        rf"Wheels are required for {_NAME} ",
        rf"Distribution `{_NAME}(?:==\S*)?(?: @ [^`]*)?` can't be installed because it",
        rf"Building source distributions is disabled, but attempted to build {_NAME}(?: |$)",
        rf"Building source for {_NAME} is disabled",
    )
)


@dataclass(frozen=True, slots=True)
class Platform:
    """What runs the function, as wheels are chosen."""

    python: PythonVersion
    machine: Machine

    @property
    def wheels(self) -> str:
        """The newest platform of wheels that runs there, as uv names it."""
        glibc = "2_34" if self.python >= _FIRST_ON_AL2023 else "2_17"
        return f"{self.machine.linux}-manylinux_{glibc}"

    def __str__(self) -> str:
        return "Python {}.{} on {}".format(*self.python, self.machine.value)


def _beside_python() -> Path:
    """Return the place of uv where it was installed with the bridge."""
    return Path(sys.executable).with_name("uv")


@dataclass(frozen=True, slots=True)
class Uv:
    """A uv that was found."""

    program: str

    @staticmethod
    def find() -> Uv:
        """Find uv next to the bridge's own Python, else on PATH. Raises PackagingFailed."""
        beside = _beside_python()
        found = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
        if found is None:
            raise PackagingFailed(_INSTALL_UV)
        return Uv(found)

    def install(
        self,
        requirements: Sequence[Path | str],
        into: Path,
        *,
        folder: Path,
        platform: Platform | None,
        interpreter: str,
        overrides: Path | None = None,
        follows_dependencies: bool = True,
    ) -> None:
        """Unpack the wheels of requirements: files, and single ones as text. Raises PackagingFailed.

        `folder`: the settings of uv that are valid there are used. `platform`: None is that of `interpreter`, which
        uv needs in any case and does not install anything for.
        """
        words: list[str | Path] = [
            "pip",
            "install",
            "--only-binary",
            ":all:",
            "--target",
            into,
            "--python",
            interpreter,
        ]
        if platform is not None:
            version = "{}.{}".format(*platform.python)
            words += ["--python-version", version, "--python-platform", platform.wheels]
        if overrides is not None:
            words += ["--overrides", overrides]
        if not follows_dependencies:
            words.append("--no-deps")
        for each in requirements:
            words += ["-r", each] if isinstance(each, Path) else [each]
        # Links into uv's cache would change with it, and files in a package are changed.
        ended = self._run([*words, "--link-mode", "copy"], folder)
        if ended.exit_code != 0:
            raise PackagingFailed(_explained(ended, platform))

    def export(self, project: Path) -> str:
        """Return the locked dependencies of a project, as the text of a requirements file. Raises PackagingFailed."""
        words = ["export", "--locked", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate"]
        ended = self._run([*words, "--format", "requirements-txt"], project)
        if ended.exit_code == 0:
            return ended.output
        hint = ""
        if "needs to be updated" in ended.errors:
            hint = "\nuv.lock does not fit pyproject.toml: run `uv lock`, and look at what it changes."
        raise PackagingFailed(f"uv cannot read {project / 'uv.lock'}:\n{_indented(ended.errors)}{hint}")

    def find_python(self, version: PythonVersion, folder: Path) -> str | None:
        """Return the path of an interpreter of this version that is installed."""
        words = ["python", "find", "--no-python-downloads", "--system", "{}.{}".format(*version)]
        ended = self._run(words, folder)
        return ended.output.strip() or None if ended.exit_code == 0 else None

    def _run(self, words: Iterable[str | Path], folder: Path) -> Ended:
        # A virtual environment that happens to be active has no say.
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        command = [self.program, *words, "--no-progress", "--color", "never"]
        try:
            return run_program(command, folder=folder, environment=environment)
        except OSError as error:
            raise PackagingFailed(f"{self.program}: {error.strerror}") from error


def _explained(ended: Ended, platform: Platform | None) -> str:
    """Return why uv could not install. Packages without a wheel are named first."""
    errors = ended.errors
    names = packages_without_wheel(errors)
    said = _indented(errors or f"uv ended with exit code {ended.exit_code}")
    if not names or platform is None:
        return f"uv could not fetch the dependencies:\n{said}"
    return (
        f"no wheel for {platform}: {', '.join(names)}. Nothing is built here for another machine. Choose a version that"
        " has a wheel, or make one on such a machine (`uv build --wheel`) and name its file in the requirements."
        f"\nuv says:\n{said}"
    )


def packages_without_wheel(errors: str) -> list[str]:
    """Return the packages of which uv says that they have no wheel that fits."""
    joined = " ".join(errors.split())
    found = (match["name"] for expression in _NO_WHEEL for match in expression.finditer(joined))
    return sorted(dict.fromkeys(found))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines() if line.strip())
