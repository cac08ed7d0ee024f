"""Imports the handler from the finished package, in an interpreter that sees nothing else but its own library.

This machine may lack the Python or the processor of the function. Then the same versions of the dependencies are
fetched for an interpreter of this machine. They stand in for those of the package, and the outcome says so.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.packaging.contents import Contents
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.interpreter import Interpreter, ask_interpreter
from bridge.packaging.own_files import EXCLUDED, OwnFiles
from bridge.packaging.python_dependencies import strip
from bridge.packaging.recipe import Form, Language, Recipe
from bridge.packaging.running import Ended, run_program
from bridge.packaging.uv import Uv

_SECONDS = 60.0
"""Lambda gives a function 10 s to start. A busy machine may need more."""
_OF_THE_RUNTIME = frozenset({"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"})
"""What AWS's runtimes for Python bring besides Python (Lambda developer guide, "Runtime-included SDK versions")."""
_SCRIPTS = Path(__file__).parent
_TRACE_LINES = 6
_MAX_REPORT = 1 << 20
_NODE_MISSES = ("Cannot find module", "Cannot find package")
_quoted = re.compile(r"'([^'\n]+)'").findall
_required_by = re.compile(r"^- (/.+)$", re.MULTILINE).findall
_ENDINGS = ("", ".js", ".json", ".mjs", ".cjs", "/index.js", "/package.json")


