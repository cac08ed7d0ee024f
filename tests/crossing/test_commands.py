"""The other commands as a user types them: check, routes, call and emulate."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.bridge_process import (
    EXAMPLES,
    RunningBridge,
    bridge_command,
    plain_environment,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a bridge.yaml that serves the examples."""
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(EXAMPLES))
    return tmp_path


# -- check and routes --------------------------------------------------------------------------------------------------


def test_check_is_content_with_the_examples(folder: Path) -> None:
    """One line, exit code 0."""
    ended = bridge_command("check", folder=folder)

    assert (0, "bridge.yaml: fine, 2 service entries\n") == (ended.returncode, ended.stdout)


def test_check_live_without_credentials_says_so_once(tmp_path: Path) -> None:
    """Why, and where was looked: one search is enough for a command, nobody waits for the next."""
    (tmp_path / "bridge.yaml").write_text("services: {a.B: 'function:x'}")
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "half",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    ended = bridge_command("check", "--live", folder=tmp_path, environ=nowhere)
    first, second = ended.stderr.splitlines()

    assert 1 == ended.returncode
    assert "missing: AWS_SECRET_ACCESS_KEY" in first
    assert second.startswith("grpc-lambda-bridge: ")


class _Refusing(BaseHTTPRequestHandler):
    """Lambda's API for credentials without permissions."""

    def do_POST(self) -> None:
        body = b'{"Message": "User is not authorized to perform: lambda:InvokeFunction"}'
        self.send_response(403)
        self.send_header("x-amzn-errortype", "AccessDeniedException")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_check_live_prints_the_statement_that_is_missing(tmp_path: Path) -> None:
    """As a policy has it, under the line of the entry that AWS refuses."""
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        aws = {"region": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{server.server_port}"}
        (tmp_path / "bridge.yaml").write_text(yaml.safe_dump({"aws": aws, "services": {"a.B": "function:x:live"}}))
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        ended = bridge_command("check", "--live", folder=tmp_path, environ=keys)
        server.shutdown()

    assert 1 == ended.returncode, ended.stderr
    _, refused, who, statement = ended.stdout.splitlines()
    assert "a.B: " in refused
    assert "the policy of the bridge" in who
    assert ["arn:aws:lambda:eu-west-1:*:function:x:live"] == json.loads(statement)["Resource"]
    assert "lambda:InvokeFunction" == json.loads(statement)["Action"]


class _Short(BaseHTTPRequestHandler):
    """Lambda's API with a function that may be called and runs for 10 s. Another's configuration is nobody's matter."""

    def do_POST(self) -> None:
        self._answer(204, b"")

    def do_GET(self) -> None:
        if self.path == "/2015-03-31/functions/short/configuration?Qualifier=live":
            self._answer(200, b'{"FunctionName": "short", "Timeout": 10}')
        else:
            self._answer(403, b'{"message": "not authorized to perform: lambda:GetFunctionConfiguration"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_check_live_warns_of_functions_whose_streams_end_early(tmp_path: Path) -> None:
    """Where it may know the timeout, and the function takes calls in full duplex."""
    server = HTTPServer(("127.0.0.1", 0), _Short)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "aws": {"region": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{server.server_port}"},
            "duplex": {"listen": "127.0.0.1:50052"},
            "services": {
                "a.Short": "function:short:live",
                "a.Unknown": "function:unknown",
                "a.Never": {"target": "function:short:live", "duplex": {"use": "never"}},
                "a.Here": "local:here",
                "a.Long": "local:long",
            },
            "functions": {
                "here": {"handler": "lambda_fn.examples.echo.handler", "timeout": "59s"},
                "long": {"handler": "lambda_fn.examples.echo.handler", "timeout": "60s"},
            },
        }
        (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(config))
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        ended = bridge_command("check", "--live", folder=tmp_path, environ=keys)
        server.shutdown()

    warnings = [line for line in ended.stderr.splitlines() if "the function's timeout is" in line]
    assert 0 == ended.returncode, ended.stderr
    assert ["a.Here: the function's timeout is 59 s", "a.Short: the function's timeout is 10 s"] == sorted(
        line.removeprefix("warning: ").partition(",")[0] for line in warnings
    )


def test_routes_shows_what_goes_where(tmp_path: Path) -> None:
    """A line for each entry with its targets."""
    services = {
        "a.First": "function:first:live",
        "a.Second": {"target": "function:second", "timeout": "2s"},
        "*": None,
    }
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump({"services": services}))
    ended = bridge_command("routes", folder=tmp_path)

    rows = [line.split() for line in ended.stdout.splitlines()]
    assert 0 == ended.returncode
    assert ["a.First", "function:first:live"] in [row[:2] for row in rows]
    [second] = [row for row in rows if row[0] == "a.Second"]
    assert "2s" in second
    [rest] = [row for row in rows if row[0] == "*"]
    assert "UNIMPLEMENTED" in rest


# -- call --------------------------------------------------------------------------------------------------------------


def test_call_through_a_running_bridge(bridge: RunningBridge, tmp_path: Path) -> None:
    """The message on standard output, the rest on standard error."""
    ended = bridge_command(
        "call",
        "--to",
        bridge.address,
        "-H",
        "echo-initial-a: one",
        "dev.Echo/Unary",
        '{"text": "hi"}',
        folder=tmp_path,
    )

    assert (0, "hi") == (ended.returncode, json.loads(ended.stdout)["text"])
    lines = ended.stderr.splitlines()
    assert "< echo-initial-a: one" in lines
    assert "OK" == lines[-1]
    assert any(line.startswith("<< x-amzn-requestid: ") for line in lines)


def test_call_streams(bridge: RunningBridge, tmp_path: Path) -> None:
    """Several messages in from standard input, several out."""
    ended = bridge_command(
        "call",
        "--to",
        bridge.address,
        "dev.Echo/BidiStream",
        "-",
        folder=tmp_path,
        text_in='{"text": "a"}\n{"text": "b"}\n',
    )

    assert ["a", "b"] == [reply["text"] for reply in documents(ended.stdout)]


def documents(text: str) -> Iterator[dict[str, Any]]:
    """JSON documents, one after the other."""
    while text := text.lstrip():
        document, end = json.JSONDecoder().raw_decode(text)
        yield document
        text = text[end:]


def test_call_tells_the_status(bridge: RunningBridge, tmp_path: Path) -> None:
    """A failed call is exit code 64 and its code, and its status the last line."""
    ended = bridge_command(
        "call",
        "--to",
        bridge.address,
        "dev.Echo/Fail",
        '{"code": 5, "message": "no such order"}',
        folder=tmp_path,
    )

    assert 64 + 5 == ended.returncode
    assert "NOT_FOUND: no such order" == ended.stderr.splitlines()[-1]


def test_call_bounds_its_time(bridge: RunningBridge, tmp_path: Path) -> None:
    """--timeout is the call's deadline."""
    ended = bridge_command(
        "call",
        "--to",
        bridge.address,
        "--timeout",
        "300ms",
        "dev.Echo/Sleep",
        '{"seconds": 5}',
        folder=tmp_path,
    )

    assert 64 + 4 == ended.returncode
    assert "DEADLINE_EXCEEDED" in ended.stderr


def test_call_reaches_a_local_web_function(tmp_path: Path) -> None:
    """A server for gRPC-Web over HTTP/1.1, here one in Python."""
    served = "-m lambda_fn lambda_fn.examples.greeter:server --http $AWS_LAMBDA_HTTP_ENDPOINT"
    web = {"command": ["sh", "-c", f"exec {sys.executable} {served}"]}
    config = {"functions": {"shop": {"web": web}}, "services": {"helloworld.Greeter": "local:shop"}}
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(config))
    ended = bridge_command(
        "call", "--target", "local:shop", "helloworld.Greeter/SayHello", '{"name": "web"}', folder=tmp_path
    )

    assert (0, "Hello, web!") == (ended.returncode, json.loads(ended.stdout)["message"]), ended.stderr


