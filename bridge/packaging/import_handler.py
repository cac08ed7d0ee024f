"""Imports a handler in Python, and writes down what came of it: a program of its own, for any Python from 3.10 on.

    python -I -S -B import_handler.py HANDLER REPORT FOLDER...

The folders are all that is searched besides Python's own library.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback


def main(handler: str, report: str, *folders: str) -> None:
    sys.path[:0] = folders
    found: dict[str, object] = {}
    module, _, attribute = handler.rpartition(".")
    try:
        value = getattr(importlib.import_module(module.replace("/", ".")), attribute)
        if not callable(value):
            found = {"error": f"{handler} cannot be called: it is {value!r:.100}"}
    except BaseException as error:  # noqa: BLE001 - whatever the module raises, SystemExit too, is what is told
        found = described(error)
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123 - nothing is imported that a module may change
        json.dump(found, file)
        file.flush()
    os._exit(0)  # threads that the module has started must not keep us


def described(error: BaseException) -> dict[str, object]:
    """Return what is known of an error. Files and modules are those it misses, the first cause first."""
    files, modules = [], []
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            files += [os.fsdecode(name) for name in (cause.filename, cause.filename2) if isinstance(name, (str, bytes))]
        if isinstance(cause, ImportError) and cause.name:
            modules.append(cause.name)
            modules += [f"{cause.name}.{word}" for word in str(cause).split("'")[1:2] if word != cause.name]
        cause = cause.__cause__ or cause.__context__
    text = "".join(traceback.format_exception_only(error)).strip()
    return {
        "error": text,
        "trace": "".join(traceback.format_exception(error)),
        "files": files,
        "modules": modules,
        "missing": error.name if isinstance(error, ModuleNotFoundError) else None,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
