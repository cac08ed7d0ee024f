"""The code blocks of a page, and a shell that follows them as a reader does.

A block with a title is a file. In a `console` block a line that begins with `$ ` is a command, and the lines below are
what it prints: each must be found in its output, in this order, and more may be there. In an `sh` block every line is a
command.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)
SERVERS = re.compile(r"grpc-lambda-bridge (serve|emulate)\b|python -m lambda_fn\b")
"""Commands that run until they are stopped."""
START_SECONDS = 60.0
RELOAD_SECONDS = 20.0
"""How long a server may take to see a file that was written. A reader does not call again within milliseconds."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    language: str
    title: str
    """The file that it is; empty: none."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each command of a shell block with what it shall print."""
        whole = self.text.replace("\\\n", " ")
        if self.language == "sh":
            yield from ((line, []) for line in whole.splitlines() if line.strip() and not line.startswith("#"))
        elif self.language == "console":
            for part in re.split(r"^\$ ", whole, flags=re.MULTILINE)[1:]:
                command, *printed = part.splitlines()
                yield command, [line for line in printed if line.strip()]


def blocks(page: Path, root: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    text = page.read_text()
    found = []
    for fence in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', fence["info"])
        line = text.count("\n", 0, fence.start()) + 1
        name = str(page.relative_to(root))
        found.append(Block(name, line, fence["language"], title[1] if title else "", fence["text"]))
    return found


def program_of(command: str) -> str:
    """Return the first program of a command, after variables and sudo."""
    words = shlex.split(command, comments=True)
    return next((word for word in words if "=" not in word and word != "export"), "")


class Shell:
    """One bash for a whole page. Servers run in the background, each instead of the one before."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, rewrite: Callable[[str], str]) -> None:
        """`rewrite` puts free ports in place of those of the page, in commands, files and expected output."""
        self._rewrite = rewrite
        self._logs = folder
        self._code = ""
        self._is_reloading = False
        self._servers: dict[str, tuple[str, Path]] = {}
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def follow(self, block: Block, *, skip: Collection[str]) -> None:
        """Write the block's file, or run its commands but those of the programs in `skip`."""
        if block.title:
            (Path(self._ask("pwd").strip()) / block.title).write_text(self._rewrite(block.text))
            self._is_reloading = bool(self._servers)
        for command, printed in block.commands():
            if program_of(command) not in skip:
                self.run(command, printed)

    def run(self, command: str, printed: list[str]) -> None:
        """Run a command, and compare what it prints. A server is started, and waited for until it has printed that."""
        wanted = [self._rewrite(line) for line in printed]
        if SERVERS.search(command):
            self._serve(self._rewrite(command), wanted)
        else:
            self._run(self._rewrite(command), wanted)

    def close(self) -> None:
        for pid, _ in self._servers.values():
            self._ask(f"kill {pid}; wait {pid}")
        self._process.communicate("exit\n", timeout=30)

    def _run(self, command: str, wanted: list[str]) -> None:
        output = self._ask(command)
        end = time.monotonic() + RELOAD_SECONDS
        while self._is_reloading and not is_in_order(wanted, output) and time.monotonic() < end:
            time.sleep(0.2)
            output = self._ask(command)
        self._is_reloading = self._is_reloading and not wanted
        assert is_in_order(wanted, output), f"{command}\nprinted\n{output}\nand not\n" + "\n".join(wanted)
        if not re.search(r"\|\| echo", command):
            assert "0" == self._code, f"{command}\nexit code {self._code}\n{output}"

    def _serve(self, command: str, wanted: list[str]) -> None:
        kind = "bridge" if "grpc-lambda-bridge" in command else "other"
        if kind in self._servers:
            pid = self._servers.pop(kind)[0]
            self._ask(f"kill {pid}; wait {pid}")
        log = self._logs / f"server-{time.monotonic_ns()}.log"
        log.touch()
        pid = self._ask(f"{command} > {log} 2>&1 & echo $!").split()[-1]
        self._servers[kind] = (pid, log)
        end = time.monotonic() + START_SECONDS
        while not is_in_order(wanted or ["serving"], log.read_text()):
            assert time.monotonic() < end, f"{command}\nprinted\n{log.read_text()}\nand not\n" + "\n".join(wanted)
            time.sleep(0.05)

    def _ask(self, command: str) -> str:
        """Run a command and return what it printed; its exit code is kept."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\ncode=$?; echo; echo end-of-command $code\n")
        self._process.stdin.flush()
        printed: list[str] = []
        for line in self._process.stdout:
            if line.startswith("end-of-command "):
                self._code = line.split()[1]
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"the shell ended in {command}\n{''.join(printed)}")


def is_in_order(wanted: list[str], output: str) -> bool:
    """Whether each wanted line is part of a line of the output, in this order. `…` stands for anything."""
    lines = iter(" ".join(line.split()) for line in output.splitlines())
    patterns = [".*".join(re.escape(" ".join(part.split())) for part in line.split("…")) for line in wanted]
    return all(any(re.search(pattern, line) for line in lines) for pattern in patterns)
