"""Changes of files below functions' folders."""

from __future__ import annotations

import asyncio
from pathlib import Path

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
            (changed / f"{number}.py").write_text("")
            try:
                async with asyncio.timeout(0.3):
                    first = await seen.get()
            except TimeoutError:
                continue
    finally:
        await watch.close()

    assert {changed} == first