def test_call_runs_a_local_function_without_a_bridge(folder: Path) -> None:
    """--target local:NAME, by the functions of the configuration; nothing but the answer is written."""
    ended = bridge_command(
        "call",
        "--target",
        "local:greeter",
        "helloworld.Greeter/SayHello",
        '{"name": "you"}',
        folder=folder,
    )

    assert (0, {"message": "Hello, you!"}) == (ended.returncode, json.loads(ended.stdout))
    [request_id, status] = ended.stderr.splitlines()
    assert request_id.startswith("<< x-amzn-requestid: ")
    assert "OK" == status


def test_call_speaks_to_a_target_as_its_entry_says(tmp_path: Path) -> None:
    """The function does not describe itself and takes JSON. Its own lines are for people, also in a file."""
    (tmp_path / "app.py").write_text(
        "def handler(event, context):\n"
        "    print('asked by', event['name'])\n"
        "    return {'message': 'Hello, ' + event['name']}\n"
    )
    (tmp_path / "protos").mkdir()
    shutil.copy("lambda_fn/examples/helloworld.proto", tmp_path / "protos")
    entry = {"target": "local:shop", "payload": "json", "event": "raw", "descriptors": "protos"}
    functions = {"shop": {"handler": "app.handler"}, "other": {"handler": "app.handler"}}
    config = {"services": {"helloworld.*": entry, "*": "local:other"}, "functions": functions}
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(config))

    target = ("call", "--target", "local:shop")
    listed = bridge_command(*target, "list", folder=tmp_path)
    ended = bridge_command(*target, "helloworld.Greeter/SayHello", '{"name": "you"}', folder=tmp_path)
    verbose = bridge_command(*target, "helloworld.Greeter.SayHello", "-v", '{"name": "you"}', folder=tmp_path)

    assert "helloworld.Greeter" in listed.stdout.splitlines()
    for each in (ended, verbose):
        assert (0, {"message": "Hello, you"}) == (each.returncode, json.loads(each.stdout or "0")), each.stderr
        assert "shop | asked by you" in each.stderr.splitlines()
    assert "START" not in ended.stderr
    assert "shop | START" in verbose.stderr


