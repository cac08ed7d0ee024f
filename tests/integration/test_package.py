"""The command `package`: zips and folders for images, without a network."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.cli import main
from bridge.packaging import build, own_files, recipe
from bridge.packaging.marks import ZIP_COMMENT
from tests.support.folders import filled
from tests.support.wheels import machine_code, only_index, write_wheel

HERE = "{}.{}".format(*sys.version_info)
OTHER = "3.15" if HERE != "3.15" else "3.14"
"""A version of Python that is not on this machine, as far as anybody knows."""
APP = "import settings\n\ndef handler(event, context):\n    return settings.NAME\n"
needs_uv = pytest.mark.skipif(
    shutil.which("uv") is None and not Path(sys.executable).with_name("uv").exists(), reason="uv is not installed"
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


class Ran:
    """What a run of the command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs the command in the folder `work`, and checks that it leaves nothing behind."""
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("BRIDGE_CONFIG", raising=False)

    def run(*words: str | Path, code: int = 0) -> Ran:
        capsys.readouterr()
        ended = main(["package", *map(str, words)])
        said = capsys.readouterr()
        assert code == ended, said.err
        return Ran(ended, said.out, said.err)

    yield run
    assert [] == list(scratch.iterdir())
    assert [] == list(work.rglob("*.partial"))
    monkeypatch.undo()
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def work(tmp_path: Path, package: Any) -> Path:
    return tmp_path / "work"


def configured(work: Path, **function: Any) -> None:
    """A configuration with the function `orders` in the folder `orders`."""
    entry = {"code": "orders", **function}
    (work / "bridge.yaml").write_text(
        yaml.safe_dump({"services": {"a.B": "local:orders"}, "functions": {"orders": entry}})
    )


def names(file: Path) -> list[str]:
    with zipfile.ZipFile(file) as packed:
        return packed.namelist()


def plain(work: Path, **extra: str) -> Path:
    """A function without dependencies."""
    return filled(work / "orders", {"app.py": APP, "settings.py": "NAME = 'orders'\n", **extra})


# -- a zip -------------------------------------------------------------------------------------------------------------


def test_a_function_of_the_configuration_becomes_a_zip(work: Path, package: Any) -> None:
    """Its files, with bytecode of the version that runs it; not the bridge's configuration."""
    plain(work)
    configured(work, handler="app.handler")
    ran = package("orders", "--python", HERE)
    tag = HERE.replace(".", "")

    assert ran.out.startswith("dist/orders.zip: 0.0 MB, 0.0 MB unzipped, for python")
    assert f"checked: imported app.handler with Python {HERE}" in ran.out
    assert [
        f"__pycache__/app.cpython-{tag}.pyc",
        f"__pycache__/settings.cpython-{tag}.pyc",
        "app.py",
        "settings.py",
    ] == names(work / "dist/orders.zip")
    with zipfile.ZipFile(work / "dist/orders.zip") as packed:
        assert packed.comment == ZIP_COMMENT
        assert {0o100644} == {entry.external_attr >> 16 for entry in packed.infolist()}


def test_a_zip_may_be_read_by_everybody_who_may_read_new_files(work: Path, package: Any) -> None:
    plain(work)
    mask = os.umask(0o027)
    try:
        package("orders")
    finally:
        os.umask(mask)

    assert 0o640 == (work / "dist/orders.zip").stat().st_mode & 0o777


