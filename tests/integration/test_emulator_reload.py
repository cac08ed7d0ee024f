"""`reload`: which changes of files restart a function, and what the log says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.config.schema import FunctionConfig, Reload
from tests.support.emulator import Caller, handler, local_lambda

pytestmark = pytest.mark.slow

SOURCE = """
import os, pathlib, time

def handler(event, context):
    for name, text in (event.get("write") or {}).items():
        pathlib.Path(name).parent.mkdir(exist_ok=True)
        pathlib.Path(name).write_text(text)
    for name in event.get("remove", ()):
        pathlib.Path(name).unlink()
    time.sleep(event.get("sleep", 0))
    return os.getpid()
"""


def function(folder: Path, rules: Reload | None = None) -> FunctionConfig:
    return handler(folder, SOURCE, reload=rules or Reload())


def told(caller: Caller) -> list[str]:
    return [line for _, line in caller.lines if "starts anew" in line]


async def reloads(caller: Caller, folder: Path, act: Callable[[], object]) -> list[str]:
    """The lines that follow an act, without that of a last change that is seen for sure."""
    before = len(told(caller))
    act()
    await asyncio.sleep(1)
    last = f"mark{before}.py changed: the next invocation starts anew"
    (folder / f"mark{before}.py").write_text("last")
    await caller.line(last)
    assert last == told(caller)[-1]
    return told(caller)[before:-1]


async def test_a_file_of_the_source_restarts_the_function(tmp_path: Path) -> None:
    """The line names the file by its path in the folder, once."""
    (tmp_path / "lib").mkdir()
    async with local_lambda(function(tmp_path)) as caller:
        first = (await caller.invoke()).result
        lines = await reloads(caller, tmp_path, lambda: (tmp_path / "lib/part.py").write_text("new"))
        second = (await caller.invoke()).result

    assert ["lib/part.py changed: the next invocation starts anew"] == lines
    assert first != second


async def test_a_line_names_three_files_at_most(tmp_path: Path) -> None:
    def write(*names: str) -> None:
        for name in names:
            (tmp_path / name).write_text("new")

    async with local_lambda(function(tmp_path)) as caller:
        two = await reloads(caller, tmp_path, lambda: write("a.py", "b.py"))
        many = await reloads(caller, tmp_path, lambda: write(*(f"c{number}.py" for number in range(6))))

    assert ["a.py and b.py changed: the next invocation starts anew"] == two
    assert ["c0.py, c1.py, c2.py and 3 more files changed: the next invocation starts anew"] == many


async def test_functions_in_one_folder_restart_by_their_own_rules(tmp_path: Path) -> None:
    """One line for each that restarts."""
    first = function(tmp_path)
    second = replace(first, name="second", reload=Reload(exclude=("*.txt",)))
    never = replace(first, name="never", reload=None)
    async with local_lambda(first, second, never) as caller:
        (tmp_path / "a.txt").write_text("new")
        await caller.line("a.txt changed: the next invocation starts anew")
        await asyncio.sleep(0.5)
        (tmp_path / "a.py").write_text("new")
        while len(told(caller)) < 3:
            await asyncio.sleep(0.05)
        lines = [(name, line.partition(" ")[0]) for name, line in caller.lines if "starts anew" in line]

    assert [("fn", "a.py"), ("fn", "a.txt"), ("second", "a.py")] == sorted(lines)


@pytest.mark.parametrize("name", ["state.json", "data/deep.db", "out", "made.py", "cache.txt"])
async def test_what_the_function_writes_does_not_count(tmp_path: Path, name: str) -> None:
    """The first time, and each time after. Nor does its end."""
    async with local_lambda(function(tmp_path)) as caller:
        pids = []
        for number in range(3):
            pids.append((await caller.invoke({"write": {name: f"{number}"}})).result)
            await asyncio.sleep(0.6)
        pids.append((await caller.invoke({"remove": [name]})).result)
        await asyncio.sleep(1)
        lines = told(caller)
        restarted = await reloads(caller, tmp_path, lambda: (tmp_path / "fn.py").write_text(SOURCE + "# new"))

    assert [] == lines
    assert 1 == len(set(pids))
    assert ["fn.py changed: the next invocation starts anew"] == restarted


async def test_what_the_author_saves_counts_while_the_function_writes(tmp_path: Path) -> None:
    """Code that was there before, in the middle of an invocation; a data file, while none runs."""
    async with local_lambda(function(tmp_path)) as caller:
        busy = asyncio.get_running_loop().create_task(caller.invoke({"write": {"state.json": "1"}, "sleep": 1.5}))
        while not (tmp_path / "state.json").exists():
            await asyncio.sleep(0.01)
        (tmp_path / "fn.py").write_text(SOURCE + "# new")
        await caller.line("fn.py changed: the next invocation starts anew")
        await busy
        await asyncio.sleep(0.2)
        (tmp_path / "state.json").write_text("2")
        await caller.line("state.json changed: the next invocation starts anew")


async def test_a_file_that_include_names_counts_whoever_writes_it(tmp_path: Path) -> None:
    async with local_lambda(function(tmp_path, Reload(include=("*.json",)))) as caller:
        await caller.invoke({"write": {"state.json": "1", "other.txt": "1"}})
        await caller.line("state.json changed: the next invocation starts anew")


async def test_a_handler_in_a_folder_of_its_own_is_followed(tmp_path: Path) -> None:
    """`code` may be given as a path with links in it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    async with local_lambda(function(tmp_path / "link")) as caller:
        first = (await caller.invoke()).result
        (tmp_path / "real/fn.py").write_text(SOURCE + "# new")
        await caller.line("fn.py changed: the next invocation starts anew")
        second = (await caller.invoke()).result

    assert first != second
