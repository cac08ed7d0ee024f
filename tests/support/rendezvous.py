"""A bridge as the function's side of full duplex sees it: it waits for the function's connection, and lets any gRPC
client talk over it.

The client connects to a port here; its bytes go to the function over the connection that the function opened.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme

from lambda_fn.duplex.copying import copy
from lambda_fn.duplex.order import KEY
from tests.support.lambda_channel import http_v2_event

MAX_LINE = 256


class Rendezvous:
    """Listens on loopback for one function, and on another port for clients of it."""

    def __init__(self, certificate: trustme.LeafCert | None = None) -> None:
        self.token = secrets.token_urlsafe(32)
        self._certificate = certificate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._client_port = int(self._clients.getsockname()[1])
        self.line = b""
        self.attached = threading.Event()
        self.ended = threading.Event()
        self._connection: socket.socket | None = None

    @property
    def address(self) -> str:
        """For gRPC clients, once the function is attached."""
        return f"127.0.0.1:{self._client_port}"

    def event(self, **changes: Any) -> dict[str, Any]:
        """The event with the order. `changes` replace what it says."""
        tls = (
            None
            if self._certificate is None
            else {"certificate": self._certificate.cert_chain_pems[0].bytes().decode()}
        )
        order = {
            "version": 1,
            "address": f"127.0.0.1:{self.port}",
            "token": self.token,
            "tls": tls,
            "attachSeconds": 5.0,
            "calls": 10,
        }
        event = http_v2_event("/grpc-lambda-bridge.duplex.v1/attach", b"")
        return event | {KEY: order | changes}

    def serve(self) -> None:
        """Take the function's connection and its line, then one client's connection, and copy between them."""
        try:
            raw, _ = self._listener.accept()
            connection = raw if self._certificate is None else self._context().wrap_socket(raw, server_side=True)
            self._connection = connection
            line = b""
            while not line.endswith(b"\n") and len(line) < MAX_LINE:
                line += connection.recv(1)
            self.line = line
            self.attached.set()
            client, _ = self._clients.accept()
            copy(client, connection, lambda: None)
        except OSError:
            return
        finally:
            self.ended.set()

    def drop(self) -> None:
        """Go away as a bridge that is killed does."""
        if self._connection is not None:
            self._connection.close()
        self.close()

    def close(self) -> None:
        for each in (self._listener, self._clients):
            each.close()

    def _context(self) -> ssl.SSLContext:
        assert self._certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        return context


REQUEST = ("grpc-lambda-bridge-request", "request-1")
"""The metadata entry with the invocation's request id, as the bridge sends it."""


def facts_of(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The metadata entry with a client's facts, as the bridge sends it."""
    text = base64.urlsafe_b64encode(json.dumps(facts).encode()).rstrip(b"=").decode()
    return "grpc-lambda-bridge-facts", text


class Attached:
    """A handler that follows the order of a rendezvous, in a thread as Lambda's runtime has one."""

    def __init__(self, handler: Any, rendezvous: Rendezvous, context: Any, event: dict[str, Any]) -> None:
        self.rendezvous = rendezvous
        self.reply: Any = None
        self._bridge = threading.Thread(target=rendezvous.serve, daemon=True)
        self._function = threading.Thread(target=self._run, args=(handler, event, context), daemon=True)
        self._bridge.start()
        self._function.start()

    @property
    def address(self) -> str:
        return self.rendezvous.address

    def _run(self, handler: Any, event: dict[str, Any], context: Any) -> None:
        self.reply = handler(event, context)

    def finish(self, timeout: float = 30.0) -> Any:
        """The invocation's reply, once the function has returned."""
        self._function.join(timeout)
        assert not self._function.is_alive(), "the function does not return"
        return self.reply


@contextmanager
def attached(handler: Any, context: Any = None, *, folder: Path | None = None) -> Iterator[Attached]:
    """The handler, attached to a rendezvous. With `folder`, over TLS."""
    certificate = None if folder is None else trustme.CA().issue_cert("bridge.internal")
    rendezvous = Rendezvous(certificate)
    found = Attached(handler, rendezvous, context, rendezvous.event())
    try:
        assert rendezvous.attached.wait(30), found.reply
        yield found
    finally:
        rendezvous.drop()
        found.finish()
