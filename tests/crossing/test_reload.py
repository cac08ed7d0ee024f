"""A running bridge takes up a changed configuration: by SIGHUP, by --watch, and the way Kubernetes swaps a
ConfigMap.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import trustme
import yaml
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.support.bridge_process import (
    RunningBridge,
    bridge_command,
    plain_environment,
    running_bridge,
    started_bridge,
)
from tests.support.byte_methods import unary_unary
from tests.support.echo_api import AWS, echo_api

pytestmark = pytest.mark.slow

FUNCTION = """
import base64, os, time

def handler(event, context):
    if "x-sleep" in event["headers"]:
        print("sleeping")
        time.sleep(float(event["headers"]["x-sleep"]))
    trailers = f"grpc-status:0\\r\\nx-stage:{os.environ['STAGE']}\\r\\n".encode()
    frames = bytes(5) + b"\\x80" + len(trailers).to_bytes(4, "big") + trailers
    headers = {"content-type": "application/grpc-web+proto"}
    body = base64.b64encode(frames).decode()
    return {"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": True}
"""


def function(stage: str) -> dict[str, Any]:
    return {"handler": "staged.handler", "env": {"STAGE": stage}, "timeout": "10s"}


CONFIG: dict[str, Any] = {
    "services": {"t.First": "local:first"},
    "functions": {"first": function("one")},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "staged.py").write_text(FUNCTION)
    return tmp_path


@pytest.fixture
def bridge(folder: Path) -> Iterator[RunningBridge]:
    with running_bridge(folder, CONFIG) as running:
        yield running


def rewritten(folder: Path, **sections: object) -> str:
    """The configuration with these sections in place of the former."""
    former = yaml.safe_load((folder / "bridge.yaml").read_text())
    return yaml.safe_dump({**former, **sections})


def reload(bridge: RunningBridge, folder: Path, text: str, *, says: str) -> None:
    (folder / "bridge.yaml").write_text(text)
    bridge.process.send_signal(signal.SIGHUP)
    bridge.wait_for_line(says)


def ask(bridge: RunningBridge, service: str, *metadata: tuple[str, str]) -> str:
    """What stage of the function answers, or the code of the failure."""
    with grpc.insecure_channel(bridge.address) as channel:
        invoke = unary_unary(channel, f"/{service}/Method")
        try:
            _, call = invoke.with_call(b"", timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(dict(call.trailing_metadata())["x-stage"])


def test_a_new_route_applies_and_one_that_is_gone_no_longer(bridge: RunningBridge, folder: Path) -> None:
    """SIGHUP: calls that begin afterwards go by the new file."""
    assert ("one", "UNIMPLEMENTED") == (ask(bridge, "t.First"), ask(bridge, "t.Second"))

    reload(
        bridge,
        folder,
        rewritten(folder, services={"t.Second": "local:first"}),
        says="reloaded: services",
    )

    assert ("UNIMPLEMENTED", "one") == (ask(bridge, "t.First"), ask(bridge, "t.Second"))


def test_functions_change_with_the_configuration(bridge: RunningBridge, folder: Path) -> None:
    """A changed function starts anew, an added one is there, and a call in flight ends in the process where it
    began.
    """
    slow: list[str] = []
    assert "one" == ask(bridge, "t.First")
    in_flight = threading.Thread(target=lambda: slow.append(ask(bridge, "t.First", ("x-sleep", "1"))))
    in_flight.start()
    bridge.wait_for_line("sleeping")
    reload(
        bridge,
        folder,
        rewritten(
            folder,
            services={"t.First": "local:first", "t.Other": "local:other"},
            functions={"first": function("two"), "other": function("three")},
        ),
        says="reloaded: services, functions",
    )

    assert ("two", "three") == (ask(bridge, "t.First"), ask(bridge, "t.Other"))
    in_flight.join()
    assert ["one"] == slow


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("services: [", "not YAML"),
        ("servces: {t.First: 'local:first'}", 'did you mean \\"services\\"'),
        ("services: {t.First: 'local:nobody'}", "nobody"),
        ("services: {t.First: {target: 'function:f', descriptors: gone.binpb}}", "gone.binpb"),
    ],
    ids=["yaml", "key", "function", "descriptors"],
)
def test_a_bad_file_is_refused_whole(bridge: RunningBridge, folder: Path, text: str, complaint: str) -> None:
    """The log says what is wrong, the old configuration stays, and a good file is taken up after it."""
    good = rewritten(folder, services={"t.Second": "local:first"})
    reload(bridge, folder, text, says="the new configuration is refused, the old one stays")
    assert complaint in "\n".join(bridge.lines)
    assert "one" == ask(bridge, "t.First")

    reload(bridge, folder, good, says="reloaded: services")
    assert "one" == ask(bridge, "t.Second")


def test_each_problem_of_a_bad_file_has_a_line_of_its_own(bridge: RunningBridge, folder: Path) -> None:
    """Before the line that says what comes of it."""
    text = "services:\n  t.First: {target: 'local:first', timout: 1s}\n  t.Second: 'local:nobody'\n"
    reload(bridge, folder, text, says="the new configuration is refused, the old one stays")
    first, second = (
        next(index for index, line in enumerate(bridge.lines) if word in line) for word in ("timout", "nobody")
    )
    assert first != second


def test_a_file_that_is_gone_changes_nothing(bridge: RunningBridge, folder: Path) -> None:
    """An editor may be about to put the new one in its place."""
    (folder / "bridge.yaml").unlink()
    bridge.process.send_signal(signal.SIGHUP)
    bridge.wait_for_line("the new configuration is refused, the old one stays")

    assert "one" == ask(bridge, "t.First")


def test_sections_that_need_a_restart_say_so(bridge: RunningBridge, folder: Path) -> None:
    """And what else has changed applies."""
    text = rewritten(folder, services={"t.Second": "local:first"}, listen="127.0.0.1:1", drain="7s")
    reload(bridge, folder, text, says="reloaded: services")

    log = "\n".join(bridge.lines)
    assert "listen has changed, which needs a restart" in log
    assert "drain has changed, which needs a restart" in log
    assert "one" == ask(bridge, "t.Second")


def test_functions_may_come_with_a_reload(folder: Path) -> None:
    """The local Lambda starts when the first function is configured."""
    with running_bridge(folder, {"services": {}}) as bridge:
        assert "UNIMPLEMENTED" == ask(bridge, "t.First")
        reload(bridge, folder, rewritten(folder, **CONFIG), says="reloaded: services, functions")

        assert "one" == ask(bridge, "t.First")


def test_an_address_that_is_taken_is_no_end(folder: Path) -> None:
    """The first function comes while somebody else has the local Lambda's address: refused, and taken up when it is
    free.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = "127.0.0.1:{1}".format(*other.getsockname())
        config = {"services": {}, "emulator": taken}
        with running_bridge(folder, config) as bridge:
            text = rewritten(folder, **CONFIG)
            reload(bridge, folder, text, says="the new configuration is refused")
            other.close()
            reload(bridge, folder, text, says="reloaded: services, functions")

            assert "one" == ask(bridge, "t.First")


