"""Bytecode for the Python that runs the function. Without it each cold start compiles anew: /var/task is read-only.

An interpreter of that very version makes it. It holds the hash of its source, which Python compares (PEP 552). So no
time of a file counts, and code that was changed by hand is compiled anew. Paths in it are those of Lambda.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from bridge.packaging.contents import Contents, PackedFile
from bridge.packaging.interpreter import Interpreter
from bridge.packaging.running import run_program

TASK_ROOT = "/var/task"

_COMPILE = """
import json, py_compile, sys
checked = py_compile.PycInvalidationMode.CHECKED_HASH
for source, target, shown in json.load(open(sys.argv[1])):
    try:
        py_compile.compile(source, target, shown, doraise=True, invalidation_mode=checked)
    except (py_compile.PyCompileError, ValueError, RecursionError):
        pass  # a template, or code for another version of Python; who imports it is told
"""


def compile_contents(contents: Contents, interpreter: Interpreter, scratch: Path) -> dict[str, PackedFile]:
    """Return the bytecode of all modules in Python, by path in the package. `scratch`: an empty folder."""
    tag = "cpython-{}{}".format(*interpreter.version)
    work = []
    targets = {}
    for number, (path, file) in enumerate(sorted(contents.items())):
        if not path.endswith(".py"):
            continue
        place = PurePosixPath(path)
        target = scratch / f"{number}.pyc"
        targets[str(place.parent / "__pycache__" / f"{place.stem}.{tag}.pyc")] = target
        work.append((str(file.source), str(target), f"{TASK_ROOT}/{path}"))
    listed = scratch / "modules.json"
    listed.write_text(json.dumps(work))
    # A set in a constant has the order of its hashes, which are the same in each run then.
    run_program(
        [interpreter.program, "-s", "-S", "-B", "-W", "ignore", "-c", _COMPILE, listed],
        folder=scratch,
        environment={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
    )
    return {
        path: PackedFile(target, target.stat().st_size, is_program=False)
        for path, target in targets.items()
        if target.is_file()
    }
