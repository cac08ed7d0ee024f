"""A stand-in for STS: AssumeRole, with a key for each role, remembering who asked for what."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

_GIVEN = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser>
<AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/x/x</Arn></AssumedRoleUser><Credentials>
<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token-{key}</SessionToken>
<Expiration>{expiration:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials></AssumeRoleResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"""

_REFUSED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>not authorized to perform: sts:AssumeRole</Message></Error><RequestId>1</RequestId></ErrorResponse>"""


class Sts:
    """`asked` holds the parameters of each AssumeRole, with the caller's `Authorization` beside them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.lives = timedelta(hours=1)
        self.refuses: set[str] = set()
        """ARNs of roles that may not be assumed."""
        self.url = ""

    def answer(self, asked: dict[str, str]) -> tuple[int, str]:
        self.asked.append(asked)
        if asked["RoleArn"] in self.refuses:
            return 403, _REFUSED
        key = f"ASIA{asked['RoleArn'].rpartition('/')[2].upper()}{len(self.asked)}"
        return 200, _GIVEN.format(key=key, expiration=datetime.now(UTC) + self.lives)


@contextmanager
def fake_sts() -> Iterator[Sts]:
    sts = Sts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            asked = {name: values[0] for name, values in parse_qs(body).items()}
            asked["Authorization"] = self.headers["authorization"]
            status, text = sts.answer(asked)
            self.send_response(status)
            self.send_header("content-type", "text/xml")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    sts.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield sts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