def test_two_runs_make_the_same_bytes(work: Path, package: Any, tmp_path: Path) -> None:
    """Whatever the files' times, the order in the folder, its path, the working directory and the umask."""
    sets = "KINDS = frozenset({'a', 'b', 'c', 'd', 'e', 'f'})\n"
    plain(work, **{"sub/kinds.py": sets, "bin/tool": "#!/bin/sh\n"})
    (work / "orders/bin/tool").chmod(0o744)
    package("orders", "--python", HERE, "--into", "one.zip")

    other = tmp_path / "elsewhere/deep/orders"
    other.mkdir(parents=True)
    for name in ("bin/tool", "sub/kinds.py", "settings.py", "app.py"):
        (other / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(work / "orders" / name, other / name)
        os.utime(other / name, (1e9, 1e9))
    (other / "bin/tool").chmod(0o711)
    mask = os.umask(0o077)
    try:
        package(other, "--python", HERE, "--into", "two.zip")
    finally:
        os.umask(mask)

    assert (work / "one.zip").read_bytes() == (work / "two.zip").read_bytes()


def test_bytecode_holds_no_path_of_this_machine_and_is_checked_against_its_source(work: Path, package: Any) -> None:
    """PEP 552: flags 0b11 are a hash that Python compares."""
    plain(work)
    package("orders", "--python", HERE)
    with zipfile.ZipFile(work / "dist/orders.zip") as packed:
        compiled = [packed.read(name) for name in packed.namelist() if name.endswith(".pyc")]

    assert 2 == len(compiled)
    for content in compiled:
        assert (3).to_bytes(4, "little") == content[4:8]
        assert b"/var/task/" in content
        assert str(work).encode() not in content


def test_the_folder_of_a_function_is_as_good_as_its_name(work: Path, package: Any) -> None:
    """The configuration knows its handler and its files; one that lies in the folder is read as well."""
    filled(work, {"orders/main.py": APP, "orders/settings.py": "NAME = 1", "orders/notes.txt": ""})
    configured(work, handler="main.handler", package={"exclude": ["*.txt"]})

    assert "imported main.handler" in package("./orders", "--python", HERE).out
    assert "notes.txt" not in names(work / "dist/orders.zip")

    (work / "bridge.yaml").unlink()
    (work / "orders/bridge.yaml").write_text("services: {a.B: 'local:x'}\nfunctions: {x: {handler: main.handler}}")
    assert "imported main.handler" in package("orders", "--python", HERE).out
    assert "bridge.yaml" not in names(work / "dist/x.zip")


def test_a_folder_without_a_configuration_is_packed(work: Path, package: Any) -> None:
    """Its handler is found by the usual names, or is not known."""
    plain(work)
    filled(work / "other", {"code.py": ""})

    assert "imported app.handler" in package("orders", "--python", HERE).out
    assert "not checked: no handler is known" in package("other", "--python", HERE).out
    filled(work / "third", {"code.py": "def go(event, context): ..."})
    assert "imported code.go" in package("third", "--python", HERE, "--handler", "code.go").out


def test_include_and_exclude_are_those_of_the_function_and_of_the_flags(work: Path, package: Any) -> None:
    plain(work, **{".gitignore": "*.bin\n*.dat\n", "a.bin": "", "b.dat": "", "c.txt": "", "d.md": ""})
    configured(work, handler="app.handler", package={"include": ["a.bin"], "exclude": ["c.txt"]})
    package("orders", "--python", HERE, "--include", "*.dat", "--exclude", "*.md")

    assert {"app.py", "settings.py", "a.bin", "b.dat"} == {
        name for name in names(work / "dist/orders.zip") if not name.endswith(".pyc")
    }


def test_a_zip_in_the_functions_own_folder_does_not_grow_with_each_run(
    work: Path, package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it with other functions of the same folder."""
    plain(work)
    monkeypatch.chdir(work / "orders")
    package(".", "--python", HERE)
    first = (work / "orders/dist/orders.zip").read_bytes()
    package(".", "--python", HERE)
    package(".", "--python", HERE, "--into", "second.zip")

    assert first == (work / "orders/dist/orders.zip").read_bytes() == (work / "orders/second.zip").read_bytes()


def test_json_has_what_a_script_needs(work: Path, package: Any) -> None:
    """code_sha256 is that of Lambda's API."""
    import base64
    import hashlib

    plain(work)
    told = json.loads(package("orders", "--arch", "arm64", "-o", "json").out)
    content = (work / "dist/orders.zip").read_bytes()

    assert {
        "path": str(work / "dist/orders.zip"),
        "form": "zip",
        "function": "orders",
        "runtime": "python3.13",
        "architecture": "arm64",
        "handler": "app.handler",
        "zipped": len(content),
        "code_sha256": base64.b64encode(hashlib.sha256(content).digest()).decode(),
    }.items() <= told.items()
    assert {"files", "unzipped", "largest", "dependencies", "checked", "notes"} <= told.keys()


def test_without_a_terminal_there_are_quiet_lines(work: Path, package: Any) -> None:
    plain(work)
    said = package("orders", "--python", HERE).err.splitlines()

    assert ["looking for files", "fetching dependencies", "making bytecode", "packing", "importing the handler"] == said


# -- the version of Python ---------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_runtime_not_of_this_process(work: Path, package: Any) -> None:
    """The flag, then .python-version, then the function's own interpreter, then 3.13."""
    plain(work)

    def runtime(*words: str) -> str:
        return str(json.loads(package("orders", "--no-check", "-o", "json", *words).out)["runtime"])

    assert "python3.13" == runtime()
    configured(work, handler="app.handler", python=sys.executable)
    assert f"python{HERE}" == runtime()
    (work / "orders/.python-version").write_text("# pinned\n3.12.4\n")
    assert "python3.12" == runtime()
    assert "python3.14" == runtime("--python", "3.14")


@pytest.mark.parametrize("text", ["3.9", "3.99", "2.7", "three", "3", ""])
def test_a_version_without_a_runtime_is_refused(work: Path, package: Any, text: str) -> None:
    plain(work)

    assert "choose one of 3.10, 3.11," in package("orders", "--python", text, code=2).err


def test_what_another_python_leaves_unchecked_is_told(
    work: Path, package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No interpreter of that version is here, so there is no bytecode."""
    monkeypatch.setattr("bridge.packaging.build.find_interpreter", lambda *_, **__: None)
    plain(work)
    told = package("orders", "--python", OTHER).out

    assert f"it takes Python {OTHER}, which is not on this machine" in told
    assert f"not checked: Python {OTHER} itself" in told
    assert ["app.py", "settings.py"] == names(work / "dist/orders.zip")


# -- the look at the package -------------------------------------------------------------------------------------------


def test_an_ignored_file_that_the_handler_needs_is_named_with_its_rule(work: Path, package: Any) -> None:
    """Nothing is made then. What the rule says next helps."""
    plain(work, **{".gitignore": "# private\nsettings.py\n"})
    said = package("orders", "--python", HERE, code=1).err

    assert "app.handler cannot be imported from the package: ModuleNotFoundError: No module named 'settings'" in said
    assert f"settings.py is not in the package: the rule 'settings.py' in {work}/orders/.gitignore:2 ignores it" in said
    assert "--include settings.py" in said
    assert "/var/task/app.py" in said
    assert not (work / "dist/orders.zip").exists()
    package("orders", "--python", HERE, "--include", "settings.py")


CAUGHT = "try:\n    open('a.json')\nexcept OSError as error:\n    raise RuntimeError('no settings') from error"
EXITS = "try:\n    import data\nexcept ImportError:\n    raise SystemExit(3)"


@pytest.mark.parametrize(
    ("code", "rule", "missing"),
    [
        ("import data.tables", "data/tables.py", "data/tables.py"),
        ("from data import tables", "data/tables.py", "data/tables.py"),
        ("import data", "data/", "data/__init__.py"),
        ("import data.tables", "*a/", "data/__init__.py"),
        ("open('data/a.json')", "*.json", "data/a.json"),
        ("import pathlib; pathlib.Path(__file__).with_name('a.json').read_text()", "/a.*", "a.json"),
        ("import os; os.listdir('data')", "/data/*", "data"),
        (CAUGHT, "a.json", "a.json"),
        (EXITS, "data", "data/__init__.py"),
    ],
)
def test_whatever_way_a_file_is_missed_it_is_named(
    work: Path, package: Any, code: str, rule: str, missing: str
) -> None:
    """A module, a submodule, a package, a file by a path of any kind; also behind an error of the function's own."""
    files = dict.fromkeys(("data/__init__.py", "data/tables.py", "data/a.json", "a.json"), "")
    filled(
        work / "orders", {**files, "app.py": f"{code}\ndef handler(event, context): ...\n", ".gitignore": f"{rule}\n"}
    )
    said = package("orders", "--python", HERE, code=1).err

    assert "cannot be imported from the package" in said
    assert f"  {missing} is not in the package: the rule {rule!r} in {work}/orders/.gitignore:1 ignores it" in said


def test_a_file_that_was_excluded_is_named_too(work: Path, package: Any) -> None:
    plain(work)
    said = package("orders", "--python", HERE, "--exclude", "settings.py", code=1).err

    assert "settings.py is not in the package: package.exclude has 'settings.py'" in said
    assert "--include" not in said


def test_a_module_of_this_machine_does_not_stand_in(work: Path, package: Any) -> None:
    """Neither one of the bridge's environment nor one next to the working directory or on PYTHONPATH."""
    filled(work, {"orders/app.py": "import msgspec\ndef handler(event, context): ...\n", "msgspec.py": ""})
    said = package("orders", "--python", HERE, code=1).err

    assert "No module named 'msgspec'" in said
    assert "name it in requirements.txt" in said


def test_the_environment_is_that_of_lambda_and_of_the_function(
    work: Path, package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of this process."""
    monkeypatch.setenv("MINE_ALONE", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    code = """
import os
assert os.environ["STAGE"] == "dev"
assert os.environ["AWS_LAMBDA_FUNCTION_NAME"] == "orders"
assert os.environ["LAMBDA_TASK_ROOT"] == os.getcwd()
assert not {"MINE_ALONE", "AWS_SECRET_ACCESS_KEY"} & os.environ.keys()
def handler(event, context): ...
"""
    filled(work / "orders", {"app.py": code})
    configured(work, handler="app.handler", env={"STAGE": "dev"})

    assert "checked: imported app.handler" in package("orders", "--python", HERE).out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def other(): ...", "AttributeError: module 'app' has no attribute 'handler'"),
        ("handler = 3", "app.handler cannot be called: it is 3"),
        ("def handler(: ...", "SyntaxError"),
        ("import os; os._exit(7)", "the process that imported its module ended with exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with exit code -11"),
        ("raise RuntimeError('no table')", "RuntimeError: no table"),
    ],
)
def test_a_handler_that_cannot_be_had_is_told(work: Path, package: Any, code: str, said: str) -> None:
    """--no-check makes the package all the same, and says so."""
    filled(work / "orders", {"app.py": code})

    assert said in package("orders", "--python", HERE, code=1).err
    assert "not checked: the handler was not imported" in package("orders", "--python", HERE, "--no-check").out


def test_what_a_module_prints_or_writes_is_not_in_the_way(work: Path, package: Any) -> None:
    """Threads that it starts neither. Files that it writes are in no package."""
    code = """
import threading, time
print("{}")
open("written.txt", "w").write("x")
threading.Thread(target=time.sleep, args=(600,)).start()
def handler(event, context): ...
"""
    filled(work / "orders", {"app.py": code})
    package("orders", "--python", HERE)

    assert "written.txt" not in names(work / "dist/orders.zip")


# -- size --------------------------------------------------------------------------------------------------------------


def test_a_package_that_is_too_large_is_refused_before_it_is_packed(work: Path, package: Any) -> None:
    """With its largest folders. Files without content take no disk here."""
    plain(work)
    for name, mebibytes in {"models/large": 200, "models/small": 10, "data": 30, "assets": 20}.items():
        folder = filled(work / "orders" / name, {})
        with (folder / "a.bin").open("wb") as file:
            file.truncate(mebibytes << 20)
    began = time.process_time()
    said = package("orders", code=1).err

    assert "the function's own files: 272,629" in said
    assert "Lambda takes 262,144,000 (250 MiB)" in said
    shown = [line.split("MiB")[1].strip() for line in said.splitlines() if line.startswith("  ") and "MiB" in line]
    assert ["models/large/", "data/", "assets/", "models/small/"] == shown[:4]
    assert "--image" in said
    assert not (work / "dist").exists()
    assert time.process_time() - began < 5  # compressing this takes longer


def test_exactly_as_much_as_lambda_takes_is_fine(work: Path, package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_UNZIPPED", 100)
    folder = filled(work / "orders", {"a.txt": "x" * 60, "app.py": "handler = print".ljust(40)})
    package("orders", "--python", OTHER, "--no-check")
    (folder / "a.txt").write_text("x" * 61)

    assert "101 bytes" in package("orders", "--python", OTHER, "--no-check", code=1).err


def test_a_zip_that_needs_s3_says_so(work: Path, package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_DIRECT_UPLOAD", 10)
    plain(work)

    assert "upload it to S3" in package("orders").out


def test_the_limits_are_those_of_aws() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
    assert (262_144_000, 52_428_800) == (recipe.MAX_UNZIPPED, recipe.MAX_DIRECT_UPLOAD)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_former_zip_stays_whole_until_the_new_one_is(work: Path, package: Any) -> None:
    plain(work)
    package("orders", "--python", HERE)
    former = (work / "dist/orders.zip").read_bytes()
    (work / "orders/app.py").write_text("import nothing_like_it\n")
    package("orders", "--python", HERE, code=1)

    assert former == (work / "dist/orders.zip").read_bytes()


@pytest.mark.parametrize("kind", ["folder", "pipe", "the function's folder"])
def test_what_cannot_become_a_zip_is_not_replaced(work: Path, package: Any, kind: str) -> None:
    plain(work)
    out = work / "out"
    if kind == "folder":
        filled(out, {"precious": ""})
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out = work / "orders"

    assert "--into" in package("orders", "--into", out, code=1).err
    assert out.exists()


def test_a_name_that_is_nothing_is_refused_with_the_nearest(work: Path, package: Any) -> None:
    plain(work)
    assert "functions`: there are none" in package("ordes", code=2).err
    configured(work, handler="app.handler")
    assert 'did you mean "orders"?' in package("ordes", code=2).err
    assert "they are orders" in package("zzz", code=2).err


def test_a_folder_of_several_functions_asks_which(work: Path, package: Any) -> None:
    plain(work)
    functions = {name: {"code": "orders", "handler": "app.handler"} for name in ("one", "two")}
    (work / "bridge.yaml").write_text(yaml.safe_dump({"services": {"a.B": "local:one"}, "functions": functions}))

    assert "name one of one, two" in package("orders", code=2).err
    package("two", "--python", HERE)
    assert (work / "dist/two.zip").exists()


def test_a_folder_that_is_no_function_is_told(work: Path, package: Any) -> None:
    filled(work / "papers", {"a.txt": ""})

    assert "neither a module in Python, nor a package.json, nor a bootstrap" in package("papers", code=2).err


def test_a_secret_in_the_folder_ends_it(work: Path, package: Any) -> None:
    plain(work, **{".env": "KEY=hunter2"})
    ran = package("orders", code=1)

    assert ".env: it holds secrets, by its name" in ran.err
    assert "hunter2" not in ran.err + ran.out


def command_in(work: Path, scratch: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bridge", "package", *words],
        cwd=work,
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(Path(own_files.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_leaves_nothing_behind(work: Path, tmp_path: Path, number: signal.Signals) -> None:
    """While the handler is imported: not even that process. The command ends by the signal."""
    scratch = tmp_path / "scratch"
    code = "import time, os\nopen('{0}', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    filled(work / "orders", {"app.py": code.format(tmp_path / "pid")})
    filled(work / "dist", {"orders.zip": "the former one"})
    process = command_in(work, scratch, "orders", "--python", HERE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    imported = int((tmp_path / "pid").read_text())

    assert -number == process.returncode
    assert not Path(f"/proc/{imported}").exists()
    assert "the former one" == (work / "dist/orders.zip").read_text()
    assert ["orders.zip"] == [path.name for path in (work / "dist").iterdir()]
    assert [] == list(scratch.iterdir())


def test_a_full_disk_leaves_nothing_behind(work: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the system's answer comes on the same way."""
    filled(work / "orders", {"app.py": "def handler(event, context): ...", "noise.bin": os.urandom(1 << 20)})
    filled(work / "dist", {"orders.zip": "the former one"})

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))

    process = command_in(work, tmp_path / "scratch", "orders", "--python", HERE, preexec_fn=limit)
    _, said = process.communicate(timeout=60)

    assert 1 == process.returncode
    assert "File too large. Nothing was changed" in said
    assert "Traceback" not in said
    assert ["orders.zip"] == [path.name for path in (work / "dist").iterdir()]
    assert "the former one" == (work / "dist/orders.zip").read_text()


# -- dependencies ------------------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, which is uv's only index."""
    folder = filled(tmp_path / "index", {})
    for name, value in only_index(folder, tmp_path / "uv-cache").items():
        monkeypatch.setenv(name, value)
    return folder


def compiled_wheels(index: Path) -> None:
    """A package with machine code, for two machines and two versions, as on an index."""
    for machine in ("x86_64", "aarch64"):
        for python in ("cp311", "cp313"):
            for platform in ("manylinux_2_17", "manylinux_2_34"):
                write_wheel(
                    index,
                    "compiled",
                    {
                        "compiled/__init__.py": f"WHERE = '{platform} {machine} {python}'\n",
                        f"compiled/core.{python}-{machine}.so": machine_code(machine),
                    },
                    tag=f"{python}-{python}-{platform}_{machine}",
                )


@needs_uv
@pytest.mark.parametrize(
    ("python", "arch", "expected"),
    [
        ("3.13", "arm64", "manylinux_2_34 aarch64 cp313"),
        ("3.13", "x86_64", "manylinux_2_34 x86_64 cp313"),
        ("3.11", "arm64", "manylinux_2_17 aarch64 cp311"),
        ("3.11", "x86_64", "manylinux_2_17 x86_64 cp311"),
    ],
)
def test_wheels_are_those_of_the_functions_machine(
    work: Path, package: Any, index: Path, python: str, arch: str, expected: str
) -> None:
    """Amazon Linux 2 up to Python 3.11, 2023 from 3.12 on; the machine is Lambda's, not ours."""
    compiled_wheels(index)
    plain(work, **{"requirements.txt": "compiled\n"})
    ran = package("orders", "--arch", arch, "--python", python, "--no-check")
    with zipfile.ZipFile(work / "dist/orders.zip") as packed:
        assert expected in packed.read("compiled/__init__.py").decode()
        code = [name for name in packed.namelist() if name.endswith(".so")]
    assert 1 == len(code)
    assert {"arm64": "aarch64", "x86_64": "x86_64"}[arch] in code[0]
    assert "with compiled==1.0" in ran.out


@needs_uv
def test_a_package_without_a_wheel_is_named_and_nothing_is_built(work: Path, package: Any, index: Path) -> None:
    """Of another machine, of another version, or with its source alone."""
    write_wheel(index, "only-intel", {"a.py": ""}, tag="cp313-cp313-manylinux_2_17_x86_64")
    write_wheel(index, "only-old", {"a.py": ""}, tag="cp310-cp310-manylinux_2_17_aarch64")
    source = filled(work.parent / "source/only_source-1.0", {"setup.py": "raise SystemExit('built!')", "PKG-INFO": ""})
    shutil.make_archive(str(index / "only_source-1.0"), "gztar", source.parent)
    for name in ("only-intel", "only-old", "only-source"):
        plain(work, **{"requirements.txt": f"{name}\n"})
        said = package("orders", "--arch", "arm64", code=1).err

        assert f"no wheel for Python 3.13 on arm64: {name}. Nothing is built here" in said, said
        assert "built!" not in said


@needs_uv
def test_a_package_that_nobody_has_is_told_in_uvs_words(work: Path, package: Any, index: Path) -> None:
    plain(work, **{"requirements.txt": "nobody-has-this\n"})
    said = package("orders", code=1).err

    assert "uv could not fetch the dependencies" in said
    assert "nobody-has-this" in said


@needs_uv
def test_dependencies_of_a_pyproject_are_fetched(work: Path, package: Any, index: Path) -> None:
    """requirements.txt goes before it, and --requirements before both."""
    for name in ("one", "two", "three"):
        write_wheel(index, name, {f"{name}.py": ""})
    project = '[project]\nname = "orders"\nversion = "1"\ndependencies = ["one"]\n'
    folder = plain(work, **{"pyproject.toml": project})

    def taken(*words: str) -> set[str]:
        package("orders", "--no-check", *words)
        return {"one.py", "two.py", "three.py"} & set(names(work / "dist/orders.zip"))

    assert {"one.py"} == taken()
    (folder / "requirements.txt").write_text("two\n")
    assert {"two.py"} == taken()
    (work / "other.txt").write_text("three\n")
    assert {"three.py"} == taken("--requirements", "other.txt")


@needs_uv
def test_a_lock_goes_before_the_rest_and_must_fit(work: Path, package: Any, index: Path) -> None:
    """The locked version is taken, not the newest; development dependencies are not."""
    write_wheel(index, "one", {"one.py": "OLD = 1"}, version="1.0")
    write_wheel(index, "tool", {"tool.py": ""})
    project = '[project]\nname = "orders"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["one"]\n'
    folder = plain(work, **{"pyproject.toml": f'{project}[dependency-groups]\ndev = ["tool"]\n'})
    uv = str(Path(sys.executable).with_name("uv")) if Path(sys.executable).with_name("uv").exists() else "uv"
    subprocess.run([uv, "lock", "--quiet", "--python", sys.executable], cwd=folder, check=True)
    write_wheel(index, "one", {"one.py": "NEW = 1"}, version="2.0")
    package("orders", "--no-check")
    with zipfile.ZipFile(work / "dist/orders.zip") as packed:
        assert b"OLD = 1" == packed.read("one.py")
        assert "tool.py" not in packed.namelist()

    (folder / "pyproject.toml").write_text(project.replace('"one"', '"one", "tool"'))
    assert "run `uv lock`" in package("orders", code=1).err


@needs_uv
@pytest.mark.parametrize("line", ["-e .", "--editable=.", ".", "./", "../lib", "file:../lib", "lib @ file://{}/lib"])
def test_a_project_on_this_machine_is_not_built(work: Path, package: Any, index: Path, line: str) -> None:
    """Neither the function's own nor another one: that would be code for this machine, with its paths."""
    project = {"pyproject.toml": '[project]\nname = "lib"\nversion = "1"\n', "setup.py": "raise SystemExit('built!')"}
    filled(work / "lib", project)
    plain(work, **project)
    (work / "orders/requirements.txt").write_text(f"{line.format(work)}\n")
    said = package("orders", code=1).err

    # What uv refuses itself has the first text.
    assert (
        "no wheel for Python 3.13 on x86_64: lib." if line.startswith("lib @") else "would have to be built"
    ) in said
    assert not (work / "dist").exists()


@needs_uv
def test_a_wheel_that_this_machine_has_built_is_refused_unless_it_is_named(
    work: Path, package: Any, index: Path
) -> None:
    """uv keeps what it has built, and finds it again."""
    tag = HERE.replace(".", "")
    wheel = write_wheel(index, "built", {"built.py": ""}, tag=f"cp{tag}-cp{tag}-linux_{os.uname().machine}")
    arch = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
    plain(work, **{"requirements.txt": "built\n"})
    assert "the dependencies have built, which would have to be built here" in (
        package("orders", "--python", HERE, "--arch", arch, code=1).err
    )

    (work / "orders/requirements.txt").write_text(f"{wheel}\n")
    package("orders", "--python", HERE, "--arch", arch)
    assert "built.py" in names(work / "dist/orders.zip")


@needs_uv
def test_nothing_of_the_installer_is_packed(work: Path, package: Any, index: Path) -> None:
    """No programs with paths of this machine, no stubs, no records; the metadata stays for importlib.metadata."""
    write_wheel(
        index,
        "one",
        {
            "one.py": "",
            "one.pyi": "",
            "one/native.c": "",
            "one-1.0.dist-info/entry_points.txt": "[console_scripts]\none = one:main\n",
        },
    )
    plain(work, **{"requirements.txt": "one\n", "bin/mine": ""})
    package("orders", "--no-check")
    packed = {name for name in names(work / "dist/orders.zip") if not name.endswith(".pyc")}

    assert {
        "app.py",
        "bin/mine",
        "one-1.0.dist-info/METADATA",
        "one-1.0.dist-info/WHEEL",
        "one-1.0.dist-info/entry_points.txt",
        "one.py",
        "requirements.txt",
        "settings.py",
    } == packed


@needs_uv
def test_lambda_fn_is_that_of_the_bridge_although_no_index_has_it(work: Path, package: Any, index: Path) -> None:
    """Because the requirements name it, or because the code imports it. What it needs comes too, and the wrapper."""
    for name, version in (("grpcio", "1.85.0"), ("protobuf", "7.0")):
        write_wheel(index, name, {f"{name}.py": ""}, version=version)
    folder = filled(work / "orders", {"app.py": "import lambda_fn\ndef handler(event, context): ...\n"})
    assert "lambda_fn" in package("orders", "--no-check").out
    by_code = set(names(work / "dist/orders.zip"))
    filled(folder, {"app.py": "def handler(event, context): ...\n", "requirements.txt": "grpc-lambda-fn>=0.1\n"})
    package("orders", "--no-check")
    by_name = set(names(work / "dist/orders.zip"))

    for packed in (by_code, by_name):
        assert {"lambda_fn/runtime.py", "grpcio.py", "protobuf.py", "lambda_fn_wrapper"} <= packed
        assert not {"lambda_fn/hatch_build.py", "lambda_fn/pyproject.toml"} & packed
    with zipfile.ZipFile(work / "dist/orders.zip") as zipped:
        assert 0o755 == zipped.getinfo("lambda_fn_wrapper").external_attr >> 16 & 0o777


@needs_uv
def test_another_version_of_lambda_fn_is_fetched_if_it_is_named(work: Path, package: Any, index: Path) -> None:
    write_wheel(
        index, "grpc-lambda-fn", {"lambda_fn/__init__.py": "OTHER = 1", "lambda_fn/runtime.py": ""}, version="9.9"
    )
    plain(work, **{"requirements.txt": "grpc-lambda-fn==9.9\n"})
    package("orders", "--no-check")
    with zipfile.ZipFile(work / "dist/orders.zip") as packed:
        assert b"OTHER = 1" == packed.read("lambda_fn/__init__.py")
        assert "lambda_fn/server.py" not in packed.namelist()


@needs_uv
def test_the_same_versions_stand_in_where_this_machine_cannot_load_the_wheels(
    work: Path, package: Any, index: Path
) -> None:
    """So the code is imported after all, and what was not checked is told."""
    other = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    arch = "arm64" if other == "aarch64" else "x86_64"
    tag = HERE.replace(".", "")
    for machine in (other, os.uname().machine):
        write_wheel(
            index,
            "compiled",
            {"compiled.py": f"MACHINE = {machine!r}\n", f"core-{machine}.so": machine_code(machine)},
            tag=f"cp{tag}-cp{tag}-manylinux_2_17_{machine}",
        )
    code = f"import compiled\nassert compiled.MACHINE == {os.uname().machine!r}\ndef handler(event, context): ...\n"
    filled(work / "orders", {"app.py": code, "requirements.txt": "compiled\n"})
    told = package("orders", "--python", HERE, "--arch", arch).out

    assert "checked: imported app.handler" in told
    assert f"not checked: the wheels for {arch} and Python {HERE} themselves" in told
    assert f"core-{other}.so" in names(work / "dist/orders.zip")


@needs_uv
def test_what_awss_runtime_brings_need_not_be_packed(work: Path, package: Any, index: Path) -> None:
    """boto3 in a zip; an image must bring it."""
    write_wheel(index, "boto3", {"boto3/__init__.py": "", "botocore/__init__.py": ""})
    filled(work / "orders", {"app.py": "import botocore, boto3\ndef handler(event, context): ...\n"})
    told = package("orders", "--python", HERE).out

    assert "botocore is not in the package: AWS's runtime brings it" in told
    assert "checked: imported app.handler" in told
    assert "boto3/__init__.py" not in names(work / "dist/orders.zip")


def test_without_uv_it_says_how_to_get_it(work: Path, package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function without dependencies does not need it."""
    monkeypatch.setattr("bridge.packaging.uv.shutil.which", lambda _: None)
    monkeypatch.setattr("bridge.packaging.uv._beside_python", lambda: work / "uv")
    plain(work)
    package("orders", "--python", HERE)
    plain(work, **{"requirements.txt": "one\n"})

    assert "pip install 'grpc-lambda-bridge[package]'" in package("orders", code=1).err


# -- programs ----------------------------------------------------------------------------------------------------------


def program(work: Path, machine: str = "x86_64", name: str = "bootstrap") -> Path:
    folder = filled(work / "rusty", {name: machine_code(machine), "data.txt": ""})
    (folder / name).chmod(0o755)
    return folder


def test_a_program_is_packed_as_it_is(work: Path, package: Any) -> None:
    program(work)
    ran = package("rusty")

    assert "for provided.al2023 on x86_64" in ran.out
    assert "importing the handler" not in ran.err
    with zipfile.ZipFile(work / "dist/rusty.zip") as packed:
        assert ["bootstrap", "data.txt"] == packed.namelist()
        assert 0o755 == packed.getinfo("bootstrap").external_attr >> 16 & 0o777


@pytest.mark.parametrize("command", ["./bootstrap", "./target/release/bootstrap", "./current"])
def test_a_program_that_git_ignores_is_packed(work: Path, package: Any, command: str) -> None:
    """Compilers write it where nothing else is packed; or a link names it."""
    folder = program(work, name="target/release/bootstrap")
    shutil.copy(folder / "target/release/bootstrap", folder / "bootstrap")
    filled(folder, {".gitignore": "target\n/bootstrap\n", "target/CACHEDIR.TAG": "", "target/debug/app": ""})
    (folder / "current").symlink_to("target/release/bootstrap")
    functions = {"rusty": {"code": "rusty", "command": [command]}}
    (work / "bridge.yaml").write_text(yaml.safe_dump({"services": {"a.B": "local:rusty"}, "functions": functions}))
    package("rusty")

    packed = set(names(work / "dist/rusty.zip"))
    # The link is no rule's business, and becomes what it leads to. Lambda starts the bootstrap, which starts the rest.
    assert {command.removeprefix("./"), "data.txt", "bootstrap", "current"} == packed


def test_a_folder_with_nothing_but_a_program_is_enough(work: Path, package: Any) -> None:
    folder = program(work)
    (folder / "data.txt").unlink()
    (folder / ".gitignore").write_text("bootstrap\n")
    package("rusty")

    assert ["bootstrap"] == names(work / "dist/rusty.zip")


def test_a_program_out_of_the_folder_is_not_packed(work: Path, package: Any) -> None:
    folder = program(work, name="other")
    filled(work / "outside", {"tool": machine_code("x86_64")})
    (work / "outside/tool").chmod(0o755)
    for command in ("../outside/tool", "./linked"):
        functions = {"rusty": {"code": "rusty", "command": [command]}}
        (work / "bridge.yaml").write_text(yaml.safe_dump({"services": {"a.B": "local:rusty"}, "functions": functions}))
        if command == "./linked":
            (folder / "linked").symlink_to("../outside/tool")
            (folder / ".gitignore").write_text("linked\n")

        assert "the program that rusty starts" in package("rusty", code=1).err


def test_a_program_for_another_machine_is_refused(work: Path, package: Any) -> None:
    program(work, "aarch64")
    assert "is a program for aarch64, and the function runs on Linux for x86_64" in package("rusty", code=1).err
    package("rusty", "--arch", "arm64")
    filled(work / "rusty", {"bootstrap": b"\xcf\xfa\xed\xfe" + bytes(100)})
    assert "is a program for macOS" in package("rusty", code=1).err


def test_a_program_that_cannot_start_is_refused(work: Path, package: Any) -> None:
    folder = program(work)
    (folder / "bootstrap").chmod(0o644)
    assert "not executable: chmod +x" in package("rusty", code=1).err

    def configure(*command: str) -> None:
        functions = {"rusty": {"code": "rusty", "command": list(command)}}
        (work / "bridge.yaml").write_text(yaml.safe_dump({"services": {"a.B": "local:rusty"}, "functions": functions}))

    configure("./gone")
    assert "has no gone, the program that rusty starts" in package("rusty", code=1).err
    configure("/opt/tool")
    assert "not in its folder" in package("rusty", code=1).err
    configure("python3", "app.py")
    assert "which AWS's runtime for programs (provided.al2023) does not have" in package("rusty", code=1).err


def test_another_command_gets_a_bootstrap_that_starts_it(work: Path, package: Any, tmp_path: Path) -> None:
    """As it is run locally: in the function's folder, with its arguments."""
    folder = filled(work / "rusty", {"bin/serve it": '#!/bin/sh\necho "$PWD|$1|$2"\n'})
    (folder / "bin/serve it").chmod(0o755)
    functions = {"rusty": {"code": "rusty", "command": ["./bin/serve it", "a b", "$HOME"]}}
    (work / "bridge.yaml").write_text(yaml.safe_dump({"services": {"a.B": "local:rusty"}, "functions": functions}))
    package("rusty")
    subprocess.run(["unzip", "-q", work / "dist/rusty.zip", "-d", tmp_path / "task"], check=True)
    ended = subprocess.run(
        [tmp_path / "task/bootstrap"],
        env={"LAMBDA_TASK_ROOT": str(tmp_path / "task")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"{tmp_path}/task|a b|$HOME\n" == ended.stdout


# -- Node.js -----------------------------------------------------------------------------------------------------------


@needs_node
def test_a_function_in_node_is_packed_with_its_modules(work: Path, package: Any) -> None:
    """An existing node_modules, though git ignores it; without the links of npm."""
    folder = filled(
        work / "web",
        {
            ".gitignore": "node_modules\n*.log\n",
            "package.json": json.dumps({"type": "module", "dependencies": {"greet": "1"}}),
            "index.js": "import { hi } from 'greet';\nexport const handler = async () => hi;\n",
            "node_modules/greet/package.json": json.dumps({"name": "greet", "version": "1.2.3", "main": "index.js"}),
            "node_modules/greet/index.js": "exports.hi = 'hi';\n",
            "node_modules/greet/cli.js": "",
            "a.log": "",
        },
    )
    (folder / "node_modules/.bin").mkdir()
    (folder / "node_modules/.bin/greet").symlink_to("../greet/cli.js")
    ran = package("web")

    assert "for nodejs on x86_64" in ran.out
    assert "with greet@1.2.3" in ran.out
    assert "checked: imported index.handler with Node.js v" in ran.out
    assert [
        "index.js",
        "node_modules/greet/cli.js",
        "node_modules/greet/index.js",
        "node_modules/greet/package.json",
        "package.json",
    ] == names(work / "dist/web.zip")


@needs_node
@pytest.mark.parametrize("ending", ["js", "mjs"])
def test_an_ignored_script_that_the_handler_needs_is_named(work: Path, package: Any, ending: str) -> None:
    imported = {
        "js": "const { x } = require('./lib/helper');\nexports.handler = async () => x;\n",
        "mjs": "import { x } from './lib/helper.mjs';\nexport const handler = async () => x;\n",
    }
    filled(
        work / "web",
        {".gitignore": "lib/\n", f"index.{ending}": imported[ending], f"lib/helper.{ending}": "", "package.json": "{}"},
    )
    said = package("web", code=1).err

    assert "index.handler cannot be imported from the package" in said
    assert f"lib/helper.{ending} is not in the package: the rule 'lib/' in {work}/web/.gitignore:1 ignores it" in said


@needs_node
def test_a_module_that_is_in_no_package_json_is_told(work: Path, package: Any) -> None:
    filled(work / "web", {"index.js": "require('nobody-has-this');\nexports.handler = async () => 1;\n"})

    assert "If it is a dependency, name it in package.json" in package("web", code=1).err


@needs_node
def test_a_data_file_that_node_misses_is_named(work: Path, package: Any) -> None:
    code = "require('fs').readFileSync('data/a.json');\nexports.handler = async () => 1;\n"
    filled(work / "web", {".gitignore": "*.json\n", "index.js": code, "data/a.json": ""})

    assert "data/a.json is not in the package: the rule '*.json'" in package("web", code=1).err


def test_dependencies_of_node_must_be_somewhere(work: Path, package: Any) -> None:
    """Neither locked nor installed; or installed as links, or for another machine."""
    folder = filled(
        work / "web",
        {"index.js": "exports.handler = async () => 1;\n", "package.json": '{"dependencies": {"greet": "1"}}'},
    )
    assert "run `npm install`" in package("web", code=1).err
    filled(folder, {"node_modules/.pnpm/lock.yaml": ""})
    assert "node-linker=hoisted" in package("web", code=1).err
    shutil.rmtree(folder / "node_modules")
    filled(folder, {"node_modules/greet/binding.gyp": "", "node_modules/greet/package.json": "{}"})
    assert "greet is a package in C++ that is built when it is installed" in package("web", code=1).err
    filled(folder, {"node_modules/greet/prebuilds/linux-x64/a.node": machine_code("x86_64")})
    package("web", "--no-check")
    assert "brings nothing for linux-arm64" in package("web", "--arch", "arm64", code=1).err


def test_a_web_function_is_for_arm64_and_has_no_handler(work: Path, package: Any) -> None:
    filled(work / "shop", {"index.js": "require('http').createServer().listen(3000)\n"})
    functions = {"shop": {"code": "shop", "web": {"command": ["node", "index.js"]}, "package": {"exclude": ["*.md"]}}}
    (work / "bridge.yaml").write_text(yaml.safe_dump({"services": {"a.B": "local:shop"}, "functions": functions}))
    told = package("shop").out

    assert "on arm64" in told
    assert "not checked: a Web Function starts its server" in told
    assert "a Web Function takes no image" in package("shop", "--image", code=1).err


# -- images ------------------------------------------------------------------------------------------------------------


@needs_uv
def test_an_image_is_a_folder_for_docker_build(work: Path, package: Any, index: Path) -> None:
    """Python: behind lambda_fn.runtime, which comes with it. All files may be read by everybody."""
    for name, version in (("grpcio", "1.85.0"), ("protobuf", "7.0")):
        write_wheel(index, name, {f"{name}.py": ""}, version=version)
    plain(work)
    ran = package("orders", "--image", "--arch", "arm64", "--python", HERE)
    folder = work / "dist/orders"
    text = (folder / "Dockerfile").read_text()

    assert "Next: docker build --platform linux/arm64 --provenance=false -t orders dist/orders" in ran.out
    assert f"ARG BASE=python:{HERE}-slim\n" in text
    assert "COPY task /var/task\n" in text
    assert "HANDLER=app.handler" in text
    assert 'exec python -m lambda_fn.runtime \\"${1:-$HANDLER}\\"' in text
    assert {"app.py", "lambda_fn", "grpcio.py"} <= {path.name for path in (folder / "task").iterdir()}
    assert {0o755} == {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.is_dir()}
    assert {0o644} == {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


def test_images_of_programs_and_of_node(work: Path, package: Any) -> None:
    program(work)
    filled(work / "web", {"index.js": "exports.handler = async () => 1;\n"})
    package("rusty", "--image")
    package("web", "--image", "--no-check")
    rusty, web = ((work / "dist" / name / "Dockerfile").read_text() for name in ("rusty", "web"))

    assert 'ENTRYPOINT ["./bootstrap"]' in rusty
    assert "COPY runtime /var/runtime" in web
    assert {"runtime.mjs", "handler.mjs"} == {path.name for path in (work / "dist/web/runtime").iterdir()}


def test_an_image_replaces_its_former_folder_and_no_other(work: Path, package: Any) -> None:
    """Two runs make the same folder. Files of before are gone."""
    folder = program(work)
    package("rusty", "--image")
    (folder / "data.txt").unlink()
    package("rusty", "--image")
    assert ["bootstrap"] == [path.name for path in (work / "dist/rusty/task").iterdir()]

    filled(work / "precious", {"Dockerfile": "FROM scratch", "work.txt": ""})
    assert "is there already and no package" in package("rusty", "--image", "--into", "precious", code=1).err
    assert {"Dockerfile", "work.txt"} == {path.name for path in (work / "precious").iterdir()}


def test_an_image_of_a_handler_needs_its_name(work: Path, package: Any) -> None:
    filled(work / "other", {"code.py": ""})

    assert "add --handler NAME" in package("other", "--image", code=1).err