def test_call_tells_what_is_wrong_with_descriptors_of_its_entry(folder: Path) -> None:
    """They are read when the private bridge starts. The problem is told as `serve` tells it, and at once."""
    (folder / "protos").mkdir()
    (folder / "protos" / "bad.proto").write_text(
        'syntax = "proto3";\npackage helloworld;\nservice Greeter { rpc SayHello(Nobody) returns (Nobody); }\n'
    )
    config = yaml.safe_load((folder / "bridge.yaml").read_text())
    entry = {"target": "local:greeter", "payload": "json", "descriptors": "protos"}
    (folder / "bridge.yaml").write_text(yaml.safe_dump(config | {"services": {"helloworld.Greeter": entry}}))

    ended = bridge_command("call", "--target", "local:greeter", "list", folder=folder)

    assert 2 == ended.returncode, ended.stderr
    assert "bad.proto" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("--target", "local:nobody", "a.B/C"), 2, ["local:nobody", "functions"]),
        (("--target", "nonsense", "a.B/C"), 2, ["nonsense", "function:NAME"]),
        (("--target", "local:greter", "a.B/C"), 2, ["local:greter is not among", 'did you mean "greeter"?']),
        (
            ("--target", "local:greeter", "helloworld.Greter/No"),
            1,
            ["helloworld.Greter is not", 'mean "helloworld.Greeter"?'],
        ),
        (("--target", "local:greeter", "helloworld.Greeter/No"), 1, ["has no method No"]),
        (
            ("--target", "local:greeter", "helloworld.Greeter/SayHelo"),
            1,
            ['has no method SayHelo, did you mean "SayHello"?'],
        ),
        (("--target", "local:greeter", "helloworld.Greeter"), 2, ["SERVICE/METHOD"]),
        (("--target", "local:greeter", "helloworld.Greeter/SayHello", "{"), 2, ["JSON"]),
        (("--target", "local:greeter", "helloworld.Greeter/SayHello", "5"), 2, ["JSON"]),
        (("--target", "local:greeter", "helloworld.Greeter/SayHello", "[]"), 2, ["not a list"]),
        (("--target", "local:greeter", "helloworld.Greeter/SayHello", '{"name": "a", "name": "b"}'), 2, ["twice"]),
        (("--target", "local:greeter", "helloworld.Greeter/SayHello", '{"name": 5}'), 2, ["name"]),
        (("--target", "local:greeter", "-H", "x", "helloworld.Greeter/SayHello"), 2, ["NAME:VALUE"]),
        (("--timeout", "5", "helloworld.Greeter/SayHello"), 2, ["unit"]),
        (("--to", "127.0.0.1:1", "helloworld.Greeter/SayHello"), 1, ["127.0.0.1:1"]),
    ],
    ids=[
        "function",
        "target",
        "misspelt function",
        "misspelt service",
        "method",
        "misspelt method",
        "name",
        "json",
        "number",
        "list",
        "twice",
        "type",
        "header",
        "timeout",
        "refused",
    ],
)
def test_call_says_what_is_wrong(folder: Path, arguments: tuple[str, ...], exit_code: int, words: list[str]) -> None:
    """In a line, with the exit code of wrong usage or of failure."""
    ended = bridge_command("call", *arguments, folder=folder)

    assert exit_code == ended.returncode, ended.stderr
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_call_does_not_wait_where_nothing_listens(tmp_path: Path) -> None:
    """A refused connection is told at once, not after gRPC's own attempts."""
    ended = bridge_command("call", "--to", "127.0.0.1:1", "--timeout", "1h", "a.B/C", folder=tmp_path)

    assert 1 == ended.returncode
    assert "nothing answers gRPC at 127.0.0.1:1" in ended.stderr


