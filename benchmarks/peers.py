"""The processes that are measured, and the stand-in behind them: started, stopped, nothing more."""

from __future__ import annotations

import base64
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import LOAD_CORE, PROXY_CORE, kept_environ, on_core, python_of

HERE = Path(__file__).parent

ENVOY = "Envoy"
"""The name of the peer that the bridge is compared with."""

SIZES = (64 << 10, 1 << 20, 4 << 20)
"""Bytes of the message, prefix not counted, that a call of bench.SizedN sends and gets."""

_HELLO = b"\n\x0bHello world"
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy to measure."""

    name: str
    port: int
    command: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    answers_grpc: bool = True
    """Whether a gRPC client is content with it: nghttpx makes no trailers."""


class Running:
    """A started process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = name
        self.port = port
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_listening(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while not listens(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not start; see its log")
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Folder:
    """Where the processes find their files and leave their logs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.chmod(0o755)  # nginx gives up being root
        (path / "replies").mkdir()
        for name in ("nginx.conf", "envoy.yaml", "bridge.yaml"):
            (path / name).write_bytes((HERE / name).read_bytes())
        self._write_certificate()
        self._write_replies()

    def _write_certificate(self) -> None:
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
            ],
            cwd=self.path,
            check=True,
            capture_output=True,
        )

    def _write_replies(self) -> None:
        replies = self.path / "replies"
        (replies / "grpc.bin").write_bytes(_enveloped(_HELLO))
        for size in SIZES:
            message = message_of(size)
            web = _enveloped(message) + _enveloped(b"grpc-status:0\r\n", flags=0x80)
            _write_json(replies / f"message-{size}.json", "application/x-protobuf", message)
            _write_json(replies / f"grpc-web-{size}.json", "application/grpc-web+proto", web)
            (self.path / f"body-{size}.bin").write_bytes(_enveloped(message))
        (self.path / "body.bin").write_bytes(_enveloped(b"\n\x05world"))

    def many_services(self, count: int) -> Path:
        """A configuration with so many services beside the usual ones, each a function of its own."""
        arn = "arn:aws:lambda:us-east-1:123456789012:function:greeter"
        lines = [f"  many.Service{number}: {arn}-{number}\n" for number in range(count)]
        path = self.path / f"bridge-{count}.yaml"
        path.write_text((self.path / "bridge.yaml").read_text() + "".join(lines))
        return path

    def body(self, size: int | None = None) -> Path:
        return self.path / ("body.bin" if size is None else f"body-{size}.bin")

    def show_logs(self) -> None:
        """The end of what the processes wrote, before the folder goes."""
        for path in sorted((*self.path.glob("*.log"), *self.path.glob("*.err"))):
            lines = path.read_text(errors="replace").splitlines()
            odd = [line for line in lines if '"code":"OK"' not in line]
            if odd:
                print(f"-- {path.name}", *odd[-20:], sep="\n", file=sys.stderr)


def message_of(size: int) -> bytes:
    """A message that does not compress to nothing."""
    return bytes(range(256)) * (size // 256)


def _enveloped(data: bytes, *, flags: int = 0) -> bytes:
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def _write_json(path: Path, content_type: str, body: bytes) -> None:
    text = base64.b64encode(body).decode()
    path.write_text(
        f'{{"statusCode":200,"headers":{{"content-type":"{content_type}"}},"isBase64Encoded":true,"body":"{text}"}}'
    )


# -- the processes -----------------------------------------------------------------------------------------------------


def envoy(binary: Path) -> Peer:
    """One worker thread. `--base-id` lets others run beside it."""
    arguments = "-c envoy.yaml --concurrency 1 -l error --use-dynamic-base-id"
    return Peer(ENVOY, 7100, (str(binary), *arguments.split()))


def nghttpx() -> Peer:
    """HTTP/2 in, HTTP/1.1 out, no signing, no change of the body: about the floor for any proxy."""
    arguments = (
        "-f127.0.0.1,7102;no-tls -b127.0.0.1,7202 --workers=1 --single-process --conf=/dev/null --log-level=ERROR"
    )
    return Peer("nghttpx", 7102, ("nghttpx", *arguments.split()), answers_grpc=False)


def bridge(interpreter: Path, config: str = "bridge.yaml", *, number: int = 0) -> Peer:
    """The command as users start it. `number`: others run beside it."""
    port = 7110 + number
    environ = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": "cert.pem",
    }
    command = (
        *(str(interpreter), "-m", "bridge", "serve", "-c", config),
        *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{port + 50}"),
    )
    return Peer(f"bridge, {python_of(interpreter)}", port, command, environ)


def start(peer: Peer, folder: Folder) -> Running:
    """On the proxies' core; it may not listen yet."""
    return _launch(peer.name, peer.command, peer.port, folder, PROXY_CORE, peer.environ)


def _launch(
    name: str,
    command: tuple[str, ...],
    port: int,
    folder: Folder,
    core: int,
    environ: dict[str, str] | None = None,
) -> Running:
    if listens(port):
        raise RuntimeError(f"something listens on port {port} already: {name} needs it")
    log = (folder.path / f"{command[0].rpartition('/')[2]}-{port}.log").open("ab")
    with log:
        process = subprocess.Popen(
            on_core(core, *command),
            cwd=folder.path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**kept_environ(), **(environ or {})},
        )
    return Running(name, process, port)


@contextmanager
def serving(folder: Folder, *peers: Peer) -> Iterator[list[Running]]:
    """All of them, listening, until the block ends."""
    started: list[Running] = []
    try:
        for peer in peers:
            started.append(start(peer, folder))  # noqa: PERF401 - those before one that fails must be stopped
        for running in started:
            running.wait_until_listening()
        yield started
    finally:
        for running in started:
            running.stop()


@contextmanager
def stand_in(folder: Folder) -> Iterator[None]:
    """The Lambda API, on the load's core."""
    command = ("nginx", "-p", f"{folder.path}/", "-c", "nginx.conf", "-e", "nginx.err")
    running = _launch("the stand-in (nginx)", command, 7200, folder, LOAD_CORE)
    try:
        running.wait_until_listening()
        yield
    finally:
        running.stop()
