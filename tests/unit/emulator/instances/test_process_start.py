"""What is said of a function whose program cannot be started, whatever the system's error tells."""

from __future__ import annotations

from errno import EACCES, ENOENT
from os import strerror
from pathlib import Path

import pytest

from bridge.config.schema import FunctionConfig, WebFunctionConfig
from bridge.emulator.instances.process_start import why_not_started

# uvloop's errors name no file.
GONE = FileNotFoundError(ENOENT, strerror(ENOENT))
REFUSED = PermissionError(EACCES, strerror(EACCES))


GONE_HINT = "no such file or directory (FOLDER/{} is not there)".format
NOT_ON_PATH = "no such file or directory (there is none on PATH; a program in the function's folder is ./bootstrap)"
NO_INTERPRETER = "no such file or directory (FOLDER/script is there, but not the interpreter that its first line names)"
NOT_EXECUTABLE = "permission denied (if the file is not executable: chmod +x FOLDER/script)"


@pytest.mark.parametrize(
    ("error", "command", "text"),
    [
        (GONE, "./bootstrap", GONE_HINT("bootstrap")),
        (GONE, "bin/serve", GONE_HINT("bin/serve")),
        (GONE, "bootstrap", NOT_ON_PATH),
        (GONE, "./script", NO_INTERPRETER),
        (REFUSED, "./script", NOT_EXECUTABLE),
    ],
)
@pytest.mark.parametrize("is_web", [False, True])
def test_the_program_is_named_and_what_helps(
    tmp_path: Path, error: OSError, command: str, text: str, *, is_web: bool
) -> None:
    (tmp_path / "script").write_text("#!/nowhere/sh\n")
    web = WebFunctionConfig((command,)) if is_web else None
    config = FunctionConfig("orders", tmp_path, command=None if is_web else (command,), web=web)

    told = text.replace("FOLDER", str(tmp_path))
    assert f"fork/exec {command}: {told}" == why_not_started(error, config)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    config = FunctionConfig("orders", tmp_path / "gone", command=("./bootstrap",))

    assert f"chdir {tmp_path}/gone: no such file or directory" == why_not_started(GONE, config)