def test_calls_go_on_while_the_configuration_is_reloaded(bridge: RunningBridge, folder: Path) -> None:
    """Twenty reloads under steady calls that each configuration routes: not one fails."""
    with calling(bridge, "t.First") as failed:
        for number in range(20):
            services = {**CONFIG["services"], f"t.N{number}": "local:first"}
            (folder / "bridge.yaml").write_text(rewritten(folder, services=services))
            bridge.process.send_signal(signal.SIGHUP)
            bridge.wait_until(
                lambda: ask(bridge, f"t.N{number}") == "one"  # noqa: B023 - it is called at once
            )

    assert [] == failed


def test_calls_go_on_while_they_move_from_function_to_function(bridge: RunningBridge, folder: Path) -> None:
    """Each configuration has a new function in the place of the former: whichever a call was sent to, it is there."""
    with calling(bridge, "t.First") as failed:
        for number in range(8):
            services = {"t.First": f"local:f{number}", f"t.N{number}": f"local:f{number}"}
            functions = {f"f{number}": function("one")}
            text = rewritten(folder, services=services, functions=functions)
            (folder / "bridge.yaml").write_text(text)
            bridge.process.send_signal(signal.SIGHUP)
            bridge.wait_until(
                lambda: ask(bridge, f"t.N{number}") == "one"  # noqa: B023 - it is called at once
            )

    assert [] == failed


def test_calls_to_aws_go_on_while_the_configuration_is_reloaded(folder: Path) -> None:
    """A new configuration takes over when it has its credentials, not before."""
    with echo_api() as api:
        endpoint = f"http://127.0.0.1:{api.port}"
        config = {"services": {"t.Echo": "function:echo"}, "aws": {"endpoint_url": endpoint}}
        with running_bridge(folder, config, environ=AWS) as bridge:
            bridge.wait_for_line("AWS credentials found")
            with calling(bridge, "t.Echo") as failed:
                for number in range(10):
                    bridge.process.send_signal(signal.SIGHUP)
                    bridge.wait_until(
                        lambda: sum("reloaded: " in line for line in tuple(bridge.lines)) > number  # noqa: B023 - called at once
                    )

    assert [] == failed