# -- emulate -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def greeting(folder: Path) -> Iterator[list[str]]:
    """The first lines of the local Lambda alone; afterwards it must end with exit code 0."""
    emulating = subprocess.Popen(
        [sys.executable, "-m", "bridge", "emulate", "-c", str(folder / "bridge.yaml"), "--emulator", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        env=plain_environment(),
    )
    assert emulating.stderr is not None
    try:
        yield [emulating.stderr.readline().rstrip() for _ in range(2)]
    finally:
        emulating.send_signal(signal.SIGTERM)
        emulating.communicate(timeout=10)
    assert 0 == emulating.returncode


@pytest.fixture
def endpoint_url(greeting: list[str]) -> str:
    return greeting[0].removeprefix("local Lambda on ").partition(": ")[0]


AWS_CLI = """
import argparse, sys, boto3
parser = argparse.ArgumentParser()
parser.add_argument("service")
parser.add_argument("operation")
parser.add_argument("--endpoint-url", required=True)
parser.add_argument("--function-name", required=True)
parser.add_argument("out")
given = parser.parse_args()
client = getattr(boto3.client(given.service, endpoint_url=given.endpoint_url), given.operation)
with open(given.out, "wb") as out:
    out.write(client(FunctionName=given.function_name)["Payload"].read())
"""
"""Stands for the AWS CLI: its SDK, which finds keys and region in the same places."""


def test_the_command_that_emulate_prints_works_as_it_is_printed(greeting: list[str], tmp_path: Path) -> None:
    """It brings the keys and the region that the AWS CLI insists on."""
    (tmp_path / "cli.py").write_text(AWS_CLI)
    (tmp_path / "aws").write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/cli.py "$@"\n')
    (tmp_path / "aws").chmod(0o755)
    nothing_configured = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "1"}
    ended = subprocess.run(
        ["sh", "-ec", greeting[1]], cwd=tmp_path, env=nothing_configured, capture_output=True, text=True, timeout=60
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    assert "errorMessage" in json.loads((tmp_path / "out.json").read_text())  # the event is not one of HTTP


def test_emulate_serves_the_sdk(endpoint_url: str) -> None:
    """boto3, unmodified: Invoke, DryRun, Event and ListFunctions."""
    client = boto3.client(
        "lambda",
        endpoint_url=endpoint_url,
        region_name="eu-west-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )
    try:
        payload = json.dumps({"rawPath": "/", "headers": {}, "requestContext": {"http": {}}})
        answer = client.invoke(FunctionName="greeter", Payload=payload)
        replied = answer["Payload"].read()  # within: an unread reply keeps its connection open
        dry = client.invoke(FunctionName="greeter", InvocationType="DryRun")
        names = [each["FunctionName"] for each in client.list_functions()["Functions"]]
        with pytest.raises(ClientError) as caught:
            client.invoke(FunctionName="nobody")
    finally:
        client.close()

    assert 200 == answer["StatusCode"]
    assert "statusCode" in json.loads(replied)
    assert 204 == dry["StatusCode"]
    assert ["echo", "greeter"] == sorted(names)
    assert "ResourceNotFoundException" == caught.value.response["Error"]["Code"]


def test_call_says_that_a_function_is_not_there_and_not_what_follows_from_it(endpoint_url: str, tmp_path: Path) -> None:
    """The cause is the function's name, not that nobody answers reflection."""
    aws = {"endpoint_url": endpoint_url, "region": "eu-west-1"}
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump({"aws": aws, "services": {"a.B": "function:x"}}))
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    ended = bridge_command("call", "--target", "function:ordes", "a.B/C", folder=tmp_path, environ=keys)

    assert 1 == ended.returncode
    assert "does not answer reflection" not in ended.stderr
    assert "ordes" in ended.stderr
    assert "Lambda has no function ordes" in ended.stderr
