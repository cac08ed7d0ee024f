"""From `new` over `package` to a call: what was packed answers gRPC calls, without any other package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.packaging.machine import machine_code_for
from tests.support.bridge_process import bridge_command, running_bridge
from tests.support.folders import filled
from tests.support.rie import runtime_interface_emulator
from tests.support.wheels import only_index, wheel_of_installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HERE = "{}.{}".format(*sys.version_info)
MACHINE = os.uname().machine
ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}[MACHINE]
BARE = Path(sys.base_prefix) / "bin" / f"python{HERE}"
"""The interpreter without this environment's packages."""
ALONE = [str(BARE), "-I", "-S", "-c"]
RUN = "import os, sys; sys.path.insert(0, os.getcwd()); from lambda_fn.runtime import main; main(['app.handler'])"
CALL = ("greeter.Greeter/SayHello", '{"name": "you"}')

needs_uv = pytest.mark.skipif(
    shutil.which("uv") is None and not Path(sys.executable).with_name("uv").exists(), reason="uv is not installed"
)


def packaged(folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the command says of the package that it has made."""
    ended = bridge_command("package", *words, "-o", "json", folder=folder, environ=dict(environ or {}))
    assert 0 == ended.returncode, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a function that `new` has made."""
    folder = tmp_path_factory.mktemp("package")
    ended = bridge_command("new", "greeter", folder=folder)
    assert 0 == ended.returncode, ended.stderr
    return folder


@pytest.fixture(scope="module")
def offline(work: Path) -> dict[str, str]:
    """Variables with which uv finds the libraries of this environment, and no index."""
    tag = f"cp{HERE.replace('.', '')}"
    for name in ("grpcio", "protobuf"):
        wheel_of_installed(work / "index", name, f"{tag}-{tag}-manylinux_2_17_{MACHINE}")
    wheel_of_installed(work / "index", "typing-extensions", "py3-none-any")
    return only_index(work / "index", work / "uv-cache")


@pytest.fixture(scope="module")
def task(work: Path, offline: dict[str, str]) -> Path:
    """/var/task as Lambda makes it of the zip: read-only."""
    told = packaged(work / "greeter", "greeter", "--python", HERE, "--arch", ARCH, environ=offline)
    assert told["checked"].startswith("imported app.handler with Python")
    folder = work / "task"
    subprocess.run(["unzip", "-q", told["path"], "-d", folder], check=True)
    return folder


@needs_uv
def test_a_zip_answers_behind_the_local_lambda(task: Path, tmp_path: Path) -> None:
    """In an interpreter that has nothing but the zip."""
    config = {
        "services": {"greeter.Greeter": "local:greeter"},
        "functions": {"greeter": {"command": [*ALONE, RUN], "code": str(task), "timeout": "20s", "memory": "512MiB"}},
    }
    with running_bridge(tmp_path, config) as bridge:
        called = bridge_command("call", "--to", bridge.address, *CALL, folder=tmp_path)

    assert "Hello, you!" in called.stdout, called.stderr


@needs_uv
@pytest.mark.clients
def test_a_zip_answers_behind_awss_emulator_through_the_wrapper(task: Path, tmp_path: Path) -> None:
    """As on the managed runtime: the wrapper gets the command line of the runtime, and finds the zip's lambda_fn."""
    script = f'export LAMBDA_TASK_ROOT="$PWD"; exec ./lambda_fn_wrapper {BARE} -S -s /var/runtime/bootstrap.py'
    with runtime_interface_emulator(["/bin/sh", "-c", script, "app.handler"], folder=task, timeout=20) as url:
        config = {"services": {"*": {"target": "function:greeter", "quirks": "rie", "endpoint_url": url}}}
        environ = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        proto = task / "greeter.proto"
        with running_bridge(tmp_path, config, environ=environ) as bridge:
            called = bridge_command(
                "call", "--to", bridge.address, "--proto", str(proto), "-I", str(task), *CALL, folder=tmp_path
            )

    assert "Hello, you!" in called.stdout, called.stderr


@needs_uv
def test_an_images_folder_answers_by_the_entry_point_of_its_dockerfile(
    work: Path, offline: dict[str, str], tmp_path: Path
) -> None:
    """With the folder in place of /var/task. No engine builds images here."""
    told = packaged(work / "greeter", "greeter", "--image", "--python", HERE, "--arch", ARCH, environ=offline)
    text = Path(told["path"], "Dockerfile").read_text()
    entry = json.loads(text.partition("ENTRYPOINT ")[2])
    bin_folder = filled(tmp_path / "bin", {"python": f'#!/bin/sh\nexec {BARE} -s -S "$@"\n'})
    (bin_folder / "python").chmod(0o755)
    config = {
        "services": {"greeter.Greeter": "local:greeter"},
        "functions": {
            "greeter": {
                "command": [word.replace("$", "$$") for word in entry],
                "code": str(Path(told["path"], "task")),
                "env": {
                    "HANDLER": "app.handler",
                    "PATH": f"{bin_folder}:/usr/bin:/bin",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                "timeout": "20s",
                "memory": "512MiB",
            }
        },
    }
    with running_bridge(tmp_path, config) as bridge:
        called = bridge_command("call", "--to", bridge.address, *CALL, folder=tmp_path)

    assert "Hello, you!" in called.stdout, called.stderr


# -- with the index, which takes a network -----------------------------------------------------------------------------


@needs_uv
@pytest.mark.full(part="packaging")
@pytest.mark.parametrize(("python", "arch"), [("3.13", "arm64"), ("3.11", "arm64"), ("3.14", "x86_64")])
def test_machine_code_of_published_wheels_is_that_of_the_function(
    work: Path, tmp_path: Path, python: str, arch: str
) -> None:
    """grpcio and protobuf as they are published, and nothing for another machine."""
    told = packaged(work / "greeter", "greeter", "--python", python, "--arch", arch, "--into", str(tmp_path / "a.zip"))
    with zipfile.ZipFile(told["path"]) as packed:
        packed.extractall(tmp_path / "task")
    code = {path: machine_code_for(path) for path in (tmp_path / "task").rglob("*") if path.is_file()}
    libraries = {path.name: made_for for path, made_for in code.items() if made_for is not None}

    assert {"x86_64": "x86_64", "arm64": "aarch64"}[arch] == next(iter(set(libraries.values())))
    assert 1 == len(set(libraries.values()))
    assert any(name.startswith("cygrpc.") for name in libraries)
    assert any(name.startswith("_message.") for name in libraries)


@needs_uv
@pytest.mark.full(part="packaging")
def test_published_packages_make_the_same_bytes_twice(work: Path, tmp_path: Path) -> None:
    one, two = (
        Path(
            packaged(work / "greeter", "greeter", "--arch", "arm64", "--into", str(tmp_path / name))["path"]
        ).read_bytes()
        for name in ("one.zip", "two.zip")
    )

    assert one == two


@pytest.mark.full(part="packaging")
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_fetches_what_is_locked_for_the_functions_machine(tmp_path: Path) -> None:
    """Without what is for development. A package whose machine code is optional comes for that machine alone."""
    package = {
        "name": "web",
        "version": "1.0.0",
        "dependencies": {"esbuild": "0.25.0"},
        "devDependencies": {"left-pad": "1.3.0"},
    }
    web = filled(
        tmp_path / "web",
        {
            "package.json": json.dumps(package),
            "index.js": "exports.handler = async () => 1;\n",
            ".gitignore": "node_modules",
        },
    )
    subprocess.run(["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"], cwd=web, check=True)
    told = packaged(tmp_path, "web", "--arch", "arm64")
    again = packaged(tmp_path, "web", "--arch", "arm64", "--into", "again.zip")
    with zipfile.ZipFile(told["path"]) as packed:
        names = packed.namelist()

    assert "node_modules/@esbuild/linux-arm64/bin/esbuild" in names
    assert not [name for name in names if "left-pad" in name or "linux-x64" in name or "/.bin/" in name]
    assert told["code_sha256"] == again["code_sha256"]


@needs_uv
@pytest.mark.full(part="packaging")
def test_a_project_with_a_lock_is_packed_as_it_is_locked(tmp_path: Path) -> None:
    """`uv lock` writes hashes, and the packed versions are the locked ones."""
    project = '[project]\nname = "orders"\nversion = "1"\nrequires-python = ">=3.10"\n'
    orders = filled(
        tmp_path / "orders",
        {
            "app.py": "import markupsafe\ndef handler(event, context): ...\n",
            "pyproject.toml": f'{project}dependencies = ["markupsafe==3.0.2"]\n',
        },
    )
    uv = str(Path(sys.executable).with_name("uv")) if Path(sys.executable).with_name("uv").exists() else "uv"
    subprocess.run([uv, "lock", "--quiet"], cwd=orders, check=True)
    told = packaged(tmp_path, "orders", "--arch", "arm64", "--python", "3.13")

    assert ["MarkupSafe==3.0.2"] == told["dependencies"] or ["markupsafe==3.0.2"] == told["dependencies"]
    assert told["checked"] is not None
