"""Changes of files below functions' folders."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.emulator.file_watch import FileWatch


async def test_a_change_names_its_folder_and_caches_do_not_count(tmp_path: Path) -> None:
    """What Python writes by itself must not restart anything."""
    quiet, changed, missing = tmp_path / "quiet", tmp_path / "changed", tmp_path / "missing"
    (quiet / "__pycache__").mkdir(parents=True)
    changed.mkdir()
    seen: asyncio.Queue[set[Path]] = asyncio.Queue()
    watch = FileWatch(seen.put_nowait)
    await watch.follow({quiet, changed, missing})
    try:
        first = None
        number = 0
        # The watcher starts in a thread: files are written until it sees one.
        while first is None:
            number += 1
            (quiet / "__pycache__" / f"{number}.pyc").write_text("")
            (quiet / "bridge.log").write_text(f"{number}")
            (changed / f"{number}.py").write_text("")
            try:
                async with asyncio.timeout(0.3):
                    first = await seen.get()
            except TimeoutError:
                continue
    finally:
        await watch.close()

    assert {changed} == first


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_our_own_output_does_not_count(tmp_path: Path) -> None:
    """`serve 2> out.txt` in the function's folder: each line would restart the function, and say so in the next line."""
    source = (
        "import sys\n"
        "from watchfiles import Change\n"
        "from bridge.emulator.file_watch import _Sources\n"
        "for path in sys.argv[1:]:\n"
        "    print(_Sources()(Change.modified, path))\n"
    )
    ours, other = tmp_path / "out.txt", tmp_path / "app.py"
    with ours.open("w") as errors:
        done = subprocess.run(
            [sys.executable, "-c", source, str(ours), str(other)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=True,
        )

    assert ["False", "True"] == done.stdout.split()
