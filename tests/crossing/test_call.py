"""`call` beside grpcurl: the same questions to the same servers, and what it says when it cannot ask."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
import trustme

from bridge.services import builtin
from tests.support.bridge_process import RunningBridge, bridge_command, plain_environment
from tests.support.clients import run, tool
from tests.support.tls import issue_client

pytestmark = pytest.mark.slow

PROTO = Path("lambda_fn/examples/helloworld.proto").absolute()


def call(folder: Path, *arguments: str, text_in: str = "") -> subprocess.CompletedProcess[str]:
    return bridge_command("call", *arguments, folder=folder, text_in=text_in)


def grpcurl(bridge: RunningBridge, *arguments: str) -> Any:
    *options, last = arguments
    return run([tool("grpcurl"), "-plaintext", *options, bridge.address, *last.split()])


# -- as grpcurl --------------------------------------------------------------------------------------------------------


@pytest.mark.clients
def test_list_names_what_grpcurl_names(bridge: RunningBridge, tmp_path: Path) -> None:
    services = call(tmp_path, "--to", bridge.address, "list")
    methods = call(tmp_path, "--to", bridge.address, "list", "dev.Echo")

    assert grpcurl(bridge, "list").stdout == services.stdout
    assert methods.stdout == call(tmp_path, "list", "--to", bridge.address, "dev.Echo").stdout
    assert sorted(grpcurl(bridge, "list dev.Echo").stdout.split()) == sorted(methods.stdout.replace("/", ".").split())


@pytest.mark.clients
@pytest.mark.parametrize(
    ("asked", "method"),
    [
        ({"code": 5, "message": "no such order"}, "dev.Echo/Fail"),
        ({"code": 14, "message": "näh: 100%", "details": ["one"]}, "dev.Echo/Fail"),
        ({"name": "world"}, "helloworld.Greeter/SayHello"),
        ({"name": "world"}, "helloworld.Greeter.SayHello"),
    ],
    ids=["an error", "an error with details", "a reply", "with a dot"],
)
def test_exit_codes_and_statuses_are_grpcurls(
    bridge: RunningBridge, tmp_path: Path, asked: dict[str, Any], method: str
) -> None:
    theirs = grpcurl(bridge, "-format-error", "-d", json.dumps(asked), method)
    ours = call(tmp_path, "--to", bridge.address, "-o", "json", "-d", json.dumps(asked), method)
    told = json.loads(ours.stdout)

    assert theirs.returncode == ours.returncode
    if theirs.returncode:
        status = json.loads(theirs.stderr)
        assert (status["code"], status["message"]) == (told["status"]["code"], told["status"]["message"])
        assert status.get("details", []) == told["status"]["details"]
    else:
        assert json.loads(theirs.stdout) == told["messages"][0]


@pytest.mark.clients
def test_wrong_names_end_as_with_grpcurl(bridge: RunningBridge, tmp_path: Path) -> None:
    for method in ("no.Such/Method", "dev.Echo/No", "no.Such.Method", "dev.Echo.No"):
        theirs, ours = grpcurl(bridge, method), call(tmp_path, "--to", bridge.address, method)

        assert theirs.returncode == ours.returncode == 1


# -- describe ----------------------------------------------------------------------------------------------------------


def test_describe_prints_proto_text(bridge: RunningBridge, tmp_path: Path) -> None:
    service = call(tmp_path, "--to", bridge.address, "describe", "helloworld.Greeter")
    message = call(tmp_path, "--to", bridge.address, "describe", ".helloworld.HelloRequest")
    method = call(tmp_path, "--to", bridge.address, "describe", "helloworld.Greeter/SayHello")
    everything = call(tmp_path, "--to", bridge.address, "describe")

    rpc = "rpc SayHello(.helloworld.HelloRequest) returns (.helloworld.HelloReply);"
    assert service.stdout.startswith(f"// helloworld.Greeter\nservice Greeter {{\n  {rpc}\n")
    assert "(stream .helloworld.HelloRequest) returns (stream .helloworld.HelloReply);" in service.stdout
    assert "message HelloRequest {\n  string name = 1;\n}\n" in message.stdout
    assert rpc in method.stdout
    assert all(name in everything.stdout for name in ("service Greeter {", "service Echo {", "service Health {"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("describe", "helloworld.Greter"),
            ["helloworld.Greter is not described", 'did you mean "helloworld.Greeter"?'],
        ),
        (("list", "helloworld.Greter"), ['did you mean "helloworld.Greeter"?']),
        (("list", "helloworld.HelloRequest"), ["is not a service"]),
        (("helloworld.Greeter/SayHelo",), ['did you mean "SayHello"?']),
        (("helloworld.Greeter/Zzz",), ["has no method Zzz; there are SayHello, "]),
        (("Greeter/SayHello",), ["Greeter is not described", 'did you mean "helloworld.Greeter"?']),
        (("other.v1.Greter/SayHello",), ['did you mean "helloworld.Greeter"?']),
        (("zzz.Q/R",), ["zzz.Q is not described", "; there ", "helloworld.Greeter"]),
    ],
)
def test_a_misspelt_name_brings_the_nearest(
    bridge: RunningBridge, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    for where in (("--to", bridge.address), ("--to", bridge.address, "--proto", str(PROTO))):
        ended = call(tmp_path, *where, *arguments)

        assert 1 == ended.returncode
        assert all(word in ended.stderr for word in words), ended.stderr


def test_files_stand_for_reflection(bridge: RunningBridge, tmp_path: Path) -> None:
    """--proto and --protoset need no server to list, and no reflection to call."""
    protoset = tmp_path / "set.binpb"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{PROTO.parent}",
            f"--descriptor_set_out={protoset}",
            str(PROTO),
        ],
        check=True,
    )
    for files in (
        ("--protoset", str(protoset)),
        ("--proto", str(PROTO)),
        ("-I", str(PROTO.parent), "--proto", PROTO.name),
    ):
        listed = call(tmp_path, *files, "list")
        described = call(tmp_path, *files, "describe", "helloworld.HelloReply", "-o", "json")
        called = call(tmp_path, "--to", bridge.address, *files, "helloworld.Greeter/SayHello", '{"name": "file"}')

        assert "helloworld.Greeter\n" == listed.stdout
        assert "string message = 1;" in json.loads(described.stdout)[0]["proto"]
        assert {"message": "Hello, file!"} == json.loads(called.stdout)


def test_a_proto_that_does_not_compile_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text('syntax = "proto3";\nmessage A { strin b = 1; }\n')
    ended = call(tmp_path, "--proto", "bad.proto", "list")
    missing = call(tmp_path, "--proto", "nope.proto", "list")

    assert (2, True) == (ended.returncode, "bad.proto:2:" in ended.stderr)
    assert (2, True) == (missing.returncode, "nope.proto: no such file" in missing.stderr)


# -- what goes in ------------------------------------------------------------------------------------------------------


def test_the_message_comes_from_a_file_or_from_standard_input(bridge: RunningBridge, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"text": "from a file"}')
    from_file = call(tmp_path, "--to", bridge.address, "dev.Echo/Unary", "-d", "@request.json")
    from_stdin = call(tmp_path, "--to", bridge.address, "dev.Echo/Unary", "-d", "@", text_in='{"text": "piped"}')
    nothing = call(tmp_path, "--to", bridge.address, "dev.Echo/Unary", "-d", "@", text_in="")
    missing = call(tmp_path, "--to", bridge.address, "dev.Echo/Unary", "-d", "@none.json")
    several = call(tmp_path, "--to", bridge.address, "dev.Echo/Unary", "-d", "{} {}")
    twice = call(tmp_path, "--to", bridge.address, "dev.Echo/Unary", "{}", "-d", "{}")

    assert "from a file" == json.loads(from_file.stdout)["text"]
    assert "piped" == json.loads(from_stdin.stdout)["text"]
    assert 0 == nothing.returncode
    assert (2, True) == (missing.returncode, "@none.json cannot be read" in missing.stderr)
    assert (2, True) == (several.returncode, "takes one message" in several.stderr)
    assert (2, True) == (twice.returncode, "given twice" in twice.stderr)


class EchoServer:
    """A gRPC server that answers each message of a stream at once. It has health's descriptors as its own."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.server = grpc.server(ThreadPoolExecutor(4), [])
        self.server.add_generic_rpc_handlers((Handlers(),))
        if credentials is None:
            port = self.server.add_insecure_port("127.0.0.1:0")
        else:
            port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"localhost:{port}"

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(None).wait()