@contextmanager
def calling(bridge: RunningBridge, service: str) -> Iterator[list[str]]:
    """Four clients that call all the time, once at least; what fails is in the list."""
    failed: list[str] = []
    ended = threading.Event()

    def call_until_ended() -> None:
        with grpc.insecure_channel(bridge.address) as channel:
            invoke = unary_unary(channel, f"/{service}/Method")
            while True:
                try:
                    invoke(b"", timeout=20)
                except grpc.RpcError as error:
                    failed.append(f"{error.code()}: {error.details()}")
                if ended.is_set():
                    return

    callers = [threading.Thread(target=call_until_ended) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        yield failed
    finally:
        ended.set()
        for caller in callers:
            caller.join()


def test_watch_follows_the_file(folder: Path) -> None:
    """--watch: written in place, or renamed over as careful editors do."""
    with running_bridge(folder, CONFIG, arguments=("--watch",)) as bridge:
        written = rewritten(folder, services={"t.Written": "local:first"})
        renamed = rewritten(folder, services={"t.Renamed": "local:first"})

        def write() -> None:
            (folder / "bridge.yaml").write_text(written)

        def rename() -> None:
            (folder / "new").write_text(renamed)
            (folder / "new").rename(folder / "bridge.yaml")

        change_until(bridge, write, lambda: ask(bridge, "t.Written") == "one")
        change_until(bridge, rename, lambda: ask(bridge, "t.Renamed") == "one")


def test_watch_follows_a_kubernetes_config_map(folder: Path) -> None:
    """bridge.yaml links to ..data/bridge.yaml, and ..data to a folder: only the second link is swapped."""
    mount = folder / "mount"
    mount.mkdir()
    first = {"first": {**function("one"), "code": str(folder)}}

    def swap_in(version: str, services: dict[str, str]) -> None:
        (mount / version).mkdir(exist_ok=True)
        text: dict[str, Any] = {"listen": "127.0.0.1:0", "admin": None, "emulator": "127.0.0.1:0"}
        text |= {"services": services, "functions": first}
        (mount / version / "bridge.yaml").write_text(yaml.safe_dump(text))
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").rename(mount / "..data")

    swap_in("..1", {"t.First": "local:first"})
    (mount / "bridge.yaml").symlink_to("..data/bridge.yaml")
    with started_bridge(mount / "bridge.yaml", "--watch") as bridge:
        assert "one" == ask(bridge, "t.First")

        versions = (f"..{number}" for number in range(2, 1000))
        change_until(
            bridge,
            lambda: swap_in(next(versions), {"t.Second": "local:first"}),
            lambda: ask(bridge, "t.Second") == "one",
        )


def reloaded(bridge: RunningBridge) -> int:
    """How often the configuration was read again."""
    return sum("reloaded: " in line or "is refused, the old one stays" in line for line in tuple(bridge.lines))


def test_watch_does_not_follow_its_own_log(folder: Path) -> None:
    """It lies in the folder of the configuration, where each reload writes into it."""
    log = folder / "bridge.log"
    (folder / "bridge.yaml").write_text(
        yaml.safe_dump({"listen": "127.0.0.1:0", "admin": None, "emulator": "127.0.0.1:0", **CONFIG})
    )
    command = [sys.executable, "-m", "bridge", "serve", "-c", str(folder / "bridge.yaml"), "--watch"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, env=plain_environment())
    try:
        until = time.monotonic() + 30
        while "serving gRPC" not in log.read_text() and time.monotonic() < until:
            time.sleep(0.1)
        for _ in range(10):
            (folder / "other.txt").write_text(str(time.monotonic()))
            (folder / "bridge.yaml").touch()
            time.sleep(0.2)
        quiet = log.read_text()
        (folder / "bridge.yaml").write_text(rewritten(folder, services={"t.New": "local:first"}))
        while "reloaded: services" not in log.read_text() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(2)
    finally:
        process.terminate()
        process.wait()

    assert "reload" not in quiet
    assert 1 == log.read_text().count("reloaded: ")
    assert f"{folder}/bridge.yaml changed: reading the configuration again" in log.read_text()


def write_descriptors(path: Path) -> None:
    """A FileDescriptorSet whose content differs each time."""
    found = FileDescriptorSet()
    found.file.add(name=f"{path.stem}.proto", package=f"p{uuid4().hex}")
    path.write_bytes(found.SerializeToString())


def test_watch_follows_the_files_that_the_configuration_names(folder: Path) -> None:
    """Descriptor sets, folders of .proto, certificates, AWS's own files; those that a reload brings, too. SIGHUP reads
    them in any case.
    """
    protos = folder / "protos"
    protos.mkdir()
    (protos / "a.proto").write_text('syntax = "proto3"; package a; service A {}')
    write_descriptors(folder / "one.binpb")
    (folder / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    (folder / "credentials").write_text("[default]\n")
    services: dict[str, Any] = {
        "t.First": "local:first",
        "t.Two": {"target": "https://127.0.0.1:1", "descriptors": "one.binpb", "tls": {"ca": "ca.crt"}},
    }
    config = {**CONFIG, "services": services}
    keys = {"AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials")}
    with running_bridge(folder, config, arguments=("--watch",), environ=keys) as bridge:

        def follows(name: str, change: Callable[[], object]) -> None:
            before = reloaded(bridge)
            change()
            bridge.wait_for_line(f"{folder}/{name} changed: reading the configuration again")
            bridge.wait_until(lambda: reloaded(bridge) == before + 1)

        follows("one.binpb", lambda: write_descriptors(folder / "one.binpb"))
        follows("ca.crt", lambda: (folder / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes()))
        follows("credentials", lambda: (folder / "credentials").write_text("[other]\n"))
        services["a.A"] = {"target": "local:first", "descriptors": "protos"}
        follows("bridge.yaml", lambda: (folder / "bridge.yaml").write_text(rewritten(folder, services=services)))
        follows("protos", lambda: (protos / "b.proto").write_text('syntax = "proto3"; package b; service B {}'))

        before = reloaded(bridge)
        (folder / "ca.crt").touch()
        time.sleep(1.5)
        assert before == reloaded(bridge)
        bridge.process.send_signal(signal.SIGHUP)
        bridge.wait_until(lambda: reloaded(bridge) == before + 1)


def test_watch_waits_for_a_file_that_a_refused_configuration_names(folder: Path) -> None:
    """The configuration comes first, and its descriptors some time later."""
    with running_bridge(folder, CONFIG, arguments=("--watch",)) as bridge:
        services = {"t.Late": {"target": "local:first", "descriptors": "late.binpb"}}
        (folder / "bridge.yaml").write_text(rewritten(folder, services=services))
        bridge.wait_for_line("the new configuration is refused, the old one stays")
        described = FileDescriptorSet()
        described.file.add(name="t.proto", package="t", syntax="proto3").service.add(name="Late")
        (folder / "late.binpb").write_bytes(described.SerializeToString())
        bridge.wait_for_line("reloaded: services")

        assert "one" == ask(bridge, "t.Late")


def change_until(bridge: RunningBridge, change: Callable[[], None], has_applied: Callable[[], bool]) -> None:
    """Again and again: the watching begins some moments after the serving."""

    def changed() -> bool:
        change()
        return has_applied()

    bridge.wait_until(changed)


@pytest.mark.parametrize("workers", [1, 2])
def test_reflection_follows_a_function_that_changes(tmp_path: Path, workers: int) -> None:
    """`reload: true`: what the function said of itself, or why it could not, goes with its old code."""
    (tmp_path / "app.py").write_text("import no_such_module")
    config = {
        "services": {"helloworld.Greeter": "local:greeter"},
        "functions": {"greeter": {"handler": "app.handler", "timeout": "10s", "reload": True}},
        "workers": workers,
    }
    greet = ("helloworld.Greeter/SayHello", '{"name": "you"}')
    with running_bridge(tmp_path, config) as bridge:
        call = ("call", "--to", bridge.address, *greet)
        before = bridge_command(*call, folder=tmp_path)
        (tmp_path / "app.py").write_text("from lambda_fn.examples.greeter import handler")
        bridge.wait_for_line("app.py changed: the next invocation starts anew")
        after = bridge_command(*call, folder=tmp_path)

    assert "No module named 'no_such_module'" in before.stderr
    assert (0, "") == (after.returncode, after.stderr.replace("OK", "").partition("<<")[0].strip())
    assert "Hello, you!" in after.stdout


def test_a_reload_may_leave_out_the_lines_of_health_checks(bridge: RunningBridge, folder: Path) -> None:
    """Other calls keep theirs."""

    def check() -> None:
        with grpc.insecure_channel(bridge.address) as channel:
            unary_unary(channel, "/grpc.health.v1.Health/Check")(b"", timeout=20)
            unary_unary(channel, "/t.First/Do")(b"", timeout=20)

    check()
    reload(bridge, folder, rewritten(folder, log={"access": {"health": False}}), says="reloaded: log")
    check()
    bridge.stop()
    methods = [found[1] for line in bridge.lines if (found := re.search(r'"method":"([^"]+)"', line))]

    assert 1 == methods.count("/grpc.health.v1.Health/Check")
    assert 2 == methods.count("/t.First/Do")
