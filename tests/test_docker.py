"""What can be said of docker/ without an engine: files, names, ports and versions agree with the code."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from bridge import cli
from bridge.config.load import VARIABLES, load
from bridge.config.schema import Emulator
from bridge.config.target import LocalTarget
from bridge.config.units import parse_duration
from bridge.rpc.url import Origin, Url
from lambda_fn import runtime_loop
from lambda_fn.hatch_build import last_release

REPOSITORY = Path(__file__).parent.parent
DOCKER = REPOSITORY / "docker"
BRIDGE = DOCKER / "bridge.Dockerfile"
FUNCTION = DOCKER / "function.Dockerfile"
RUNTIME = DOCKER / "runtime.Dockerfile"
DOCKERFILES = (BRIDGE, FUNCTION, RUNTIME)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def check_wheels() -> ModuleType:
    found = importlib.util.spec_from_file_location("check_wheels", DOCKER / "check_wheels.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    text: str


def instructions(dockerfile: Path) -> list[Instruction]:
    """Without comments, each on one line."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line]


def texts(dockerfile: Path, name: str) -> list[str]:
    return [found.text for found in instructions(dockerfile) if found.name == name]


def last_stage(dockerfile: Path, name: str) -> list[str]:
    """The texts of these instructions in the stage that becomes the image."""
    whole = instructions(dockerfile)
    begin = max(index for index, found in enumerate(whole) if found.name == "FROM")
    return [found.text for found in whole[begin:] if found.name == name]


def pairs(dockerfile: Path, name: str) -> dict[str, str]:
    """ENV or LABEL of the image."""
    words = shlex.split(" ".join(last_stage(dockerfile, name)))
    return dict(word.split("=", 1) for word in words)


def copied(dockerfile: Path) -> list[str]:
    """What COPY takes from the repository."""
    return [
        source for text in texts(dockerfile, "COPY") if not text.startswith("--from") for source in text.split()[:-1]
    ]


# -- Dockerfiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_everything_copied_is_there(dockerfile: Path) -> None:
    assert [] == [source for source in copied(dockerfile) if not (REPOSITORY / source).exists()]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_everything_copied_passes_dockerignore(dockerfile: Path) -> None:
    """.dockerignore lets through what it names, and nothing else."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}

    assert "*" in lines
    assert set() == {source.split("/")[0] for source in copied(dockerfile)} - let_through


def test_a_configuration_beside_the_code_stays_out_of_the_build() -> None:
    """A bridge.yaml or an .env at the root may hold keys."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    let_through = [line[1:] for line in lines if line.startswith("!")]

    for name in ("bridge.yaml", ".env", ".git", ".venv", ".cache", "tests"):
        assert not any(fnmatch(name, pattern) for pattern in let_through)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_copies_come_from_stages_before(dockerfile: Path) -> None:
    known = set()
    for found in instructions(dockerfile):
        if found.name == "FROM":
            known.add(found.text.partition(" AS ")[2])
        elif match := re.match(r"--from=(\S+)", found.text):
            assert match[1] in known


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_the_base_is_an_argument_without_a_host(dockerfile: Path, check_wheels: ModuleType) -> None:
    """Everybody's registry has it, and BASE chooses another. A function's Python is one that AWS has too."""
    bases = {text.partition(" AS ")[0] for text in texts(dockerfile, "FROM")} - {"scratch"}
    python = check_wheels.image_python() if dockerfile == BRIDGE else "3.13"

    assert {"${BASE}"} == bases
    assert f"BASE=python:{python}-slim" == texts(dockerfile, "ARG")[0]
    assert f"Programming Language :: Python :: {python}" in (REPOSITORY / "pyproject.toml").read_text()


def test_the_locks_that_are_checked_for_wheels_hold_all_that_the_images_install(check_wheels: ModuleType) -> None:
    """CI runs docker/check_wheels.py, which asks the package index."""
    checked, installed = (
        {line for name in names for line in (DOCKER / name).read_text().splitlines() if "==" in line}
        for names in (check_wheels.LOCKS, [file.name for file in DOCKER.glob("*.lock")])
    )

    assert installed == checked
    assert "docker/check_wheels.py" in (REPOSITORY / ".ci" / "run").read_text()


