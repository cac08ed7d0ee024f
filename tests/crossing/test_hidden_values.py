"""What `${…}` put into the configuration stands in no message and no log line, although servers quote what they were
sent.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.bridge_process import plain_environment, running_bridge
from tests.support.byte_methods import unary_unary

pytestmark = pytest.mark.slow

KEY, PREFIX, PASSWORD = "s3cr3t-key/+", "secret-prefix", "swordfish"


class Quoting(http.server.BaseHTTPRequestHandler):
    """Refuses every request, and quotes it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = f"no {self.headers['x-api-key']} at {self.path}, nor {'x' * 100}{KEY}{KEY}".encode()
        self.send_response(401)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quoting)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_servers_and_functions_may_quote_what_they_like(port: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os\ndef handler(event, context): raise ValueError('wrong password ' + os.environ['PASSWORD'])\n"
    )
    config = {
        "services": {
            "web.S": {"target": f"http://127.0.0.1:{port}/${{PREFIX}}", "headers": {"x-api-key": "Bearer ${KEY}"}},
            "fn.S": "local:f",
        },
        "functions": {"f": {"handler": "app.handler", "env": {"PASSWORD": "${PASSWORD}"}}},
    }
    environ = plain_environment() | {"KEY": KEY, "PREFIX": PREFIX, "PASSWORD": PASSWORD}
    with running_bridge(tmp_path, config, environ=environ) as bridge:
        said = []
        with grpc.insecure_channel(bridge.address) as channel:
            for path in ("/web.S/Do", "/fn.S/Do"):
                with pytest.raises(grpc.RpcError) as caught:
                    unary_unary(channel, path)(b"", timeout=20)
                said.append(str(caught.value.details()))
        bridge.stop()
    # What a local function prints is its own.
    lines = "\n".join([line for line in bridge.lines if '"function.f"' not in line])

    assert said[0].startswith("the function answered HTTP 401: no Bearer [hidden] at /[hidden]/web.S/Do, nor xxx")
    assert "f failed: ValueError: wrong password [hidden]" == said[1]
    for value in (KEY, KEY[:6], PASSWORD):
        assert value not in lines + "".join(said)
    assert PREFIX not in "".join(said)