@dataclass(slots=True)
class Checked:
    """What came of the look at a package."""

    what: str | None = None
    """What was done, in a sentence without subject. None: nothing could be run."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HandlerCheck:
    """One look. `package`: the folder where the finished package was unpacked; `scratch`: an empty folder."""

    recipe: Recipe
    contents: Contents
    own: OwnFiles
    versions: tuple[str, ...]
    """Those of the dependencies that uv has fetched."""
    package: Path
    scratch: Path

    def run(self, interpreter: Interpreter | None, this_machine: str) -> Checked:
        """Import the handler. Raises PackagingFailed if that fails.

        `interpreter`: one of the version that runs the function, if there is one. `this_machine`: the processor here,
        as Linux names it.
        """
        recipe = self.recipe
        if not recipe.is_checked:
            return Checked(notes=["not checked: the handler was not imported, as --no-check says"])
        if recipe.language is Language.PROGRAM:
            return Checked()
        if recipe.is_web:
            return Checked(notes=["not checked: a Web Function starts its server when it is imported"])
        if recipe.handler is None:
            return Checked(notes=["not checked: no handler is known. Name it with --handler module.attribute"])
        if recipe.language is Language.NODE:
            return self._in_node(this_machine)
        return self._in_python(interpreter, this_machine)

    # -- Python --

    def _in_python(self, interpreter: Interpreter | None, this_machine: str) -> Checked:
        recipe = self.recipe
        checked = Checked()
        is_alike = interpreter is not None and recipe.machine.linux == this_machine and interpreter.system == "Linux"
        if is_alike or not self.versions:
            found = interpreter or ask_interpreter(sys.executable, self.scratch)
            before: tuple[Path, ...] = ()
        else:
            found = interpreter or ask_interpreter(sys.executable, self.scratch)
            before = (self.scratch / "stand-in",)
        if found is None:
            return Checked(notes=["not checked: no Python was found that could import the handler"])
        if before:
            try:
                self._fetch(self.versions, before[0], found)
            except PackagingFailed as failed:
                first = str(failed).partition("\n")[0]
                return Checked(notes=[f"not checked: the dependencies cannot be had for this machine: {first}"])
            wheels = "{} and Python {}.{}".format(recipe.machine.value, *recipe.python)
            checked.notes.append(
                f"not checked: the wheels for {wheels} themselves. This machine cannot load them, so the same versions"
                f" for Python {found.release} stood in for them"
            )
        elif found.version != recipe.python:
            checked.notes.append(
                "not checked: Python {}.{} itself. It is not on this machine, so Python {} imported the handler".format(
                    *recipe.python, found.release
                )
            )
        self._import(found, (*before, self.package), checked)
        checked.what = f"imported {recipe.handler} with Python {found.release}"
        return checked

    def _import(self, interpreter: Interpreter, folders: Sequence[Path], checked: Checked) -> None:
        script = _SCRIPTS / "import_handler.py"
        command = (interpreter.program, "-I", "-S", "-B", str(script), self.recipe.handler or "")
        report = self._reported(command, *folders)
        missing = str(report.get("missing") or "").partition(".")[0]
        if missing in _OF_THE_RUNTIME and self.recipe.form is Form.ZIP:
            runtime = self.scratch / "runtime"
            checked.notes.append(f"{missing} is not in the package: AWS's runtime brings it, in a version of its own")
            try:
                self._fetch(("boto3",), runtime, interpreter)
            except PackagingFailed:
                checked.notes.append(f"not checked: {missing} cannot be had here, so the handler was not imported")
                return
            report = self._reported(command, *folders, runtime)
        self._refuse(report)

    def _fetch(self, wanted: Sequence[str], into: Path, interpreter: Interpreter) -> None:
        Uv.find().install(
            wanted,
            into,
            folder=self.recipe.folder,
            platform=None,
            interpreter=interpreter.program,
            follows_dependencies=wanted is not self.versions,
        )
        strip(into)

    # -- Node.js --

    def _in_node(self, this_machine: str) -> Checked:
        node = shutil.which("node")
        if node is None:
            return Checked(notes=["not checked: node is not on PATH, so the handler was not imported"])
        if self.recipe.machine.linux != this_machine and any(path.endswith(".node") for path in self.contents):
            return Checked(notes=["not checked: this machine cannot load the package's code for another processor"])
        loader = self.recipe.ours.node_runtime / "handler.mjs"
        script = _SCRIPTS / "import_handler.mjs"
        self._refuse(self._reported((node, str(script), str(loader), self.recipe.handler or "")))
        asked = run_program([node, "--version"], folder=self.scratch, environment={})
        return Checked(f"imported {self.recipe.handler} with Node.js {asked.output.strip()}")

    # -- the outcome --

    def _reported(self, command: Sequence[str], *folders: Path) -> Mapping[str, Any]:
        """Run a program that writes a report, and return the report. Raises PackagingFailed if it writes none."""
        report = self.scratch / "report.json"
        report.unlink(missing_ok=True)
        home = self.scratch / "home"
        home.mkdir(exist_ok=True)
        environment = {**_environment(self.recipe, self.package, home), **self.recipe.env}
        words: list[str | Path] = [*command, report, *folders]
        ended = run_program(words, folder=self.package, environment=environment, seconds=_SECONDS)
        try:
            with report.open() as opened:
                found: dict[str, Any] = json.loads(opened.read(_MAX_REPORT))
        except (OSError, ValueError):
            raise PackagingFailed(self._without_report(ended)) from None
        return found

    def _without_report(self, ended: Ended) -> str:
        if ended.exit_code is None:
            how = f"its module was still being imported after {_SECONDS:g} s. Lambda gives it 10 s"
        else:
            how = f"the process that imported its module ended with exit code {ended.exit_code}"
        said = "\n".join(f"  {line}" for line in ended.errors.splitlines()[-_TRACE_LINES:])
        return f"{self.recipe.handler} cannot be imported from the package: {how}.\n{said}".rstrip()

    def _refuse(self, report: Mapping[str, Any]) -> None:
        """Raise PackagingFailed if the report tells of an error."""
        if "error" not in report:
            return
        lines = [f"{self.recipe.handler} cannot be imported from the package: {report['error'].partition(chr(10))[0]}"]
        missing = list(dict.fromkeys(self._missing(report)))
        for path, reason in missing:
            lines.append(f"  {path} is not in the package: {reason}.")
            if not reason.startswith(EXCLUDED):
                lines.append(f"  Name it in package: {{include: [{path}]}} of the function, or give --include {path}.")
        if not missing and report.get("missing"):
            lines.append("  If it is a dependency, name it in requirements.txt or pyproject.toml.")
        if not missing and report["error"].partition(": ")[2].removeprefix("Error: ").startswith(_NODE_MISSES):
            lines.append("  If it is a dependency, name it in package.json: npm install --save NAME.")
        trace = str(report.get("trace", "")).replace(str(self.package), "/var/task").rstrip().splitlines()
        lines += [f"  | {line}" for line in trace[-_TRACE_LINES:]]
        lines.append("--no-check makes the package without importing the handler.")
        raise PackagingFailed("\n".join(lines))

    def _missing(self, report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield files that the error is about, and that a rule left out, each with the reason."""
        for path in self._suspects(report):
            if path not in self.contents and (self.recipe.folder / path).exists():
                reason = self.own.why_missing(path)
                if reason is not None:
                    yield path, reason

    def _suspects(self, report: Mapping[str, Any]) -> Iterator[str]:
        """Yield paths in the package that the error may be about."""
        for module in report.get("modules", ()):
            stem = module.replace(".", "/")
            yield from (f"{stem}.py", f"{stem}/__init__.py", stem)
        named = [*report.get("files", ()), *_quoted(str(report.get("error", "")))]
        beside = [Path(each).parent for each in _required_by(str(report.get("error", "")))] or [self.package]
        for name in named:
            path = Path(beside[0] if name.startswith(".") else self.package, name)
            try:
                inner = path.resolve().relative_to(self.package.resolve())
            except (ValueError, OSError):
                continue
            yield from (f"{inner.as_posix()}{ending}" for ending in _ENDINGS)


def _environment(recipe: Recipe, package: Path, home: Path) -> dict[str, str]:
    """Return what Lambda sets, as far as a module may want it while it is imported."""
    return {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_NAME": recipe.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_REGION": "us-east-1",
        "HOME": str(home),
        "LAMBDA_TASK_ROOT": str(package),
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TMPDIR": str(home),
        "TZ": ":UTC",
        "_HANDLER": recipe.handler or "",
    }