def test_a_package_without_a_wheel_is_named(check_wheels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the index is empty."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    problem = check_wheels.problem_with("build.lock", "aarch64", check_wheels.image_python())

    assert "No matching distribution found for hatchling" in problem


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_the_user_is_a_number_and_not_root(dockerfile: Path) -> None:
    """Kubernetes refuses a name under runAsNonRoot."""
    assert ["10001:10001"] == last_stage(dockerfile, "USER")


def test_the_bridge_image_sets_the_addresses_that_containers_need() -> None:
    environment = pairs(BRIDGE, "ENV")
    ours = {name: value for name, value in environment.items() if name.startswith("BRIDGE_")}

    assert {
        "BRIDGE_CONFIG": "/etc/grpc-lambda-bridge/bridge.yaml",
        "BRIDGE_LISTEN": "0.0.0.0:50051",
        "BRIDGE_ADMIN": "0.0.0.0:9901",
    } == ours
    assert set(ours) <= {"BRIDGE_CONFIG", *VARIABLES}


def test_the_bridge_image_exposes_the_ports_that_it_listens_on() -> None:
    environment = pairs(BRIDGE, "ENV")
    ports = [environment[name].split(":")[1] for name in ("BRIDGE_LISTEN", "BRIDGE_ADMIN")]

    assert [" ".join(ports)] == last_stage(BRIDGE, "EXPOSE")


def test_the_bridge_image_runs_serve() -> None:
    [entry_point] = (json.loads(text) for text in last_stage(BRIDGE, "ENTRYPOINT"))
    [command] = (json.loads(text) for text in last_stage(BRIDGE, "CMD"))

    assert entry_point == list(PROJECT["scripts"])
    assert "serve" == cli.parse(command).command


def test_the_bridge_image_stops_by_the_signal_that_drains() -> None:
    assert ["SIGTERM"] == last_stage(BRIDGE, "STOPSIGNAL")


def test_the_labels_say_what_the_project_says() -> None:
    prefix = "org.opencontainers.image."

    assert {
        prefix + "title": PROJECT["name"],
        prefix + "description": PROJECT["description"],
        prefix + "version": "${VERSION}",
        prefix + "licenses": PROJECT["license"],
    } == pairs(BRIDGE, "LABEL")
    assert [f"VERSION={last_release()}+local"] == [text for text in texts(BRIDGE, "ARG") if "VERSION=" in text]


# -- locks -------------------------------------------------------------------------------------------------------------


def locked(file: Path) -> dict[str, set[str]]:
    """Each requirement `name==version` of a lock file, with its hashes."""
    whole = file.read_text().replace("\\\n", " ")
    return {line.split(maxsplit=1)[0]: set(re.findall(r"--hash=(\S+)", line)) for line in whole.splitlines()}


LOCKS = {
    DOCKER / "bridge.lock": PROJECT["dependencies"],
    DOCKER / "bridge-otel.lock": [
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["otel"],
    ],
    DOCKER / "build.lock": ["hatchling"],
    DOCKER / "function" / "requirements.txt": tomllib.loads((REPOSITORY / "lambda_fn" / "pyproject.toml").read_text())[
        "project"
    ]["dependencies"],
}


@pytest.mark.parametrize(("lock", "dependencies"), LOCKS.items(), ids=lambda part: str(part)[-12:])
def test_a_lock_names_every_dependency(lock: Path, dependencies: list[str]) -> None:
    names = {requirement.partition("==")[0] for requirement in locked(lock)}
    wanted = {re.split(r"[<>=!~ \[]", text)[0].lower() for text in dependencies}

    assert set() == wanted - names


@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: file.name)
def test_images_hold_what_was_tested(lock: Path) -> None:
    """The same versions as in the development lock, by the same hashes."""
    tested = locked(REPOSITORY / "requirements-dev.lock")

    assert {} == {
        requirement: hashes
        for requirement, hashes in locked(lock).items()
        if not hashes or hashes != tested.get(requirement)
    }


# -- compose -----------------------------------------------------------------------------------------------------------

COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CONFIGS = (DOCKER / "bridge.yaml", DOCKER / "emulator.yaml")


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_a_service_is_built_from_a_dockerfile_here(service: dict[str, Any]) -> None:
    context = DOCKER / service["build"]["context"]

    assert REPOSITORY == context.resolve()
    assert BRIDGE == (context / service["build"]["dockerfile"]).resolve()


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_a_service_mounts_its_configuration_where_the_image_looks(service: dict[str, Any]) -> None:
    [(source, target, mode)] = (text.split(":") for text in service["volumes"])

    assert DOCKER / source in CONFIGS
    assert pairs(BRIDGE, "ENV")["BRIDGE_CONFIG"] == target
    assert "ro" == mode


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_a_service_runs_a_command_without_privileges(service: dict[str, Any]) -> None:
    cli.parse(service.get("command", ["serve"]))

    assert service["read_only"]
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]


def test_ports_are_published_on_this_host_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items()}

    assert {
        "bridge": ["127.0.0.1:50051:50051", "127.0.0.1:9901:9901"],
        "emulator": ["127.0.0.1:9001:9001"],
    } == published


def test_the_bridge_has_time_to_drain() -> None:
    config = load(DOCKER / "bridge.yaml", environ={})

    assert parse_duration(SERVICES["bridge"]["stop_grace_period"]) > (config.drain_delay + config.drain)