class Handlers(grpc.GenericRpcHandler):
    """`/talk.Talk/Say` echoes; reflection is there as v1alpha alone."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == "/talk.Talk/Say":
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: requests)
        if details.method == "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo":
            return grpc.stream_stream_rpc_method_handler(_reflect)
        return None


def _reflect(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto(name="talk.proto", package="talk", syntax="proto3")
    file.message_type.add(name="Word").field.add(name="word", number=1, type=9, label=1)
    service = file.service.add(name="Talk")
    service.method.add(
        name="Say", input_type=".talk.Word", output_type=".talk.Word", client_streaming=True, server_streaming=True
    )
    answer_class = builtin.message_class("grpc.reflection.v1.ServerReflectionResponse")
    request_class = builtin.message_class("grpc.reflection.v1.ServerReflectionRequest")
    for raw in requests:
        answer = answer_class()
        if request_class.FromString(raw).list_services:
            answer.list_services_response.service.add(name="talk.Talk")
        else:
            answer.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
        yield answer.SerializeToString()


def test_a_request_stream_is_sent_as_it_is_typed(tmp_path: Path) -> None:
    """Each answer comes before the next message is written: a dialogue. The server knows only v1alpha of reflection."""
    with EchoServer() as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "call", "--to", server.address, "talk.Talk/Say", "-d", "@"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**plain_environment(), "PYTHONPATH": os.getcwd()},
            cwd=tmp_path,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("one", "two ✓", 'brace } " quote'):
            process.stdin.write(json.dumps({"word": word}, indent=1, ensure_ascii=False))
            process.stdin.flush()
            lines = [process.stdout.readline() for _ in range(3)]
            assert {"word": word} == json.loads("".join(lines))
        _, told = process.communicate(timeout=30)

    assert (0, "OK") == (process.returncode, told.splitlines()[-1])


def test_a_bad_message_in_a_stream_ends_the_call_with_its_reason(tmp_path: Path) -> None:
    with EchoServer() as server:
        ended = call(
            tmp_path, "--to", server.address, "talk.Talk/Say", "-d", "@", text_in='{"word": "a"} {"wort": "b"}'
        )

    assert 2 == ended.returncode
    assert "is not a talk.Word in JSON" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_json_output_is_one_document(bridge: RunningBridge, tmp_path: Path) -> None:
    binary = base64.b64encode(b"\x00\xff").decode()
    ended = call(
        tmp_path,
        "--to",
        bridge.address,
        *("-o", "json", "-H", "echo-initial-a: one", "-H", f"echo-trailing-b-bin: {binary}"),
        *("dev.Echo/ServerStream", '{"text": "x", "count": 3}'),
    )
    told = json.loads(ended.stdout)

    assert "" == ended.stderr
    assert "dev.Echo/ServerStream" == told["method"]
    assert ["x", "x", "x"] == [message["text"] for message in told["messages"]]
    assert ["echo-initial-a", "one"] in told["headers"]
    assert ["echo-trailing-b-bin", binary] in told["trailers"]
    assert {"code": 0, "name": "OK", "message": "", "details": []} == told["status"]
    seconds = told["seconds"]
    assert ["described", "headers", "first_message", "status"] == list(seconds)
    assert sorted(seconds.values()) == list(seconds.values())


def test_verbose_says_what_happened_when(bridge: RunningBridge, tmp_path: Path) -> None:
    ended = call(tmp_path, "--to", bridge.address, "-v", "-H", "a: 1", "helloworld.Greeter/SayHello", '{"name": "v"}')

    lines = ended.stderr.splitlines()
    assert "* rpc helloworld.Greeter.SayHello(helloworld.HelloRequest) returns (helloworld.HelloReply)" == lines[0]
    assert "> a: 1" in lines
    assert any(line.startswith("* described after ") for line in lines)
    assert any(line.startswith("* status after ") for line in lines)


def test_details_of_a_status_are_decoded(bridge: RunningBridge, tmp_path: Path) -> None:
    asked = json.dumps({"code": 9, "message": "no", "details": ["one", "two"]})
    ended = call(tmp_path, "--to", bridge.address, "dev.Echo/Fail", asked)

    assert 64 + 9 == ended.returncode
    details = [json.loads(line.removeprefix("detail: ")) for line in ended.stderr.splitlines() if "detail: " in line]
    assert [("type.googleapis.com/google.protobuf.StringValue", text) for text in ("one", "two")] == [
        (detail["@type"], detail["value"]) for detail in details
    ]


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def tls_server(issued: trustme.LeafCert, client_ca: Path | None = None) -> EchoServer:
    pair = (issued.private_key_pem.bytes(), b"".join(part.bytes() for part in issued.cert_chain_pems))
    roots = None if client_ca is None else client_ca.read_bytes()
    return EchoServer(grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None))


SAY = ("talk.Talk/Say", '{"word": "hi"}')


def test_tls_with_an_authority_of_ones_own(authority: trustme.CA, ca: Path, tmp_path: Path) -> None:
    with tls_server(authority.issue_cert("localhost")) as server:
        ended = call(tmp_path, "--to", server.address, "--cacert", str(ca), *SAY)

    assert (0, {"word": "hi"}) == (ended.returncode, json.loads(ended.stdout)), ended.stderr


@pytest.mark.parametrize("kind", ["unknown authority", "expired", "for another host"])
def test_insecure_trusts_any_certificate(tmp_path: Path, kind: str) -> None:
    expired = datetime(2020, 1, 1, tzinfo=UTC) if kind == "expired" else None
    name = "other.example" if kind == "for another host" else "localhost"
    with tls_server(trustme.CA().issue_cert(name, not_after=expired)) as server:
        ended = call(tmp_path, "--to", server.address, "--insecure", *SAY)

    assert (0, {"word": "hi"}) == (ended.returncode, json.loads(ended.stdout or "0")), ended.stderr


def test_a_client_certificate_and_an_authority(authority: trustme.CA, ca: Path, tmp_path: Path) -> None:
    key, certificate = issue_client(authority, common_names=["me"])
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "cert.pem").write_bytes(certificate)
    pair = ("--cert", "cert.pem", "--key", "key.pem")
    with tls_server(authority.issue_cert("other.example"), client_ca=ca) as server:
        shown = call(tmp_path, "--to", server.address, "--cacert", str(ca), "--authority", "other.example", *pair, *SAY)
        relayed = call(tmp_path, "--to", server.address, "--insecure", *pair, *SAY)
        without = call(tmp_path, "--to", server.address, "--cacert", str(ca), "--authority", "other.example", *SAY)

    assert (0, 0) == (shown.returncode, relayed.returncode), (shown.stderr, relayed.stderr)
    assert 1 == without.returncode
    assert "asks for a client certificate" in without.stderr
    assert "give one with --cert FILE --key FILE" in without.stderr


# -- why nothing answers -----------------------------------------------------------------------------------------------


def refused(folder: Path, *arguments: str) -> str:
    ended = call(folder, *arguments, "a.B/C")
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    [line] = ended.stderr.splitlines()
    return line


def test_plaintext_to_tls(authority: trustme.CA, tmp_path: Path) -> None:
    with tls_server(authority.issue_cert("localhost")) as server:
        line = refused(tmp_path, "--to", server.address)

    assert "expects TLS, and this call was in plaintext; add --tls" in line


@pytest.mark.parametrize("flags", [("--tls",), ("--insecure",)])
def test_tls_to_plaintext(bridge: RunningBridge, tmp_path: Path, flags: tuple[str, ...]) -> None:
    assert "speaks gRPC in plaintext, without TLS; leave out --tls" in refused(tmp_path, "--to", bridge.address, *flags)


def test_an_unknown_authority_and_other_certificates(authority: trustme.CA, ca: Path, tmp_path: Path) -> None:
    with tls_server(authority.issue_cert("localhost")) as server:
        unknown = refused(tmp_path, "--to", server.address, "--tls")
        by_address = refused(tmp_path, "--to", server.address.replace("localhost", "127.0.0.1"), "--cacert", str(ca))
    with tls_server(authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))) as server:
        expired = refused(tmp_path, "--to", server.address, "--cacert", str(ca))

    assert "its authority is not known here; name the authority with --cacert FILE, or use --insecure" in unknown
    assert "it is not for 127.0.0.1; --authority NAME" in by_address
    assert "it has expired" in expired


def test_the_admin_port(bridge: RunningBridge, tmp_path: Path) -> None:
    for flags in ((), ("--tls",)):
        assert "is the admin port of a bridge, which takes no calls" in refused(tmp_path, "--to", bridge.admin, *flags)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plaintext", "TLS"])
def test_a_server_of_http_1(authority: trustme.CA, ca: Path, tmp_path: Path, is_tls: bool) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        flags = ("--cacert", str(ca)) if is_tls else ()
        line = refused(tmp_path, "--to", f"localhost:{server.server_address[1]}", *flags)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert "is an HTTP/1.1 server, and gRPC needs HTTP/2" in line


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("http://localhost:50051", "write: --to localhost:50051"),
        ("https://api.example.com/path", "write: --to api.example.com --tls"),
        ("grpcs://api.example.com:443", "write: --to api.example.com:443 --tls"),
        ("localhost", "--to takes HOST:PORT"),
        ("localhost:0", "--to takes HOST:PORT"),
        ("localhost:99999", "--to takes HOST:PORT"),
        ("::1:50051", "--to takes HOST:PORT"),
        ("127.0.0.1:1", "the connection is refused; is the bridge running there?"),
        ("no-such-host.invalid:50051", "no host has the name no-such-host.invalid"),
        ("unix:/nowhere.sock", "there is no such socket"),
    ],
)
def test_an_address_that_leads_nowhere(tmp_path: Path, to: str, words: str) -> None:
    assert words in refused(tmp_path, "--to", to)


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    """A port that accepts and closes at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_all() -> None:
            try:
                while True:
                    listener.accept()[0].close()
            except OSError:
                pass

        thread = threading.Thread(target=close_all, daemon=True)
        thread.start()
        line = refused(tmp_path, "--to", f"127.0.0.1:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert "it does not answer in HTTP/2" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--cert", "a.pem"), "--key is missing"),
        (("--key", "a.pem"), "--cert is missing"),
        (("--cacert", "none.pem"), "--cacert none.pem cannot be read"),
        (("--cacert", "text.pem"), "is not a PEM file"),
        (("--insecure", "--cacert", "text.pem"), "leave out --cacert"),
        (("--target", "local:x", "--tls"), "needs no flags for TLS"),
    ],
)
def test_flags_that_do_not_fit(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    (tmp_path / "text.pem").write_text("no certificate")

    assert words in refused(tmp_path, *flags)
