"""Changes of files below functions' folders."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.emulator.instances.file_watch import FileWatch

pytestmark = pytest.mark.real_clock  # the kernel tells of changes through a thread


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
    """`serve 2> out.txt` in the function's folder: each line would restart the function, and say so in the next
    line.
    """
    source = (
        "import sys\n"
        "from watchfiles import Change\n"
        "from bridge.emulator.instances.file_watch import _Sources\n"
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


@pytest.mark.slow
async def test_a_folder_that_is_made_anew_is_followed(tmp_path: Path) -> None:
    """`rm -rf dist && build`: its coming counts as a change, and so does what changes in it afterwards; likewise one
    that comes late.
    """
    folder = tmp_path / "dist"
    seen: asyncio.Queue[set[Path]] = asyncio.Queue()
    watch = FileWatch(seen.put_nowait, looked_after=0.05)
    await watch.follow({folder})
    try:
        async with asyncio.timeout(20):
            for _ in range(2):
                folder.mkdir()
                assert {folder} == await seen.get()
                while seen.empty():  # the watcher starts in a thread
                    (folder / "app.py").write_text(str(time.monotonic()))
                    await asyncio.sleep(0.3)
                shutil.rmtree(folder)
                await asyncio.sleep(0.5)
                while not seen.empty():
                    seen.get_nowait()
    finally:
        await watch.close()