def test_the_bridge_waits_for_an_emulator_that_can_be_seen_to_be_up() -> None:
    [(name, dependency)] = SERVICES["bridge"]["depends_on"].items()

    assert {"condition": "service_healthy"} == dependency
    assert "healthcheck" in SERVICES[name]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_a_mounted_configuration_passes_check(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variables that the image sets."""
    for name, value in pairs(BRIDGE, "ENV").items():
        if name in VARIABLES:
            monkeypatch.setenv(name, value)

    assert 0 == cli.main(["check", "-c", str(file)])


def test_the_bridge_calls_functions_that_the_emulator_has() -> None:
    bridge, emulator = (load(file, environ={}) for file in CONFIGS)
    called = {
        leg.target.name
        for service in bridge.services.values()
        for leg in service.legs
        if isinstance(leg.target, LocalTarget)
    }

    assert set(emulator.functions) == called


def test_the_bridge_finds_the_emulator_by_its_name() -> None:
    bridge, emulator = (load(file, environ={}) for file in CONFIGS)
    assert isinstance(emulator.emulator, Emulator)

    assert Url(Origin("http", "emulator", emulator.emulator.address.port)) == bridge.emulator
    assert "emulator" in SERVICES
    assert "0.0.0.0" == emulator.emulator.address.host
    assert str(emulator.emulator.address.port) in SERVICES["emulator"]["healthcheck"]["test"][-1]


# -- the health check --------------------------------------------------------------------------------------------------


def healthcheck(admin: str) -> subprocess.CompletedProcess[str]:
    """As the image runs it."""
    [text] = last_stage(BRIDGE, "HEALTHCHECK")
    program, *arguments = json.loads(text.partition("CMD ")[2])
    assert "python" == program
    local = [argument.replace("/opt/bridge", str(DOCKER)) for argument in arguments]
    return subprocess.run(
        [sys.executable, *local],
        env={"BRIDGE_ADMIN": admin, "HTTP_PROXY": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of an admin server on loopback that answers /healthz so."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_bridge_that_answers_is_healthy(host: str) -> None:
    with answering(200) as port:
        result = healthcheck(f"{host}:{port}")

    assert (0, "") == (result.returncode, result.stderr)


def test_a_bridge_that_says_otherwise_is_not() -> None:
    with answering(503) as port:
        result = healthcheck(f"0.0.0.0:{port}")

    assert (1, f"/healthz on 0.0.0.0:{port} answers 503\n") == (result.returncode, result.stderr)


def test_a_bridge_that_does_not_answer_is_not() -> None:
    with answering(200) as port:
        pass
    result = healthcheck(f"0.0.0.0:{port}")

    assert 1 == result.returncode
    assert result.stderr.startswith(f"nobody answers on 0.0.0.0:{port}: ")


def test_a_bridge_without_an_admin_port_counts_as_healthy() -> None:
    assert 0 == healthcheck("null").returncode


# -- the function's image ----------------------------------------------------------------------------------------------


def test_the_example_function_has_the_handler_that_the_image_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HANDLER is found in the folder that becomes /var/task."""
    [default] = [text for text in texts(FUNCTION, "ARG") if text.startswith("HANDLER=")]
    monkeypatch.syspath_prepend(DOCKER / "function")
    monkeypatch.delitem(sys.modules, "app", raising=False)

    from lambda_fn.examples import greeter

    assert greeter.handler == runtime_loop.load(default.partition("=")[2])


def test_the_example_function_has_the_requirements_that_the_image_installs() -> None:
    [default] = [text for text in texts(FUNCTION, "ARG") if text.startswith("REQUIREMENTS=")]

    assert (DOCKER / "function" / default.partition("=")[2]).exists()


@pytest.mark.parametrize(("arguments", "handler"), [((), "app.handler"), (("orders.handler",), "orders.handler")])
def test_an_argument_goes_before_the_handler_of_the_image(
    arguments: tuple[str, ...], handler: str, tmp_path: Path
) -> None:
    """AWS passes its command override as arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    [entry_point] = (json.loads(text) for text in last_stage(FUNCTION, "ENTRYPOINT"))
    result = subprocess.run(
        [*entry_point, *arguments],
        env={"PATH": str(tmp_path), "HANDLER": "app.handler"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert f"-m lambda_fn.runtime {handler}\n" == result.stdout


# -- the runtime's image -----------------------------------------------------------------------------------------------


def test_the_runtime_starts_with_the_file_that_lambda_starts() -> None:
    [entry_point] = (json.loads(text) for text in last_stage(RUNTIME, "ENTRYPOINT"))
    bootstrap = DOCKER / "runtime" / "bootstrap"

    assert ["/var/runtime/bootstrap"] == entry_point
    assert "docker/runtime/bootstrap /var/runtime/" in last_stage(RUNTIME, "COPY")
    assert os.access(bootstrap, os.X_OK)
    assert "/var/lang/bin/python -m lambda_fn.runtime" in bootstrap.read_text()


def test_the_runtime_leaves_the_places_of_zip_and_layers_empty() -> None:
    """Lambda puts the function's zip into /var/task and its layers into /opt."""
    places = [text.split()[-1] for text in last_stage(RUNTIME, "COPY")]

    assert ["/var/lang", "/var/runtime/"] == places


# -- docs/docker.md ----------------------------------------------------------------------------------------------------


def test_the_document_names_files_that_exist() -> None:
    text = (REPOSITORY / "docs" / "docker.md").read_text()
    named = set(re.findall(r"\bdocker/[\w./-]+\w", text))

    assert {"docker/bridge.Dockerfile", "docker/compose.yaml"} < named
    assert set() == {name for name in named if not (REPOSITORY / name).exists()}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_the_document_names_every_build_argument_with_its_default(dockerfile: Path) -> None:
    text = (REPOSITORY / "docs" / "docker.md").read_text()

    for name, default in (argument.split("=") for argument in texts(dockerfile, "ARG") if "=" in argument):
        assert f"| `{name}` | `{default}` |" in text


def test_the_document_names_the_secrets_of_the_build() -> None:
    text = (REPOSITORY / "docs" / "docker.md").read_text()
    secrets = {
        secret
        for dockerfile in DOCKERFILES
        for run in texts(dockerfile, "RUN")
        for secret in re.findall(r"type=secret,id=([\w.]+)", run)
    }

    assert {"pip.conf", "ca.crt"} == secrets
    for secret in secrets:
        assert f"--secret id={secret},src=" in text


@pytest.mark.parametrize("name", ["BRIDGE_CONFIG", "BRIDGE_LISTEN", "BRIDGE_ADMIN"])
def test_the_document_names_the_variables_that_the_image_sets(name: str) -> None:
    text = (REPOSITORY / "docs" / "docker.md").read_text()

    assert f"`{name}={pairs(BRIDGE, 'ENV')[name]}`" in text
