"""`make fuzz`: feeds one target, or all of them in turn, from atheris (coverage-guided, Google's libFuzzer).

An input that breaks a promise is written into findings/TARGET/ and ends the run with exit code 1. `test_corpus.py`
replays it from then on, with or without atheris. What is new and interesting is added to corpus/TARGET/ if `--keep`
says so.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
MAX_INPUT = 4096
"""Bytes of an input."""
MAX_MEMORY = 2048
"""MiB above which a run has failed."""
MAX_SECONDS = 20
"""For one input."""


def main() -> int:
    """Returns 1 if any target's promise was broken."""
    if sys.argv[1:2] == ["--inside"]:
        _fuzz(sys.argv[2], sys.argv[3:])
    chosen = _arguments()
    names = chosen.target or _names()
    with ThreadPoolExecutor(chosen.jobs) as pool:
        codes = list(pool.map(lambda name: _run(name, chosen), names))
    failed = [name for name, code in zip(names, codes, strict=True) if code != 0]
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed" + "".join(f" {name}" for name in failed))
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("target", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices; 0: another each time (default)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default: 2)")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="add what is found interesting to the corpus, made small",
    )
    return parser.parse_args()


def _names() -> list[str]:
    return sorted(folder.name for folder in (HERE / "corpus").iterdir())


def _run(name: str, chosen: argparse.Namespace) -> int:
    """In a process of its own: atheris ends it."""
    findings, corpus = HERE / "findings" / name, HERE / "corpus" / name
    print(f"{name}: {chosen.seconds} s ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="bridge-fuzz-") as scratch:
        folder = _Folder(name, Path(scratch))
        grown = folder.made("grown")
        prefix = f"-artifact_prefix={folder.path}/crash-"
        limits = [f"-max_total_time={chosen.seconds}", f"-seed={chosen.seed}"]
        code = folder.run(*limits, prefix, str(grown), str(corpus))
        for broken in folder.path.glob("crash-*"):
            findings.mkdir(parents=True, exist_ok=True)
            kept = findings / broken.name.rpartition("-")[2][:12]
            kept.write_bytes(broken.read_bytes())
            print(f"{name}: an input that breaks its promise: {kept}", file=sys.stderr)
        if chosen.keep and code == 0:
            # The smallest inputs that together reach all that is reached.
            merged = folder.made("merged")
            folder.run("-merge=1", str(merged), str(corpus), str(grown))
            for path in merged.iterdir():
                (corpus / path.name[:12]).write_bytes(path.read_bytes())
    return code


class _Folder:
    """Where one target runs."""

    def __init__(self, name: str, path: Path) -> None:
        self.path = path
        self._name = name
        # libFuzzer starts itself anew to merge: it needs a program, which `python -m` is not.
        self._program = path / "fuzz"
        command = f'exec "{sys.executable}" -m tests.fuzz.run --inside {name} "{self._program}" "$@"'
        self._program.write_text(f"#!/bin/sh\n{command}\n")
        self._program.chmod(0o755)

    def made(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir()
        return folder

    def run(self, *arguments: str) -> int:
        limits = [f"-max_len={MAX_INPUT}", f"-rss_limit_mb={MAX_MEMORY}", f"-timeout={MAX_SECONDS}"]
        run = subprocess.run(
            [str(self._program), *limits, *arguments],
            cwd=HERE.parents[1],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if run.returncode:
            print(run.stderr[-4000:], file=sys.stderr)
        else:
            print(f"{self._name}:", *run.stderr.splitlines()[-1:], flush=True)
        return run.returncode


def _fuzz(name: str, arguments: list[str]) -> None:
    """`arguments`: libFuzzer's, the program's name first. Never returns: libFuzzer ends the process."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]  # it has no types, if it is there

    with atheris.instrument_imports(include=["bridge", "lambda_fn"]):
        from tests.fuzz.targets import TARGETS

    logging.disable()  # what a function logs of odd requests is of no interest here
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
